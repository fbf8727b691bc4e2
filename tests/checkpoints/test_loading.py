"""Loading of checkpoints: the saved network, and errors for other files."""

from __future__ import annotations

import json
import pickle
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from alpharefine.checkpoints.exported import save_exported
from alpharefine.checkpoints.loading import load_checkpoint
from alpharefine.errors import UserError
from alpharefine.models import AlphaRefineNet
from alpharefine.training.task import RefineTask


def assert_same_weights(network: AlphaRefineNet, other: AlphaRefineNet) -> None:
    ours, theirs = network.state_dict(), other.state_dict()
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


@pytest.fixture(scope="module")
def task() -> RefineTask:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return RefineTask(backbone="resnet18", heads=("corner",), backbone_weights=None)


@pytest.fixture(scope="module")
def saved(task: RefineTask) -> dict[str, Any]:
    return {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams), "epoch": 3}


# ---- what train.py writes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "heads"), [("resnet18", ("mask",)), ("resnet18", ["mask", "corner"]), ("resnet34", ("corner",))]
)
def test_the_hyperparameters_alone_rebuild_the_network(tmp_path: Path, backbone: Any, heads: Any) -> None:
    task = RefineTask(backbone, heads, backbone_weights=None)
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams)}, path)
    network = load_checkpoint(str(path)).network
    assert set(network.heads) == set(heads)
    assert not network.training
    assert_same_weights(network, task.network)


def test_the_networks_own_parameters_alone_count(tmp_path: Path, saved: dict[str, Any], task: RefineTask) -> None:
    path = tmp_path / "a.ckpt"
    torch.save(saved | {"state_dict": {**saved["state_dict"], "average.corner_head": torch.zeros(3)}}, path)
    assert_same_weights(load_checkpoint(path).network, task.network)


def test_low_precision_weights_are_taken_up_in_32_bits(tmp_path: Path, saved: dict[str, Any]) -> None:
    path = tmp_path / "a.ckpt"
    state = {name: value.half() if value.is_floating_point() else value for name, value in saved["state_dict"].items()}
    torch.save(saved | {"state_dict": state}, path)
    assert {value.dtype for value in load_checkpoint(path).network.parameters()} == {torch.float32}


def test_exported_files_keep_their_header(tmp_path: Path, task: RefineTask) -> None:
    path = tmp_path / "a.safetensors"
    save_exported(task.network, path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["alpharefine"])
    assert header == {
        "format": 1,
        "parts": {
            "backbone": "resnet18",
            "heads": ["corner"],
            "neck": "pixel",
            "corner_head": "towers",
            "mask_head": "pyramid",
            "geometry": "exact",
            "spatial_attention": "none",
            "quality_head": "none",
        },
    }
    loaded = load_checkpoint(path)
    assert loaded.network.config == task.network.config
    assert_same_weights(loaded.network, task.network)


# ---- what it does not write ----------------------------------------------------------------------------------------


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


Change = Callable[[dict[str, Any]], Any]


def with_state(**changes: Any) -> Change:
    return lambda saved: saved | {"state_dict": saved["state_dict"] | changes}


def with_hparams(**changes: Any) -> Change:
    return lambda saved: saved | {"hyper_parameters": saved["hyper_parameters"] | changes}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda _: [1, 2], "holds a list, no checkpoint", id="a list"),
        pytest.param(lambda _: torch.zeros(3), "holds a Tensor, no checkpoint", id="a tensor"),
        pytest.param(lambda _: {}, r"it holds no named tensors \(it holds nothing\)", id="nothing"),
        pytest.param(lambda _: {1: 2, "a": 3}, "it holds 1, a", id="keys that are not strings"),
        pytest.param(
            lambda _: {"state_dict": {"model.conv.weight": torch.zeros(3)}},
            r"is not a checkpoint of a refinement network \(it holds model\.conv\.weight\)",
            id="another task",
        ),
        pytest.param(with_hparams(backbone="resnet50"), "Missing key|size mismatch", id="another backbone"),
        pytest.param(with_hparams(neck="giraffe"), "`neck` must be .*'giraffe'", id="another neck"),
        pytest.param(with_hparams(backbone="alexnet"), "`backbone` must be .*'alexnet'", id="an unknown backbone"),
        pytest.param(with_hparams(backbone=18), "`backbone` must be .* 18", id="a number for a backbone"),
        pytest.param(with_hparams(heads=("box",)), "`heads` must name .*'box'", id="another head"),
        pytest.param(with_hparams(heads=()), r"`heads` must name .*\(\)", id="no head"),
        pytest.param(with_hparams(heads=None), "`heads` must name .*None", id="heads that are not a list"),
        pytest.param(with_hparams(heads=[["corner"]]), "`heads` must name", id="a head that is not a string"),
        pytest.param(with_hparams(heads=("corner", "mask")), "Missing key.*mask_head", id="a head without weights"),
        pytest.param(with_hparams(backbone="resnet34"), "Missing key.*backbone", id="a smaller backbone's weights"),
        pytest.param(with_state(**{"network.more": torch.zeros(1)}), 'Unexpected key.*"more"', id="one too many"),
        pytest.param(
            with_state(**{"network.corner_head.top_left.4.bias": torch.zeros(2)}), "size mismatch", id="another shape"
        ),
        pytest.param(
            with_state(**{"network.corner_head.top_left.4.bias": "x"}),
            "named tensors and nothing else, got .* with a str",
            id="a text",
        ),
        pytest.param(lambda saved: saved | {"a": Namespace()}, "something else than weights", id="an object"),
    ],
)
def test_other_checkpoints_are_refused(tmp_path: Path, saved: dict[str, Any], change: Change, message: str) -> None:
    path = tmp_path / "other.ckpt"
    torch.save(change(saved), path)
    with pytest.raises(UserError, match=message) as caught:
        load_checkpoint(path)
    assert_one_line_about(path, caught.value)


