"""From files to networks."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from alpharefine.errors import UserError
from alpharefine.models.folding import fold_batch_norms
from alpharefine.trackers import load_tracker
from alpharefine.trackers.siamrpnpp import VARIANTS
from alpharefine.trackers.siamrpnpp.loading import load_network
from alpharefine.trackers.siamrpnpp.network import SiamRPNpp

from .random_files import random_state, save_random

ALEX = "siamrpnpp-alex"
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    return random_state()


def without_counters(state: State) -> State:
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


def snapshot(state: State) -> dict[str, Any]:
    parallel = OrderedDict((f"module.{key}", value) for key, value in state.items())
    return {"epoch": 20, "state_dict": parallel, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(lambda state: state, id="released"),
        pytest.param(without_counters, id="without counters"),
        pytest.param(snapshot, id="snapshot of training"),
        pytest.param(lambda state: {key: value.double() for key, value in state.items()}, id="doubles"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_released_files_and_snapshots_are_read(tmp_path: Path, state: State, content: Any, zipped: bool) -> None:
    path = tmp_path / "model.pth"
    torch.save(content(state), path, _use_new_zipfile_serialization=zipped)
    crop = torch.rand(1, 3, 127, 127) * 255
    expected = plain_network(state)
    with torch.inference_mode():
        torch.testing.assert_close(
            load_network(ALEX, path).features(crop), expected.features(crop), atol=1e-4, rtol=1e-4
        )


def plain_network(state: State) -> SiamRPNpp:
    network = SiamRPNpp(VARIANTS[ALEX].backbone).eval()
    network.load_state_dict(state)
    return network


@pytest.mark.parametrize("name", ["siamrpnpp", "siamrpnpp-mobilev2", ALEX])
def test_folding_batch_norms_changes_nothing(name: str) -> None:
    variant = VARIANTS[name]
    network = SiamRPNpp(variant.backbone, variant.neck_channels, variant.weighted)
    state = random_state(name)
    rng = torch.Generator().manual_seed(0)
    for key, value in state.items():
        if key.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=rng) + 0.5)
        elif key.endswith("running_mean"):
            value.copy_(torch.randn(value.shape, generator=rng) * 0.1)
    network.load_state_dict(state)
    network.eval()
    crop = torch.rand(1, 3, 127, 127, generator=rng)
    with torch.inference_mode():
        expected = network.features(crop)
        fold_batch_norms(network)
        for found, wanted in zip(network.features(crop), expected, strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-4 * wanted.abs().max().item(), rtol=0)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_the_file_of_another_variant_is_refused_with_its_name(tmp_path: Path) -> None:
    path = save_random(tmp_path)
    with pytest.raises(
        UserError,
        match=r"does not hold the network of --tracker siamrpnpp-mobilev2 \(.*missing, such as "
        r"backbone.*unknown, such as backbone\.features\.0.*it is that of siamrpnpp-alex or siamrpnpp-alex-otb; give",
    ):
        load_tracker("siamrpnpp-mobilev2", weights=[path])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda s: s.pop("rpn_head.cls.head.3.bias"),
            r"1 missing, such as rpn_head\.cls\.head\.3\.bias",
        ),
        (lambda s: s.update(extra=torch.zeros(1)), "1 unknown, such as extra"),
        (
            lambda s: s.update({"rpn_head.cls.head.3.bias": torch.zeros(4)}),
            r"1 of another shape, such as rpn_head\.cls\.head\.3\.bias \(4,\) in place of \(10,\)",
        ),
        (lambda s: [s.pop(key) for key in list(s) if key.startswith("backbone.")], "missing, such as backbone"),
    ],
)
def test_parameters_that_do_not_fit_are_told(tmp_path: Path, state: State, change: Any, reason: str) -> None:
    changed = dict(state)
    change(changed)
    path = tmp_path / "model.pth"
    torch.save(changed, path)
    with pytest.raises(UserError, match=rf"`--tracker_weights`: .*model\.pth does not hold .*{reason}"):
        load_tracker(ALEX, weights=[path])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "it holds no named tensors"),
        ({"a": torch.zeros(1), "b": "text"}, "must hold named tensors and nothing else, got 'b' with a str"),
        ({"module.rpn_head.cls.head.3.bias": torch.zeros(4)}, r"4,\) in place of \(10,\)"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "model.pth"
    torch.save(content, path)
    with pytest.raises(UserError, match=rf"`--tracker_weights`: .*model\.pth .*{message}"):
        load_tracker(ALEX, weights=[path])


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path, state: State) -> None:
    path = tmp_path / "model.pth"
    torch.save(state | {"rpn_head.cls.head.3.bias": torch.full((10,), torch.nan)}, path)
    with pytest.raises(UserError, match=r"model\.pth: 10 of 10 values of `rpn_head\.cls\.head\.3\.bias` are not"):
        load_tracker(ALEX, weights=[path])


@pytest.mark.parametrize("content", [b"", b"no network" * 20, None])
def test_files_that_are_none_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = save_random(tmp_path)
    path.write_bytes(path.read_bytes()[:-1000] if content is None else content)
    with pytest.raises(UserError, match=r"`--tracker_weights`: .*model\.pth is cut short or no checkpoint at all"):
        load_tracker(ALEX, weights=[path])


def test_a_file_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save([1, 2], path)
    with pytest.raises(UserError, match=r"`--tracker_weights`: .*model\.pth holds a list, no checkpoint"):
        load_tracker(ALEX, weights=[path])
