"""From the authors' files to trackers: what is read of them, and what is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from alpharefine.errors import UserError
from alpharefine.trackers import load_tracker
from alpharefine.trackers.dimp.loading import NETWORKS, load_dimp
from alpharefine.trackers.dimp.network import BoxNet, DiMPNet
from alpharefine.trackers.dimp.parameters import read_parameters
from alpharefine.trackers.dimp.tracker import DiMPTracker

State = dict[str, torch.Tensor]


def random_state(name: str) -> State:
    """Parameters of a small network."""
    backbone, optimizer = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DiMPNet(backbone, optimizer()).state_dict()


@pytest.fixture(scope="module")
def dimp18() -> State:
    return random_state("dimp18")


@pytest.fixture(scope="module")
def prdimp18() -> State:
    return random_state("prdimp18")


class NetConstructor:
    """As the authors' files record how a network was built."""

    def __init__(self, **kwds: Any) -> None:
        self.fun_name, self.fun_module, self.args, self.kwds = "dimpnet18", "ltr.models.tracking.dimpnet", (), kwds


def write(path: Path, state: State, *, package: str = "ltr.admin", legacy: bool = False, **kwds: Any) -> Path:
    """An official file; its constructor's class is the authors', which no reader has."""
    module = f"{package}.model_constructor"
    parents = {".".join(module.split(".")[: i + 1]) for i in range(module.count(".") + 1)}
    with pytest.MonkeyPatch.context() as patch:
        for name in parents:
            patch.setitem(sys.modules, name, ModuleType(name))
        patch.setattr(NetConstructor, "__module__", module)
        patch.setattr(sys.modules[module], "NetConstructor", NetConstructor, raising=False)
        content = {"net": state, "constructor": NetConstructor(**kwds), "net_type": "DiMPnet", "epoch": 50}
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize(
    ("package", "legacy"), [("ltr.admin", False), ("dlframework.common.utils", True)], ids=["new", "old"]
)
def test_the_official_file_loads(
    tmp_path: Path, dimp18: State, package: str, legacy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_run = {
        "feature_extractor.fc.bias": torch.zeros(1000),
        "feature_extractor.layer4.0.conv1.weight": torch.ones(1),
    }
    uncounted = {key: value for key, value in dimp18.items() if not key.endswith("num_batches_tracked")}
    path = write(tmp_path / "dimp18.pth", uncounted | never_run, package=package, legacy=legacy, filter_size=4)
    monkeypatch.setenv("ALPHAREFINE_WEIGHTS", str(tmp_path))
    for weights in ([], [path], [tmp_path]):
        loaded_tracker = load_tracker("dimp18", weights=weights, device="cpu")
    tracker = loaded_tracker.open("a", np.zeros((1, 4))).tracker
    assert isinstance(tracker, DiMPTracker)
    loaded = tracker.network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in dimp18.items())
    assert not tracker.network.training
    assert tracker.parameters == read_parameters("dimp18")


def test_what_the_parameters_do_not_hold_is_read_from_the_record(tmp_path: Path, prdimp18: State) -> None:
    record = {"gauss_sigma": 0.7, "alpha_eps": 0.01, "label_threshold": 0.02, "softmax_reg": None}
    recorded = load_dimp("prdimp18", write(tmp_path / "a.pth", prdimp18, **record)).classifier.filter_optimizer
    published = load_dimp("prdimp18", write(tmp_path / "b.pth", prdimp18)).classifier.filter_optimizer
    values = [
        (optimizer.gauss_sigma, optimizer.alpha_eps, optimizer.label_threshold, optimizer.softmax_reg)
        for optimizer in (recorded, published)
    ]
    assert values == [(0.7, 0.01, 0.02, None), (0.9, 0.05, 0.0, None)]


def test_a_network_that_was_built_otherwise_is_refused(tmp_path: Path, dimp18: State) -> None:
    path = write(tmp_path / "mine.pth", dimp18, score_act="bentpar")
    with pytest.raises(UserError, match=r"mine\.pth records score_act = 'bentpar'; .* of dimp18 have 'relu'"):
        load_dimp("dimp18", path)


@pytest.mark.parametrize("name", ["dimp50", "prdimp18", "atom"])
def test_another_trackers_file_is_refused_with_its_name(tmp_path: Path, dimp18: State, name: str) -> None:
    path = write(tmp_path / "dimp18.pth", dimp18)
    with pytest.raises(
        UserError,
        match=rf"dimp18\.pth does not hold the network of --tracker {name} \(.*\): it is that of dimp18; give",
    ) as caught:
        load_tracker(name, weights=[path], device="cpu")
    assert "\n" not in str(caught.value)


def test_atoms_file_is_refused_with_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "atom_default.pth", BoxNet("resnet18").state_dict())
    with pytest.raises(UserError, match=r"--tracker dimp18 \(\d+ missing, such as classifier.*\): it is that of atom;"):
        load_tracker("dimp18", weights=[path], device="cpu")


@pytest.mark.parametrize(
    "contain", [lambda s: s, lambda s: {"net": s}, lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}}]
)
def test_parameters_without_a_constructor_load(tmp_path: Path, dimp18: State, contain: Any) -> None:
    torch.save(contain(dimp18), tmp_path / "own.pth")
    network = load_dimp("dimp18", tmp_path / "own.pth")
    assert all(torch.equal(value, dimp18[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("content", [{}, {"net": None}, {"net": {"a": 1}}, {"net": {1: torch.ones(1)}}], ids=str)
def test_a_file_without_parameters_is_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    torch.save(content, tmp_path / "empty.pth")
    with pytest.raises(UserError, match=r"empty\.pth (is not a checkpoint: it holds no|must hold) named tensors"):
        load_tracker("dimp18", weights=[tmp_path / "empty.pth"], device="cpu")


class Bomb:
    """Makes a folder when it is unpickled by the usual means."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["dimp18", "atom"])
def test_nothing_in_a_file_is_executed(tmp_path: Path, name: str) -> None:
    torch.save({"net": {}, "settings": Bomb(tmp_path / "made")}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match=r"evil\.pth asks for .*mkdir.* it may be malicious"):
        load_tracker(name, weights=[tmp_path / "evil.pth"], device="cpu")
    assert not (tmp_path / "made").exists()
