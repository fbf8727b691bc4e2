"""Refiner: encodes a target from one frame and refines rough boxes of this target in other frames."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from alpharefine.boxes import is_valid, xywh_to_xyxy, xyxy_to_xywh
from alpharefine.crops import GEOMETRIES, Window
from alpharefine.inference.backend import CropPredictions, InferenceBackend
from alpharefine.inference.loading import load_network
from alpharefine.inference.options import resolve_box_head
from alpharefine.inference.threads import Crops, in_threads
from alpharefine.inference.torch_backend import TorchBackend
from alpharefine.masks import MASK_THRESHOLD, mask_to_box
from alpharefine.models import AlphaRefineNet, HeadName
from alpharefine.options import BoxSource, ComputePrecision, GeometryName

RefinementFailure = Literal["outside", "not_finite", "not_found"]
"""Reason why a box was not refined: its search region lies outside the image, the prediction is not finite, or the
predicted mask or box is empty."""

_MAX_PINNED = 256
"""Largest number of crops in pinned memory, which PyTorch keeps."""


@dataclass(frozen=True)
class Template:
    """Encoding of a target, from `Refiner.encode_template`.

    Attributes:
        encoding: Encoding by the refiner's backend.
        mirrored_encoding: Encoding of the horizontally mirrored target. None without `flip_test`.
        flip_test: True if there is an encoding of the mirrored target.
    """

    encoding: Any
    mirrored_encoding: Any = None
    flip_test: bool = False


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
        ValueError: If the backend is the name of weights, the network does not have the head, or the threshold is not
            between 0 and 1.
    """

    def __init__(
        self,
        backend: InferenceBackend,
        box_from: BoxSource = "auto",
        mask_threshold: float = MASK_THRESHOLD,
        flip_test: bool = False,
    ) -> None:
        if isinstance(backend, str | Path):
            raise ValueError(
                f"`backend` must be an inference backend, got {str(backend)!r}; use `Refiner.from_checkpoint` for "
                "weights."
            )
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
        # Crops in pinned memory reach a GPU at once. With `flip_test`, the crops are copied anyway.
        self._pins = isinstance(backend, TorchBackend) and backend.device.startswith("cuda") and not flip_test
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
        x1, y1, x2, y2 = xywh_to_xyxy(_check([frame], [box_xywh])[0])
        height, width = frame.shape[:2]
        if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
            values = [float(value) for value in box_xywh]
            raise ValueError(
                f"`box_xywh` {values} lies outside of the {width}x{height} frame; give the box of a visible target."
            )
        window = self._geometry.window.around(box_xywh)
        crops, targets_xyxy = [window.cut(frame)], [window.to_crop(np.array([x1, y1, x2, y2]))]
        if self._flip_test:
            crops.append(crops[0][:, ::-1])
            targets_xyxy.append(self._geometry.mirrored(targets_xyxy[0]))
        encodings = self.backend.encode_templates(crops, np.stack(targets_xyxy))
        return Template(encodings[0], encodings[1] if self._flip_test else None, self._flip_test)

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
        boxes_xywh = self._check_batch(frames, boxes_xywh, templates)
        if not len(boxes_xywh):
            return []
        windows = [self._geometry.window.around(box_xywh) for box_xywh in boxes_xywh.tolist()]
        heads: list[HeadName] = ["corner", "mask"] if mask and self.box_head == "corner" else [self.box_head]
        predictions = self._predict(frames, windows, templates, heads)
        return self._refinements(predictions, frames, windows, boxes_xywh, mask)

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
        boxes_xywh = self._check_batch(frames, boxes_xywh, templates)
        if not len(boxes_xywh):
            return []
        windows = [self._geometry.window.around(box_xywh) for box_xywh in boxes_xywh.tolist()]
        predictions = self._predict(frames, windows, templates, ["mask"])
        assert predictions.masks is not None
        return _paste(predictions.masks, frames, windows)

    def _check_batch(
        self,
        frames: Sequence[np.ndarray],
        boxes_xywh: Sequence[np.ndarray] | np.ndarray,
        templates: Sequence[Template],
    ) -> np.ndarray:
        """Return the boxes as an array ``(N, 4)`` float64, or raise an error for malformed arguments."""
        if not len(frames) == len(boxes_xywh) == len(templates):
            raise ValueError(
                f"`frames`, `boxes_xywh` and `templates` must have the same length, got {len(frames)} frames, "
                f"{len(boxes_xywh)} boxes, {len(templates)} templates; give one of each per box."
            )
        if not all(isinstance(template, Template) for template in templates):
            raise ValueError("`templates` must come from `encode_template`; encode the targets.")
        if self._flip_test and not all(template.flip_test for template in templates):
            raise ValueError(
                "`templates` must come from `encode_template` of a refiner with `flip_test`; encode them again."
            )
        return _check(frames, boxes_xywh)

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
        self,
        frames: Sequence[np.ndarray],
        windows: Sequence[Window],
        templates: Sequence[Template],
        heads: list[HeadName],
    ) -> CropPredictions:
        """Return the predictions for windows. With `flip_test`, average them with those for the mirrored crops."""
        crops = Crops(windows, frames, pinned=self._pins and len(windows) <= _MAX_PINNED)
        encodings = [template.encoding for template in templates]
        if not self._flip_test:
            return self.backend.predict(crops, encodings, heads)
        encodings += [template.mirrored_encoding for template in templates]
        both = self.backend.predict([*crops, *(crop[:, ::-1] for crop in crops)], encodings, heads)
        return self._mean(both.part(slice(len(crops))), both.part(slice(len(crops), None)))

    def _mean(self, straight: CropPredictions, mirrored: CropPredictions) -> CropPredictions:
        """Return the means of the predictions for crops and for their mirror images, in coordinates of the crops."""
        crop_xyxy, score, masks = straight
        if crop_xyxy is not None and mirrored.crop_xyxy is not None:
            crop_xyxy = (crop_xyxy + self._geometry.mirrored(mirrored.crop_xyxy)) / 2
        if score is not None and mirrored.score is not None:
            score = (score + mirrored.score) / 2
        if masks is not None and mirrored.masks is not None:
            masks = (masks + mirrored.masks[..., ::-1]) / 2
        return CropPredictions(crop_xyxy, score, masks)

    def _refinements(
        self,
        predictions: CropPredictions,
        frames: Sequence[np.ndarray],
        windows: Sequence[Window],
        boxes_xywh: np.ndarray,
        with_mask: bool,
    ) -> list[Refinement]:
        """Convert predictions for crops to refinements in image coordinates."""
        masks = None if predictions.masks is None else _paste(predictions.masks, frames, windows)
        if predictions.crop_xyxy is not None and predictions.score is not None:
            raw_xywh = xyxy_to_xywh(self._geometry.window.each_to_image(windows, predictions.crop_xyxy))
            scores, is_finite = predictions.score.copy(), np.isfinite(raw_xywh).all(-1) & np.isfinite(predictions.score)
        else:
            assert masks is not None
            assert predictions.masks is not None
            found, means = zip(*map(self._box_of, masks), strict=True)
            raw_xywh = np.array([box if each is None else each for each, box in zip(found, boxes_xywh, strict=True)])
            scores, is_finite = np.array(means), np.isfinite(predictions.masks).all((1, 2))
        in_image = [window.overlaps(frame.shape[:2]) for window, frame in zip(windows, frames, strict=True)]
        failures = [*map(_failure, in_image, is_finite.tolist(), scores.tolist())]
        failed = [failure is not None for failure in failures]
        if any(failed):
            raw_xywh[failed], scores[failed] = boxes_xywh[failed], 0
        heights, widths = np.array([frame.shape[:2] for frame in frames]).T
        clipped_xywh = xyxy_to_xywh(self._geometry.clip(xywh_to_xyxy(raw_xywh), (heights, widths)))
        for i in (clipped_xywh[:, 2:].min(1) <= 0).nonzero()[0]:
            failures[i] = failures[i] or "not_found"  # the original's clipping leaves corners out of order
        kept = masks if with_mask and masks is not None else [None] * len(windows)
        return [
            Refinement(clipped, raw, mask, score, failure is None, failure)
            for clipped, raw, mask, score, failure in zip(
                clipped_xywh, raw_xywh, kept, scores.tolist(), failures, strict=True
            )
        ]

    def _box_of(self, mask: np.ndarray) -> tuple[np.ndarray | None, float]:
        """Return the box of a mask, None if the mask is too small, and its score."""
        box_xywh = mask_to_box(mask, self._mask_threshold)
        return box_xywh, 0.0 if box_xywh is None else float(mask[mask > self._mask_threshold].mean())


