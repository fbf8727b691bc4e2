"""Refiner: encodes a target from one frame and refines rough boxes of this target in other frames."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from alpharefine.boxes import is_valid, xywh_to_xyxy, xyxy_to_xywh
from alpharefine.crops import GEOMETRIES, Window
from alpharefine.inference.backend import InferenceBackend
from alpharefine.inference.loading import load_network
from alpharefine.inference.options import resolve_box_head
from alpharefine.inference.torch_backend import TorchBackend
from alpharefine.masks import MASK_THRESHOLD, mask_to_box
from alpharefine.models import AlphaRefineNet, HeadName
from alpharefine.options import BoxSource, ComputePrecision, GeometryName

RefinementFailure = Literal["outside", "not_finite", "not_found"]
"""Reason why a box was not refined: its search region lies outside the image, the prediction is not finite, or the
predicted mask or box is empty."""


@dataclass(frozen=True)
class Template:
    """Encoding of a target, from `Refiner.encode_template`.

    Attributes:
        encoding: Encoding by the refiner's backend.
        mirrored_encoding: Encoding of the horizontally mirrored target. None without `flip_test`.
    """

    encoding: Any
    mirrored_encoding: Any | None = None


@dataclass(frozen=True)
class Refinement:
    """Refinement of one box.

    Attributes:
        box_xywh: Refined box, ``(4,)`` float64 in image pixels. It lies inside the image, its corners are in order, and
            its sides are at least 10 px, or the side of a smaller image. The geometries ``original`` and
            ``original_window`` clip as the authors' code does, which can leave shorter sides and corners out of order.
        raw_box_xywh: Predicted box before clipping, ``(4,)`` float64 in image pixels.
        mask: Probability map of the frame, ``(H, W)`` float32. None if it was not requested.
        score: Confidence in 0..1. For a box from the corner head, the IoU with the target that the quality head
            predicts; without this head the lowest of the maxima of the heat maps, or 1 without heat maps. For a box
            from the mask, the mean probability of the pixels above the threshold.
        refined: True if the box was refined. False if the search region lies outside the image, the mask is too small,
            or the prediction is not finite: `raw_box_xywh` is then the given box, and `box_xywh` the given box after
            clipping. Also False if the clipped box has corners out of order.
        failure: Reason why the box was not refined. None if it was.
    """

    box_xywh: np.ndarray
    raw_box_xywh: np.ndarray
    mask: np.ndarray | None
    score: float
    refined: bool
    failure: RefinementFailure | None = None


class Refiner:
    """Refines boxes with a trained network. `from_checkpoint` and `from_network` build one from PyTorch weights.

    Args:
        backend: Implementation of the network.
        box_from: Head that the box is taken from: ``corner``, or ``mask`` for the bounding box of the mask. ``auto``
            selects the corner head if there is one.
        mask_threshold: Probability above which a pixel belongs to the target. Used only for boxes from the mask.
        flip_test: Average the predictions for each search region and its mirror image. This is slightly more accurate
            and takes twice the time.

    Attributes:
        backend: Implementation of the network.
        box_head: Head that boxes are taken from.

    Raises:
        ValueError: If the network does not have the head, or the threshold is not between 0 and 1.
    """

    def __init__(
        self,
        backend: InferenceBackend,
        box_from: BoxSource = "auto",
        mask_threshold: float = MASK_THRESHOLD,
        flip_test: bool = False,
    ) -> None:
        self.backend = backend
        self.box_head = resolve_box_head(box_from, backend.heads)
        if self.box_head not in backend.heads:
            raise ValueError(
                f"`box_from` must be auto or one of the heads {list(backend.heads)} of the network, got {box_from!r}; "
                "choose one of them."
            )
        if not 0 < mask_threshold < 1:
            raise ValueError(
                f"`mask_threshold` must lie between 0 and 1, got {mask_threshold}; {MASK_THRESHOLD} is usual."
            )
        self._mask_threshold = mask_threshold
        self._flip_test = flip_test
        self._geometry = GEOMETRIES[backend.geometry]
        self._template: Template | None = None

    @classmethod
    def from_network(
        cls,
        network: AlphaRefineNet,
        device: str = "auto",
        precision: ComputePrecision = "auto",
        box_from: BoxSource = "auto",
        mask_threshold: float = MASK_THRESHOLD,
        flip_test: bool = False,
    ) -> Refiner:
        """Build a refiner that runs a network in PyTorch.

        Args:
            network: Network to run. A copy of it in evaluation mode is used.
            device: Torch device such as ``cpu`` or ``cuda:1``; ``auto`` selects the GPU if there is one.
            precision: Floating-point precision, see `TorchBackend`.
            box_from: Head that the box is taken from, see `Refiner`.
            mask_threshold: Probability above which a pixel belongs to the target, see `Refiner`.
            flip_test: Average the predictions for each search region and its mirror image, see `Refiner`.

        Raises:
            ValueError: If an argument is unknown, or the network does not have the head.
        """
        return cls(TorchBackend(network, device, precision), box_from, mask_threshold, flip_test)

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        device: str = "auto",
        precision: ComputePrecision = "auto",
        geometry: GeometryName | None = None,
        box_from: BoxSource = "auto",
        mask_threshold: float = MASK_THRESHOLD,
        flip_test: bool = False,
    ) -> Refiner:
        """Build a refiner from a checkpoint, whose format is detected from the content, or from an ONNX export.

        Args:
            path: Name of shipped weights (``ar18_cm``), or path of a training checkpoint (.ckpt), of exported weights
                (.safetensors), of a checkpoint of the authors' code (.pth.tar), or of the ``.onnx`` file that
                `alpharefine export` wrote, which runs in ONNX Runtime.
            device: Torch device such as ``cpu`` or ``cuda:1``; ``auto`` selects the GPU if there is one.
            precision: Floating-point precision, see `TorchBackend`. An export has its own.
            geometry: Crop geometry in place of the one recorded in the checkpoint.
            box_from: Head that the box is taken from, see `Refiner`.
            mask_threshold: Probability above which a pixel belongs to the target, see `Refiner`.
            flip_test: Average the predictions for each search region and its mirror image, see `Refiner`.

        Warns:
            UserWarning: If a checkpoint of the authors' code does not determine a property of its network.

        Raises:
            UserError: If the file is missing, does not hold a refinement network, or is an export that does not allow
                the geometry, precision or device.
            ValueError: If an argument is unknown, or the network does not have the head.
        """
        loaded = load_network(path, geometry)
        if loaded.doubts:
            warnings.warn(f"{path}: {loaded.doubts}", stacklevel=2)
        return cls(loaded.make_backend(device, precision), box_from, mask_threshold, flip_test)

    @property
    def geometry(self) -> GeometryName:
        """Crop geometry of the network."""
        return self.backend.geometry

    @property
    def heads(self) -> tuple[HeadName, ...]:
        """Heads of the network."""
        return self.backend.heads

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Set the target of `refine` and `segment`.

        Args:
            frame: First frame, ``(H, W, 3)`` uint8 RGB.
            box_xywh: Box of the target, ``(4,)`` in image pixels.

        Raises:
            ValueError: If the frame or the box is malformed, or the box lies outside of the frame.
        """
        self._template = self.encode_template(frame, box_xywh)

    def encode_template(self, frame: np.ndarray, box_xywh: np.ndarray) -> Template:
        """Encode a target for `refine_many` and `segment_many`. The target of `refine` does not change.

        Args:
            frame: Frame, ``(H, W, 3)`` uint8 RGB.
            box_xywh: Box of the target, ``(4,)`` in image pixels.

        Raises:
            ValueError: If the frame or the box is malformed, or the box lies outside of the frame.
        """
        _check(frame, box_xywh)
        x1, y1, x2, y2 = xywh_to_xyxy(np.asarray(box_xywh, dtype=np.float64))
        height, width = frame.shape[:2]
        if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
            raise ValueError(
                f"`box_xywh` {list(box_xywh)} lies outside of the {width}x{height} frame; give the box of a visible "
                "target."
            )
        window = self._geometry.window.around(box_xywh)
        crops, targets_xyxy = [window.cut(frame)], [window.to_crop(np.array([x1, y1, x2, y2]))]
        if self._flip_test:
            crops.append(crops[0][:, ::-1])
            targets_xyxy.append(self._geometry.mirrored(targets_xyxy[0]))
        return Template(*self.backend.encode_templates(crops, np.stack(targets_xyxy)))

    def refine(self, frame: np.ndarray, box_xywh: np.ndarray, mask: bool = False) -> Refinement:
        """Refine a rough box of the target.

        Args:
            frame: Frame, ``(H, W, 3)`` uint8 RGB.
            box_xywh: Rough box, ``(4,)`` in image pixels. The search region is a window of twice its size.
            mask: Also return the mask.

        Raises:
            RuntimeError: If `initialize` was not called.
            ValueError: If the frame or the box is malformed, or a mask is requested from a network without a mask head.
        """
        return self.refine_many([frame], [box_xywh], [self._require_template("refine")], mask)[0]

    def refine_many(
        self,
        frames: Sequence[np.ndarray],
        boxes_xywh: Sequence[np.ndarray] | np.ndarray,
        templates: Sequence[Template],
        mask: bool = False,
    ) -> list[Refinement]:
        """Refine boxes of different frames and targets in one batch.

        Args:
            frames: N frames ``(H, W, 3)`` uint8 RGB, of any sizes.
            boxes_xywh: N rough boxes ``(4,)`` in pixels of their frames.
            templates: N templates from `encode_template`.
            mask: Also return the masks.

        Returns:
            N refinements.

        Raises:
            ValueError: If the arguments differ in length, one of them is malformed, or masks are requested from a
                network without a mask head.
        """
        if mask:
            self._require_mask_head("mask")
        windows, crops = self._cut(frames, boxes_xywh, templates)
        if not crops:
            return []
        heads: list[HeadName] = ["corner", "mask"] if mask and self.box_head == "corner" else [self.box_head]
        predictions = self._predict(crops, templates, heads)
        return [
            self._refinement(prediction, window, frame.shape[:2], np.asarray(box_xywh, np.float64), mask)
            for prediction, window, frame, box_xywh in zip(predictions, windows, frames, boxes_xywh, strict=True)
        ]

    def segment(self, frame: np.ndarray, box_xywh: np.ndarray) -> np.ndarray:
        """Predict the mask of the target in the window around a precise box.

        The window of `refine` surrounds the rough box, and may not contain the whole target.

        Args:
            frame: Frame, ``(H, W, 3)`` uint8 RGB.
            box_xywh: Precise box, ``(4,)`` in image pixels.

        Returns:
            ``(H, W)`` float32 probabilities.

        Raises:
            RuntimeError: If `initialize` was not called.
            ValueError: If the frame or the box is malformed, or the network has no mask head.
        """
        return self.segment_many([frame], [box_xywh], [self._require_template("segment")])[0]

    def segment_many(
        self,
        frames: Sequence[np.ndarray],
        boxes_xywh: Sequence[np.ndarray] | np.ndarray,
        templates: Sequence[Template],
    ) -> list[np.ndarray]:
        """Predict the masks of different frames and targets in one batch, see `segment`.

        Args:
            frames: N frames ``(H, W, 3)`` uint8 RGB, of any sizes.
            boxes_xywh: N precise boxes ``(4,)`` in pixels of their frames.
            templates: N templates from `encode_template`.

        Returns:
            N probability maps ``(H, W)`` float32, each of the size of its frame.

        Raises:
            ValueError: If the arguments differ in length, one of them is malformed, or the network has no mask head.
        """
        self._require_mask_head("segment")
        windows, crops = self._cut(frames, boxes_xywh, templates)
        if not crops:
            return []
        masks = []
        for prediction, window, frame in zip(self._predict(crops, templates, ["mask"]), windows, frames, strict=True):
            assert prediction.crop_mask is not None
            masks.append(window.paste(prediction.crop_mask, frame.shape[:2]))
        return masks

    def _cut(
        self,
        frames: Sequence[np.ndarray],
        boxes_xywh: Sequence[np.ndarray] | np.ndarray,
        templates: Sequence[Template],
    ) -> tuple[list[Window], list[np.ndarray]]:
        """Return the windows around the boxes and their crops."""
        if not len(frames) == len(boxes_xywh) == len(templates):
            raise ValueError(
                f"`frames`, `boxes_xywh` and `templates` must have the same length, got {len(frames)} frames, "
                f"{len(boxes_xywh)} boxes, {len(templates)} templates; give one of each per box."
            )
        for frame, box_xywh in zip(frames, boxes_xywh, strict=True):
            _check(frame, box_xywh)
        windows = [self._geometry.window.around(box_xywh) for box_xywh in boxes_xywh]
        return windows, [window.cut(frame) for window, frame in zip(windows, frames, strict=True)]

    def _require_template(self, method: str) -> Template:
        if self._template is None:
            raise RuntimeError(f"`{method}` requires a target: call `initialize` with the first frame and its box.")
        return self._template

    def _require_mask_head(self, name: str) -> None:
        if "mask" not in self.backend.heads:
            raise ValueError(
                f"`{name}` requires a network with a mask head, got one with {list(self.backend.heads)}; load another "
                "network."
            )

    def _predict(
        self, crops: list[np.ndarray], templates: Sequence[Template], heads: list[HeadName]
    ) -> list[_Prediction]:
        """Return the prediction for each crop. With `flip_test`, average it with that for the mirrored crop."""
        encodings = [template.encoding for template in templates]
        if not self._flip_test:
            return self._predict_once(crops, encodings, heads)
        mirrored = [each.mirrored_encoding for each in templates if each.mirrored_encoding is not None]
        if len(mirrored) < len(templates):
            raise ValueError(
                "`templates` must come from `encode_template` of a refiner with `flip_test`; encode them again."
            )
        both = self._predict_once([*crops, *(crop[:, ::-1] for crop in crops)], [*encodings, *mirrored], heads)
        return [self._mean(*pair) for pair in zip(both[: len(crops)], both[len(crops) :], strict=True)]

    def _predict_once(self, crops: list[np.ndarray], encodings: list[Any], heads: list[HeadName]) -> list[_Prediction]:
        predictions = self.backend.predict(crops, encodings, heads)
        return [
            _Prediction(*(None if values is None else values[i] for values in predictions)) for i in range(len(crops))
        ]

    def _mean(self, prediction: _Prediction, mirrored: _Prediction) -> _Prediction:
        """Return the mean of the predictions for a crop and its mirror image, in coordinates of the crop."""
        crop_xyxy, score, crop_mask = prediction
        if crop_xyxy is not None and mirrored.crop_xyxy is not None:
            crop_xyxy = (crop_xyxy + self._geometry.mirrored(mirrored.crop_xyxy)) / 2
        if score is not None and mirrored.score is not None:
            score = (score + mirrored.score) / 2
        if crop_mask is not None and mirrored.crop_mask is not None:
            crop_mask = (crop_mask + mirrored.crop_mask[:, ::-1]) / 2
        return _Prediction(crop_xyxy, score, crop_mask)

    def _refinement(
        self,
        prediction: _Prediction,
        window: Window,
        image_size: tuple[int, int],
        box_xywh: np.ndarray,
        with_mask: bool,
    ) -> Refinement:
        """Convert the prediction for a crop to a refinement in image coordinates."""
        mask = None if prediction.crop_mask is None else window.paste(prediction.crop_mask, image_size)
        if prediction.crop_xyxy is not None and prediction.score is not None:
            raw_xywh, score = xyxy_to_xywh(window.to_image(prediction.crop_xyxy)), float(prediction.score)
            is_finite = np.isfinite(raw_xywh).all() and np.isfinite(score)
        else:
            assert mask is not None
            assert prediction.crop_mask is not None
            inside = mask[mask > self._mask_threshold]
            found = mask_to_box(mask, self._mask_threshold)
            raw_xywh = box_xywh if found is None else found
            score = float(inside.mean()) if found is not None else 0.0
            is_finite = np.isfinite(prediction.crop_mask).all()
        failure: RefinementFailure | None = None
        if not window.overlaps(image_size):
            failure = "outside"
        elif not is_finite:
            failure = "not_finite"
        elif score <= 0:
            failure = "not_found"
        if failure is not None:
            raw_xywh, score = box_xywh, 0.0
        clipped_xywh = xyxy_to_xywh(self._geometry.clip(xywh_to_xyxy(raw_xywh), image_size))
        if failure is None and not is_valid(clipped_xywh):  # the original's clipping leaves corners out of order
            failure = "not_found"
        return Refinement(clipped_xywh, raw_xywh, mask if with_mask else None, score, failure is None, failure)


class _Prediction(NamedTuple):
    """Prediction for one crop: a row of each field of `CropPredictions`."""

    crop_xyxy: np.ndarray | None
    score: np.ndarray | None
    crop_mask: np.ndarray | None


def _check(frame: np.ndarray, box_xywh: np.ndarray) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"`frame` must be an (H, W, 3) uint8 RGB image, got {frame.dtype} {frame.shape}; convert it.")
    if np.shape(box_xywh) != (4,) or not is_valid(np.asarray(box_xywh, dtype=np.float64)):
        raise ValueError(
            f"`box_xywh` must be four finite numbers with a positive width and height, got {box_xywh}; correct it."
        )
