"""Weights as other training code saves them: state dicts alone, in other containers, under prefixes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from alpharefine import Refiner
from alpharefine.checkpoints.backbone import load_backbone_weights
from alpharefine.checkpoints.loading import load_checkpoint
from alpharefine.cli import export
from alpharefine.errors import UserError
from alpharefine.models import AlphaRefineNet, NetworkConfig, build_backbone

State = dict[str, Tensor]


def network(*args: Any, **kwargs: Any) -> AlphaRefineNet:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return AlphaRefineNet(NetworkConfig(*args, **kwargs))


@pytest.fixture(scope="module")
def state() -> State:
    return network("resnet18", ("corner",)).state_dict()


def prefixed(prefix: str) -> Callable[[State], State]:
    return lambda state: {f"{prefix}{name}": value for name, value in state.items()}


CONTAINERS = {
    "bare": lambda state: state,
    "module.": prefixed("module."),
    "compiled and parallel": prefixed("_orig_mod.module."),
    "of the task": prefixed("network."),
    "of the task in parallel": prefixed("module.network.module."),
    "averaged": lambda state: {"n_averaged": torch.tensor(3), **prefixed("module.")(state)},
    "net": lambda state: {"net": state, "epoch": 3},
    "model": lambda state: {"model": prefixed("module.")(state), "optimizer": {}},
    "state_dict": lambda state: {"state_dict": state, "hyper_parameters": {"lr": 1}},
    "without counters": lambda state: {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_network_is_recognized_in_every_container(tmp_path: Path, state: State, container: str) -> None:
    path = tmp_path / "weights.pth"
    torch.save(CONTAINERS[container](state), path)
    loaded = load_checkpoint(path)
    assert loaded.network.config == NetworkConfig("resnet18", ("corner",))
    assert all(torch.equal(value, state[name]) for name, value in loaded.network.state_dict().items() if value.dim())
    for name, others in {
        "geometry": "original|original_window",
        "neck": "pixel_gate_first",
        "corner_head": "towers_256",
    }.items():
        assert (
            f"assuming {name}={getattr(loaded.network.config, name)} (`--{name} {others}` overrides it)"
            in loaded.doubts
        )
    with pytest.warns(UserWarning, match="assuming geometry=exact"):
        Refiner.from_checkpoint(path, device="cpu")


def test_safetensors_without_a_header_are_recognized(tmp_path: Path, state: State) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({f"module.{name}": value.contiguous() for name, value in state.items()}, path)
    loaded = load_checkpoint(path, geometry="original", neck="pixel_gate_first", corner_head="towers_256")
    assert loaded.network.config == NetworkConfig(
        "resnet18", ("corner",), "pixel_gate_first", "towers_256", geometry="original"
    )
    assert loaded.doubts == ""


@pytest.mark.parametrize(
    "config",
    [
        NetworkConfig("mobilenet_v3_small", ("mask",), mask_head="simple"),
        NetworkConfig("efficientnet_b0", ("corner", "mask"), "naive", "rpn"),
        NetworkConfig("mobilenet_v2", ("corner",), "depthwise", "box_conv_narrow", spatial_attention="convolutions"),
        NetworkConfig("resnet34", ("corner",), "pixel", "shared_tower", spatial_attention="non_local"),
        NetworkConfig("resnet18", corner_head="shared_tower", quality_head="convolutions"),
    ],
    ids=str,
)
def test_every_part_is_recognized(tmp_path: Path, config: NetworkConfig) -> None:
    path = tmp_path / "weights.pth"
    torch.save(AlphaRefineNet(config).state_dict(), path)
    loaded = load_checkpoint(path)
    assert loaded.network.config == config
    assert ("corner_head" in loaded.doubts) == ("neck=naive" in loaded.doubts) is False


@pytest.mark.parity
@pytest.mark.parametrize("container", ["bare", "module.", "net"])
def test_the_authors_names_are_recognized(tmp_path: Path, shared: Path, container: str) -> None:
    from tests.models.golden import golden_state

    path = tmp_path / "weights.pth"
    torch.save(CONTAINERS[container](golden_state(shared / "golden", "ar18_cm")), path)
    loaded = load_checkpoint(path)
    assert loaded.network.config == NetworkConfig("resnet18", geometry="original")
    assert "network from its parameter names" in loaded.description
    assert "assuming neck=pixel (`export --neck pixel_gate_first` overrides it)" in loaded.doubts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {"net": s, "model": s}, r"holds several state dicts \(net, model\)"),
        (lambda s: {**s, **prefixed("module.")(s)}, r"`\S+` is present under two names"),
        (lambda s: {**s, "epoch": 3}, "must hold named tensors and nothing else, got 'epoch' with a int"),
        (lambda s: {k: v for k, v in s.items() if "head" not in k}, "it holds no head"),
        (lambda s: {**s, "decoder.weight": torch.zeros(1)}, r"`decoder\.weight` is not a parameter of a refinement"),
        (
            lambda s: {k: v for k, v in s.items() if k != "neck.gate.squeeze.bias"},
            r"parameters `neck\.` are not those of a .* pixel none \(1 missing, such as gate\.squeeze\.bias",
        ),
        (
            lambda s: {**s, "corner_head.top_left.4.bias": torch.zeros(7)},
            r"`corner_head\.`.*closest to towers \(1 of another shape, such as top_left\.4\.bias \(7,\) in place",
        ),
    ],
)
def test_other_state_dicts_are_refused(tmp_path: Path, state: State, change: Any, message: str) -> None:
    path = tmp_path / "other.pth"
    torch.save(change(state), path)
    with pytest.raises(UserError, match=rf"^`--init_from`: .*other\.pth.*{message}") as caught:
        load_checkpoint(path, option="--init_from")
    assert "\n" not in str(caught.value)


def test_a_geometry_is_recorded_by_export(tmp_path: Path, state: State, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "bare.pth", tmp_path / "out.safetensors"
    torch.save(state, source)
    export.main(["--ckpt", str(source), "--format", "safetensors", "--output", str(out), "--geometry", "original"])
    printed = capsys.readouterr().out
    assert "assuming neck=pixel" in printed
    assert "assuming geometry" not in printed
    assert load_checkpoint(out).network.config.geometry == "original"


# ---- backbones -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("container", "prefix"),
    [
        *((name, "") for name in CONTAINERS if "task" not in name),
        *(("module.", f"{part}.") for part in ("backbone", "feature_extractor")),
        ("of the task", "backbone."),
    ],
)
def test_a_backbone_is_taken_from_every_container(tmp_path: Path, state: State, container: str, prefix: str) -> None:
    path, part = tmp_path / "weights.pth", "backbone."
    weights = {f"{prefix}{k.removeprefix(part)}": v for k, v in state.items() if k.startswith(part)}
    others = {"corner_head.bias": torch.zeros(1)} if prefix else {"fc.bias": torch.zeros(1000)}
    torch.save(CONTAINERS[container](weights | others), path)
    backbone = build_backbone("resnet18")
    load_backbone_weights(backbone, "resnet18", str(path))
    assert torch.equal(backbone.conv1.weight, state["backbone.conv1.weight"])


# ---- values that are not finite ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path, state: State, value: float) -> None:
    path, bad = tmp_path / "diverged.pth", dict(state)
    for name in ("backbone.layer1.0.conv1.weight", "neck.gate.squeeze.bias"):
        bad[name] = bad[name].clone(memory_format=torch.contiguous_format)
        bad[name].view(-1)[1] = value
    torch.save(bad, path)
    expected = r"diverged\.pth: 1 of 36,864 values of `{}layer1\.0\.conv1\.weight` are not finite"
    with pytest.raises(UserError, match=r"^`--ckpt`: .*" + expected.format(r"backbone\.")):
        load_checkpoint(path)
    with pytest.raises(UserError, match=r"^`backbone_weights`: .*" + expected.format("")):
        load_backbone_weights(build_backbone("resnet18"), "resnet18", str(path))


def test_weights_that_overflow_are_refused(tmp_path: Path, state: State) -> None:
    path = tmp_path / "doubles.pth"
    torch.save(state | {"neck.gate.squeeze.bias": torch.full((16,), 1e300, dtype=torch.float64)}, path)
    with pytest.raises(UserError, match=r"16 of 16 values of `neck\.gate\.squeeze\.bias` are not finite"):
        load_checkpoint(path)
