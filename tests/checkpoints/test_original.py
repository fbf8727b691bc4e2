"""Checkpoints of the authors' code, in the format of its own routine."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from alpharefine import Refiner
from alpharefine.checkpoints.files import read_torch_file
from alpharefine.checkpoints.loading import load_checkpoint
from alpharefine.checkpoints.original import build_original
from alpharefine.cli import export, train
from alpharefine.errors import UserError
from alpharefine.models import BackboneName, NetworkConfig
from datamodules import PairDataModule
from tests.golden.make_weights import golden_state_dict
from tests.models.golden import golden_state
from tests.training_runs import SMALL, arguments, run

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    return shared / "golden"


@pytest.fixture(scope="module")
def writer(golden: Path) -> ModuleType:
    """Script that writes such files."""
    sys.path.insert(0, str(golden))
    spec = importlib.util.spec_from_file_location("make_original_checkpoint", golden / "make_original_checkpoint.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(str(golden))
    return module


def shapes(golden: Path, name: str) -> dict[str, list[int]]:
    variants: dict[str, dict[str, list[int]]] = json.loads((golden / "variants.json").read_text())
    found: dict[str, list[int]] = (
        variants[name] if name in variants else json.loads((golden / f"{name}.json").read_text())
    )
    return found


@pytest.fixture(scope="module")
def released(writer: ModuleType, golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("released") / "SEcmnet_ep0040-c.pth.tar"
    writer.write(path, shapes(golden, "ar34_cm"), location="cuda:0")
    return path


def refined(refiner: Refiner, golden: Path, case: int) -> tuple[np.ndarray, np.ndarray]:
    with np.load(golden / "refine_original.npz") as arrays:
        frames = [arrays[f"frame_{arrays[name][case]}"] for name in ("template_frame", "frame")]
        refiner.initialize(frames[0], arrays["template_box"][case])
        return refiner.refine(frames[1], arrays["box"][case]).box_xywh, arrays["refined_clipped"][case]


@pytest.mark.parametrize(
    ("fmt", "more"),
    [("legacy", {}), ("zip", {"dlframework": True}), ("legacy", {"optimizer": "id"}), ("zip", {"optimizer": "none"})],
)
def test_a_released_file_refines_to_the_originals_boxes(
    writer: ModuleType, golden: Path, tmp_path: Path, fmt: str, more: dict[str, Any]
) -> None:
    path = tmp_path / "SEcmnet_ep0040-c.pth.tar"
    writer.write(path, shapes(golden, "ar34_cm"), fmt=fmt, location="cuda:0", **more)
    modules = set(sys.modules)
    refiner = Refiner.from_checkpoint(path, device="cpu")
    assert not {name for name in set(sys.modules) - modules if name.startswith(("ltr", "dlframework"))}
    for case in (0, 9):
        np.testing.assert_allclose(*refined(refiner, golden, case), atol=5e-3)


def test_ar18(writer: ModuleType, golden: Path, tmp_path: Path) -> None:
    path = tmp_path / "ar18.pth.tar"
    writer.write(path, shapes(golden, "ar18_cm"), constructor="ltr.models.SEcm_r18:SEcm_resnet18")
    network, description, doubts = load_checkpoint(path)
    assert network.config == original_config("resnet18")
    assert "network from its parameter names (unknown constructor SEcm_r18:SEcm_resnet18)" in description
    assert "assuming neck=pixel (`export --neck pixel_gate_first` overrides it)" in doubts
    assert "assuming corner_head=towers (`export --corner_head towers_256` overrides it)" in doubts
    with pytest.warns(UserWarning, match=r"ar18\.pth\.tar: Ambiguous checkpoint: assuming neck=pixel"):
        Refiner.from_checkpoint(path, device="cpu")
    state = golden_state(golden, "ar18_cm")
    assert torch.equal(network.state_dict()["backbone.conv1.weight"], state["feature_extractor.conv1.weight"])


def original_config(backbone: BackboneName, **changed: Any) -> NetworkConfig:
    return NetworkConfig(backbone, geometry="original", **changed)


@pytest.mark.parametrize(
    ("variant", "constructor", "changed"),
    [
        ("att", "SE_other.SEcm_r34_Att", {"neck": "pixel_gate_first"}),
        ("naive", "SE_other.SEcm_r34_naive", {"neck": "naive", "spatial_attention": "non_local"}),
        ("dw256", "SE_other.SEcm_r34_dwcorr", {"neck": "depthwise", "spatial_attention": "non_local"}),
        ("ex", "SEex.SEex_r34", {"corner_head": "extreme"}),
        ("rpn", "SEx_beta.SErpnm_r34", {"corner_head": "rpn"}),
        ("c", "SE_other.SEc_r34", {"heads": ("corner",)}),
        ("m", "SE_other.SEm_r34", {"heads": ("mask",)}),
        ("corner2", "somebodys.own", {"corner_head": "shared_tower"}),
        ("simplemask", "somebodys.own", {"mask_head": "simple"}),
    ],
)
def test_variants(
    writer: ModuleType, golden: Path, tmp_path: Path, variant: str, constructor: str, changed: dict[str, object]
) -> None:
    path = tmp_path / "variant.pth.tar"
    writer.write(path, shapes(golden, variant), constructor=f"ltr.models.{constructor}:make")
    loaded = load_checkpoint(path)
    assert loaded.network.config == original_config("resnet34", **changed)
    assert bool(loaded.doubts) == (constructor == "somebodys.own")


UNKNOWN = "ltr.models.SEcm_r18:SEcm_resnet18"
OF_NORM = ("weight", "bias", "running_mean", "running_var")


def attention_names(golden: Path, kind: str) -> dict[str, list[int]]:
    """Parameters of a neck that ends in a non-local block, or in three 1x1 convolutions as in older code."""
    prefix = "neck.spatial_attention."
    if kind == "non_local":
        return {name: shape for name, shape in shapes(golden, "naive").items() if name.startswith(prefix)}
    convolutions = {f"{prefix}{i}.{name}": [64, 64, 1, 1] if name == "weight" else [64]
                    for i in (0, 3, 6) for name in ("weight", "bias")}  # fmt: skip
    norms = {f"{prefix}{i}.{name}": [64] for i in (1, 4, 7) for name in OF_NORM}
    return convolutions | norms | {f"{prefix}{i}.num_batches_tracked": [] for i in (1, 4, 7)}


@pytest.mark.parametrize(
    ("kind", "ours", "theirs"), [("non_local", "query", "theta"), ("convolutions", "layers.3", "3")]
)
def test_pixel_correlation_that_ends_in_an_attention_as_in_older_code(
    writer: ModuleType, golden: Path, tmp_path: Path, kind: str, ours: str, theirs: str
) -> None:
    path, names = tmp_path / "older.pth.tar", shapes(golden, "ar18_cm") | attention_names(golden, kind)
    writer.write(path, names, constructor=UNKNOWN)
    network, _, doubts = load_checkpoint(path)
    assert network.config == original_config("resnet18", spatial_attention=kind)
    assert "assuming a template cut from the feature map" in doubts
    state = golden_state_dict(names)
    found = network.state_dict()[f"neck.attention.{ours}.weight"]
    assert torch.equal(found, state[f"neck.spatial_attention.{theirs}.weight"])


def test_the_non_local_block_is_checked_against_the_arguments_of_the_constructor(
    writer: ModuleType, golden: Path, tmp_path: Path
) -> None:
    names = shapes(golden, "ar34_cm")
    for present, given, agree in [(1, None, 0), (1, True, 1), (1, False, 0), (0, True, 0), (0, False, 1)]:
        path = tmp_path / "given.pth.tar"
        writer.write(path, names | (attention_names(golden, "non_local") if present else {}), optimizer="none")
        content = read_torch_file(path)
        if given is not None:
            content["constructor"].kwds["use_NL"] = given
        if agree:
            expected = "non_local" if present else "none"
            assert build_original(content, content["net"], "x").network.config.spatial_attention == expected
        else:
            with pytest.raises(UserError, match="SEcm_r34:SEcm_resnet34 builds a network with spatial_attention"):
                build_original(content, content["net"], "x")


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", ["legacy", "zip"])
@pytest.mark.parametrize(
    ("kind", "asked"), [("call", r"exec"), ("nested", r"torch\.storage\._load_from_bytes"), ("method", r"getattr")]
)
def test_malicious_files(writer: ModuleType, golden: Path, tmp_path: Path, fmt: str, kind: str, asked: str) -> None:
    path, marker = tmp_path / "bad.pth.tar", tmp_path / "marker"
    writer.write(path, shapes(golden, "ar18_cm"), fmt=fmt, malicious=str(marker), malicious_kind=kind)
    with pytest.raises(UserError, match=rf"bad\.pth\.tar asks for '\S*{asked}', .* it may be malicious"):
        load_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize("part", [0.3, 0.9, 0.9999])
def test_a_file_that_is_cut_short(released: Path, tmp_path: Path, part: float) -> None:
    path = tmp_path / "short.pth.tar"
    data = released.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(UserError, match=r"short\.pth\.tar is damaged or holds something else") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_parameters_of_another_network_than_the_constructors(writer: ModuleType, golden: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.pth.tar"
    writer.write(path, shapes(golden, "c"))
    with pytest.raises(
        UserError, match=r"constructor SEcm_r34:\w+ builds .* heads \('corner', 'mask'\), .*with \('corner',\)"
    ):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "constructor", ["SEx_beta.SEcm_r34:SEcm_resnet34", "SEx_beta.SEcm_r34:make", "own:my_resnet34"]
)
def test_another_backbone_than_the_constructors(
    writer: ModuleType, golden: Path, tmp_path: Path, constructor: str
) -> None:
    path = tmp_path / "other.pth.tar"
    writer.write(path, shapes(golden, "ar18_cm"), constructor=f"ltr.models.{constructor}")
    with pytest.raises(UserError, match=r"builds a network with backbone 'resnet34', .* one with 'resnet18'"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda names: names.pop("neck.channel_attention.fc1.bias"), r"Missing key.*neck\.gate\.squeeze\.bias"),
        (
            lambda names: names.update({"neck.more.weight": [3]}),
            r"`neck\.more\.weight` is not a parameter of its network",
        ),
        (
            lambda names: names.update({"neck.spatial_attention.0.weight": [64, 64, 1, 1]}),
            r"Missing.*attention\.layers",
        ),
        (lambda names: names.update({"neck.spatial_attention.g.weight": [3]}), r"`neck\.spatial_attention\.g\.weight`"),
        (lambda names: names.update({"feature_extractor.layer4.2.conv1.weight": [3]}), r"Unexpected.*layer4\.2\.conv1"),
        (lambda names: names.update({"feature_extractor.fc.0.weight": [3]}), r"Unexpected.*backbone\.fc\.0"),
        (lambda names: names.update({"feat_adjust.0.2.weight": [3]}), r"Unexpected.*adjust_conv1\.2\.weight"),
    ],
    ids=["missing", "unknown", "part of a neck", "of no neck", "layer4 of ResNet-34", "fc", "adjusting layer"],
)
def test_missing_and_unknown_parameters(
    writer: ModuleType, golden: Path, tmp_path: Path, change: Any, message: str
) -> None:
    path, names = tmp_path / "other.pth.tar", shapes(golden, "ar18_cm")
    change(names)
    writer.write(path, names, constructor=UNKNOWN)
    with pytest.raises(UserError, match=message):
        load_checkpoint(path)


def test_adjusting_layers_that_nothing_uses_have_their_names_checked(
    writer: ModuleType, golden: Path, tmp_path: Path
) -> None:
    path = tmp_path / "other.pth.tar"
    writer.write(path, shapes(golden, "c") | {"feat_adjust.1.2.bias": [4]}, constructor="ltr.SE_other.SEc_r34:make")
    with pytest.raises(UserError, match=r"`feat_adjust\.1\.2\.bias` is not a parameter of its network"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "net",
    [
        {},
        {1: torch.zeros(2)},
        {"neck.adjust_layer.0.bias": torch.zeros(2), "mask_head.v0.0.bias": torch.zeros(2)},
        {"neck.adjust_layer.0.weight": torch.zeros(2), "mask_head.v0.0.bias": torch.zeros(2)},
        {"bbox_head.avgpool.0.weight": torch.zeros(2)},
        {"bbox_head.fc.0.weight": torch.zeros(2), "bbox_head.fc.weight": torch.zeros(2)},
        [1],
    ],
    ids=lambda net: ",".join(map(str, net)),
)
def test_nothing_that_a_file_holds_ends_in_a_traceback(tmp_path: Path, net: Any) -> None:
    path = tmp_path / "odd.pth.tar"
    torch.save({"net": net, "net_type": "SEcmnet", "constructor": None}, path)
    with pytest.raises(UserError, match=r"^`--ckpt`: .*odd\.pth\.tar") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_torch_file_by_the_name_of_another_kind(released: Path, tmp_path: Path) -> None:
    path = tmp_path / "named.safetensors"
    path.write_bytes(released.read_bytes())
    assert load_checkpoint(path).network.geometry == "original"


# ---- conversion ----------------------------------------------------------------------------------------------------


def to_weights(source: Path, out: Path, *options: str) -> None:
    export.main(["--ckpt", str(source), "--format", "safetensors", "--output", str(out), *options])


def test_a_converted_file_refines_alike(released: Path, golden: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "ar34.safetensors"
    to_weights(released, out)
    printed = capsys.readouterr().out
    assert "the authors' code: SEcmnet, epoch 40, network from its constructor SEcm_r34:SEcm_resnet34\n" in printed
    assert "backbone resnet34, heads corner+mask, neck pixel, corner_head towers, mask_head pyramid, geo" in printed
    found, expected = refined(Refiner.from_checkpoint(out, device="cpu"), golden, 0)
    np.testing.assert_allclose(found, expected, atol=5e-3)
    again, _ = refined(Refiner.from_checkpoint(released, device="cpu"), golden, 0)
    np.testing.assert_array_equal(found, again)
    exact, _ = refined(Refiner.from_checkpoint(out, device="cpu", geometry="exact"), golden, 0)
    assert np.abs(exact - found).max() > 0.1
    with pytest.raises(UserError, match="exists, and is not overwritten"):
        to_weights(released, out)
    with pytest.raises(UserError, match="nowhere must be an existing folder"):
        to_weights(released, tmp_path / "nowhere" / "a.safetensors")


def test_ambiguous_parts_can_be_given(writer: ModuleType, golden: Path, tmp_path: Path, capsys) -> None:
    path, out = tmp_path / "own.pth.tar", tmp_path / "own.safetensors"
    writer.write(path, shapes(golden, "att"), constructor="somebodys.own:make", optimizer="none")
    with pytest.raises(
        UserError, match=r"does not hold the weights of a network with neck naive, but of one with backbone"
    ):
        to_weights(path, out, "--neck", "naive")
    to_weights(path, out)
    assert "Ambiguous checkpoint: assuming neck=pixel" in capsys.readouterr().out
    out.unlink()
    to_weights(path, out, "--neck", "pixel_gate_first", "--corner_head", "towers_256")
    printed = capsys.readouterr().out
    assert "Ambiguous" not in printed
    assert "neck pixel_gate_first" in printed
    expected = original_config("resnet34", neck="pixel_gate_first", corner_head="towers_256")
    assert load_checkpoint(out).network.config == expected


def test_training_starts_from_a_released_file(released: Path, data_root: Path, tmp_path: Path, not_fitted: Any) -> None:
    options = {"init_from": released, "model__backbone": "resnet34", "model__heads": "[corner]"}
    train.main(arguments(data_root, tmp_path, **options))
    ((task, *_),) = not_fitted
    assert task.network.config == NetworkConfig(heads=("corner",))
    state = load_checkpoint(released).network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in task.network.state_dict().items())


def test_a_released_file_is_validated_in_its_geometry(
    released: Path, data_root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    geometries = []
    load = PairDataModule.val_dataloader
    monkeypatch.setattr(
        PairDataModule,
        "val_dataloader",
        lambda self: geometries.append(self.geometry) or load(self),  # type: ignore[func-returns-value]
    )
    train.main(
        ["validate", f"--config={SMALL}", f"--data.root={data_root}", f"--ckpt_path={released}", "--data.val_pairs=1"]
    )
    assert geometries == ["original"]
    printed = capsys.readouterr().out
    assert printed.startswith(f"{released}: checkpoint of the authors' code: SEcmnet, epoch 40")
    assert "\nval/iou 0." in printed


def test_the_command_refuses_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.pth.tar").write_text("hello")
    arguments = ["--ckpt", "text.pth.tar", "--format", "safetensors", "--output", "out.safetensors"]
    done = run("-m", "alpharefine.cli", "export", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: `--ckpt`: text.pth.tar is cut short or no checkpoint at all")
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["text.pth.tar"]
