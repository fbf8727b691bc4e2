"""The refiner with a backend without torch, and the torch backend against the network."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from alpharefine import Refiner
from alpharefine.crops import Window
from alpharefine.inference.backend import CropPredictions, InferenceBackend
from alpharefine.inference.threads import Crops
from alpharefine.inference.torch_backend import TorchBackend
from alpharefine.models import AlphaRefineNet, HeadName, NetworkConfig
from alpharefine.options import GeometryName


class NumpyBackend:
    """Predicts the extent of the crop's pixels that have the gray level of the target."""

    geometry: GeometryName = "exact"
    heads: tuple[HeadName, ...] = ("corner", "mask")
    device, precision = "abacus", "8"

    def __init__(self) -> None:
        self.requested: list[tuple[HeadName, ...]] = []

    def encode_templates(self, crops: Sequence[np.ndarray], targets_xyxy: np.ndarray) -> list[int]:
        middles = ((targets_xyxy[:, :2] + targets_xyxy[:, 2:]) / 2).astype(int)
        return [int(crop[y, x, 0]) for crop, (x, y) in zip(crops, middles, strict=True)]

    def predict(
        self, crops: Sequence[np.ndarray], templates: Sequence[int], heads: Sequence[HeadName]
    ) -> CropPredictions:
        self.requested.append(tuple(heads))
        found = [crop[..., 0] == level for crop, level in zip(crops, templates, strict=True)]
        boxes = [[x.min(), y.min(), x.max() + 1, y.max() + 1] for y, x in map(np.nonzero, found)]
        corner = "corner" in heads
        return CropPredictions(
            np.array(boxes, np.float32) if corner else None,
            np.full(len(crops), 0.75, np.float32) if corner else None,
            np.stack(found).astype(np.float32) if "mask" in heads else None,
        )


def scene(target_xywh: Sequence[int]) -> np.ndarray:
    frame = np.zeros((200, 300, 3), np.uint8)
    x, y, w, h = target_xywh
    frame[y : y + h, x : x + w] = 90
    return frame


@pytest.mark.parametrize("flip_test", [False, True])
def test_a_backend_without_torch_is_all_that_the_refiner_needs(flip_test: bool) -> None:
    backend: InferenceBackend = NumpyBackend()
    refiner = Refiner(backend, flip_test=flip_test)
    assert (refiner.heads, refiner.geometry, refiner.box_head) == (("corner", "mask"), "exact", "corner")
    refiner.initialize(scene([60, 50, 64, 64]), np.array([60.0, 50, 64, 64]))
    # The window of the rough box has 128 x 128 px: every image pixel covers two crop pixels.
    refinement = refiner.refine(scene([100, 60, 64, 64]), np.array([95.0, 66, 64, 64]), mask=True)
    np.testing.assert_allclose(refinement.box_xywh, [100, 60, 64, 64], atol=1)
    assert (refinement.score, refinement.refined) == (0.75, True)
    assert refinement.mask is not None
    assert refinement.mask[62:122, 102:162].min() == 1
    assert refinement.mask[:58].max() == 0


class Empty(NumpyBackend):
    """Needs no encodings."""

    def encode_templates(self, crops: Sequence[np.ndarray], _targets_xyxy: np.ndarray) -> list[Any]:
        return [None] * len(crops)

    def predict(self, crops: Sequence[np.ndarray], templates: Sequence[Any], heads: Sequence[HeadName]) -> Any:
        assert list(templates) == [None] * len(crops)
        return super().predict(crops, [90] * len(crops), heads)


@pytest.mark.parametrize("flip_test", [False, True])
def test_any_value_can_be_an_encoding(flip_test: bool) -> None:
    refiner = Refiner(Empty(), flip_test=flip_test)
    refiner.initialize(scene([60, 50, 64, 64]), np.array([60.0, 50, 64, 64]))
    found = refiner.refine(scene([100, 60, 64, 64]), np.array([95.0, 66, 64, 64]))
    np.testing.assert_allclose(found.box_xywh, [100, 60, 64, 64], atol=1)
    if flip_test:
        plain = Refiner(Empty()).encode_template(scene([60, 50, 64, 64]), np.array([60.0, 50, 64, 64]))
        with pytest.raises(ValueError, match=r"`templates` must come from .* a refiner with `flip_test`"):
            refiner.refine_many([scene([60, 50, 64, 64])], [np.array([60.0, 50, 64, 64])], [plain])