def assert_one_line_about(path: Path, error: UserError) -> None:
    text = str(error)
    assert text.startswith("`--ckpt`: ")
    assert str(path) in text
    assert "\n" not in text
    assert len(text) - len(str(path)) < 450


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path, saved: dict[str, Any]) -> None:
    trace = tmp_path / "executed"
    torch.save(saved | {"bomb": Bomb(trace)}, tmp_path / "zip.ckpt")
    torch.save(saved | {"bomb": Bomb(trace)}, tmp_path / "legacy.ckpt", _use_new_zipfile_serialization=False)
    (tmp_path / "pickle.ckpt").write_bytes(pickle.dumps({"state_dict": Bomb(trace)}))
    for path in sorted(tmp_path.glob("*.ckpt")):
        with pytest.raises(UserError):
            load_checkpoint(path)
    assert not trace.exists()


def zipped(text: str) -> Callable[[Path, bytes], None]:
    def write(path: Path, _: bytes) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("word/document.xml", text)

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        pytest.param(lambda *_: None, "no file", id="absent"),
        pytest.param(lambda path, _: path.mkdir(), "no file", id="a folder"),
        pytest.param(lambda path, _: path.write_bytes(b""), "cut short or no checkpoint at all", id="empty"),
        pytest.param(lambda path, _: path.write_text("hello"), "cut short or no checkpoint at all", id="text"),
        pytest.param(lambda path, _: path.write_text("12 34"), "cut short or no checkpoint at all", id="numbers"),
        pytest.param(lambda path, data: path.write_bytes(data[:100]), "cut short", id="the first 100 bytes"),
        pytest.param(lambda path, data: path.write_bytes(data[: len(data) // 2]), "cut short", id="the first half"),
        pytest.param(lambda path, data: path.write_bytes(data[:-1]), "cut short", id="all but the last byte"),
        pytest.param(
            lambda path, data: path.write_bytes(data[: len(data) // 2] + b"damaged!" + data[len(data) // 2 + 8 :]),
            "is damaged",
            id="eight bytes changed",
        ),
        pytest.param(zipped("hello"), "something else than weights", id="another archive"),
    ],
)
def test_other_files_are_refused(
    tmp_path: Path, checkpoint: Path, write: Callable[[Path, bytes], None], message: str
) -> None:
    path = tmp_path / "other.ckpt"
    write(path, checkpoint.read_bytes())
    with pytest.raises(UserError, match=message) as caught:
        load_checkpoint(path)
    assert_one_line_about(path, caught.value)


def test_random_damage_never_shows_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "small.ckpt"
    hparams = {"backbone": "resnet18", "heads": ("corner",)}
    torch.save({"state_dict": {"network.a": torch.zeros(3)}, "hyper_parameters": hparams}, path)
    data, rng = path.read_bytes(), torch.Generator().manual_seed(0)
    for _ in range(40):
        start, count = (int(torch.randint(0, len(data), (1,), generator=rng)) for _ in range(2))
        noise: Tensor = torch.randint(0, 256, (min(count, 8),), dtype=torch.uint8, generator=rng)
        path.write_bytes(data[:start] + bytes(noise.tolist()) + data[start + len(noise) :])
        with pytest.raises(UserError):
            load_checkpoint(path)