def _failure(in_image: bool, is_finite: bool, score: float) -> RefinementFailure | None:
    if not in_image:
        return "outside"
    if not is_finite:
        return "not_finite"
    return "not_found" if score <= 0 else None


def _paste(masks: np.ndarray, frames: Sequence[np.ndarray], windows: Sequence[Window]) -> list[np.ndarray]:
    """Return masks of crops, ``(N, S, S)``, in image coordinates: ``(H, W)`` float32 each."""
    pasted = [np.empty(0)] * len(windows)

    def paste(i: int) -> None:
        pasted[i] = windows[i].paste(masks[i], frames[i].shape[:2])

    for task in in_threads(paste, len(windows)):
        task.result()
    return pasted


def _check(frames: Sequence[np.ndarray], boxes_xywh: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Return boxes as an array ``(N, 4)`` float64, or raise an error for a malformed frame or box."""
    for i, frame in enumerate(frames):
        is_image = isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim == 3
        if not is_image or frame.shape[2] != 3 or not frame.size:
            raise ValueError(_malformed_frame(i, frames))
    for i, box_xywh in enumerate(boxes_xywh):
        if np.shape(box_xywh) != (4,):
            raise ValueError(_malformed_box(i, boxes_xywh))
    checked = np.array(boxes_xywh, dtype=np.float64).reshape(-1, 4)
    for i in (~is_valid(checked)).nonzero()[0].tolist():
        raise ValueError(_malformed_box(i, boxes_xywh))
    return checked


def _malformed_frame(i: int, frames: Sequence[np.ndarray]) -> str:
    frame = frames[i]
    name = "frame" if len(frames) == 1 else f"frames[{i}]"
    got = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
    read_again = "read it again: `cv2.imread` returns None for a file that it cannot read"
    hint = read_again if frame is None else "convert it"
    return f"`{name}` must be an (H, W, 3) uint8 RGB image, got {got}; {hint}."


def _malformed_box(i: int, boxes_xywh: Sequence[np.ndarray] | np.ndarray) -> str:
    name = "box_xywh" if len(boxes_xywh) == 1 else f"boxes_xywh[{i}]"
    return f"`{name}` must be four finite numbers with a positive width and height, got {boxes_xywh[i]}; correct it."