def test_only_the_needed_heads_are_requested() -> None:
    backend = NumpyBackend()
    frame, box_xywh = scene([60, 50, 64, 64]), np.array([60.0, 50, 64, 64])
    refiner = Refiner(backend, box_from="mask")
    refiner.initialize(frame, box_xywh)
    np.testing.assert_allclose(refiner.refine(frame, box_xywh).box_xywh, box_xywh, atol=2)
    refiner.segment(frame, box_xywh)
    assert backend.requested == [("mask",), ("mask",)]


@pytest.mark.parametrize("quality_head", ["none", "convolutions"])
def test_the_torch_backend_gives_what_the_network_gives(quality_head: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = AlphaRefineNet(
            NetworkConfig("mobilenet_v3_small", neck="depthwise", quality_head=quality_head)
        ).eval()
    backend = TorchBackend(network, "cpu")
    assert (backend.device, backend.precision, backend.heads) == ("cpu", "32", ("corner", "mask"))
    crops = list(np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), dtype=np.uint8))
    targets_xyxy = np.array([[64.0, 64, 192, 192], [60, 70, 180, 200]])
    found = backend.predict(crops, backend.encode_templates(crops, targets_xyxy), ["corner", "mask"])
    with torch.inference_mode():
        images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
        kernel = network.encode_template(images, torch.from_numpy(targets_xyxy).float())
        corners, logits, quality = network(images, kernel)
    # The backend has folded the batch norms.
    np.testing.assert_allclose(found.crop_xyxy, corners.crop_xyxy, atol=1e-4)
    np.testing.assert_allclose(found.score, corners.peak if quality is None else quality.sigmoid(), atol=1e-6)
    assert (quality is None) == (quality_head == "none")
    np.testing.assert_allclose(found.masks, logits.sigmoid(), atol=1e-5)
    assert backend.predict(crops, backend.encode_templates(crops, targets_xyxy), ["corner"]).masks is None


def test_a_refiner_that_was_used_can_be_copied() -> None:
    refiner = Refiner.from_network(AlphaRefineNet(NetworkConfig("mobilenet_v3_small")), "cpu")
    frame, box_xywh = scene([60, 50, 64, 64]), np.array([60.0, 50, 64, 64])
    refiner.initialize(frame, box_xywh)
    found = refiner.refine(frame, box_xywh)
    other = pickle.loads(pickle.dumps(refiner))
    np.testing.assert_array_equal(other.refine(frame, box_xywh).box_xywh, found.box_xywh)


@pytest.mark.usefixtures("num_threads")
class TestCrops:
    windows: ClassVar = [Window(3 * i, 2 * i, 40 + i, 30) for i in range(11)]

    @pytest.fixture(params=[1, 3])
    def num_threads(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch, "get_num_threads", lambda: request.param)

    @pytest.mark.parametrize("num", [1, 4, 5, 11])
    def test_they_are_those_of_the_windows(self, num: int) -> None:
        frames = list(np.random.default_rng(0).integers(0, 256, (num, 60, 80, 3), dtype=np.uint8))
        expected = [window.cut(frame) for window, frame in zip(self.windows, frames, strict=False)]
        for index in (slice(None), slice(1, 3), slice(None, None, -1), slice(2, None, 4), slice(5, 2)):
            crops = Crops(self.windows[:num], frames, pinned=False)
            assert len(crops) == num
            np.testing.assert_array_equal(crops[index], np.array(expected).reshape(num, 256, 256, 3)[index])
        np.testing.assert_array_equal(list(Crops(self.windows[:num], frames, pinned=False)), expected)
        np.testing.assert_array_equal(crops[-1], expected[-1])

    def test_an_error_in_a_thread_reaches_the_caller(self) -> None:
        frames: list[Any] = [np.zeros((60, 80, 3), np.uint8)] * 8 + ["no frame"]
        with pytest.raises(AttributeError, match="shape"):
            Crops(self.windows[:9], frames, pinned=False)[8]

    def test_a_forked_process_has_its_own_threads(self) -> None:
        program = (
            "import os, torch\n"
            "from alpharefine.inference.threads import in_threads\n"
            "torch.get_num_threads = lambda: 2\n"
            "def work(): [task.result() for task in in_threads(lambda i: None, 4)]\n"
            "work()\n"
            "if (child := os.fork()) == 0: work(); os._exit(7)\n"
            "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        )
        command = [sys.executable, "-W", "ignore", "-c", program]
        assert subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout == "7\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"box_from": "box"}, r"`box_from` must be auto or one of the heads \['corner', 'mask'\] .*, got 'box'"),
        ({"mask_threshold": 1.0}, r"`mask_threshold` must lie between 0 and 1, got 1\.0"),
        ({"mask_threshold": float("nan")}, "`mask_threshold` must lie between 0 and 1, got nan"),
    ],
)
def test_unfit_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Refiner(NumpyBackend(), **options)
