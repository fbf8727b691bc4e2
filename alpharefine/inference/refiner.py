"""Inference: learn a target from one frame, refine rough boxes of it in others."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from alpharefine.boxes import is_valid, xywh_to_xyxy, xyxy_to_xywh
from alpharefine.checkpoints.loading import load_checkpoint
from alpharefine.crops import GEOMETRIES, GeometryName, Window
from alpharefine.masks import MASK_THRESHOLD, mask_to_box
from alpharefine.models import AlphaRefineNet, HeadName, Prediction
from alpharefine.models.precision import full_float32

Precision = Literal["auto", "32", "16", "bf16"]
BoxFrom = Literal["auto", "corner", "mask"]

_AUTOCAST = {"16": torch.float16, "bf16": torch.bfloat16}


def choose_precision(precision: Precision, device_type: str, geometry: GeometryName) -> Precision:
    """What ``auto`` stands for.

    >>> [choose_precision("auto", *where) for where in (("cuda", "exact"), ("cuda", "original"), ("cpu", "exact"))]
    ['16', '32', '32']
    """
    if precision != "auto":
        return precision
    return "16" if device_type == "cuda" and geometry == "exact" else "32"


def choose_box_head(box_from: BoxFrom, heads: Collection[HeadName]) -> HeadName:
    """What ``auto`` stands for: the corner head where there is one.

    >>> choose_box_head("auto", ["corner", "mask"]), choose_box_head("auto", ["mask"])
    ('corner', 'mask')
    """
    if box_from != "auto":
        return box_from
    return "corner" if "corner" in heads else "mask"


@dataclass(frozen=True)
class Template:
    """A target as the network remembers it.

    Attributes:
        kernel: ``(C, 8, 8)`` on the refiner's device.
        mirrored_kernel: likewise, of the target mirrored left to right; None of a refiner that does not mirror.
    """

    kernel: Tensor
    mirrored_kernel: Tensor | None = None


@dataclass(frozen=True)
class Refinement:
    """The answer for one box.

    Attributes:
        box_xywh: ``(4,)`` float64, image pixels, inside the image, corners in order, each side at least 10 px (or the
            image's own); in the geometry ``original`` what the authors' code would give, which may be neither.
        raw_box_xywh: ``(4,)`` float64, the same before it was ordered and clipped.
        mask: ``(H, W)`` float32 probabilities in the frame, or None if it was not asked for.
        score: in 0..1, how peaked the corner heat is: the highest cell of the less certain corner. Of a network without
            corner head: the mean probability inside the mask.
        refined: False if there was nothing to look at (the search region lies outside of the image) or the network
            found no target (a mask too small, numbers that are not finite). `raw_box_xywh` is then the box given and
            `box_xywh` the same clipped. Also False for corners out of order, in the geometry ``original`` alone.
    """

    box_xywh: np.ndarray
    raw_box_xywh: np.ndarray
    mask: np.ndarray | None
    score: float
    refined: bool


class Refiner:
    """A trained network, ready to refine boxes.

    Args:
        network: the network; it is moved to the device and put in evaluation mode.
        device: ``auto`` takes the graphics card where there is one; else a torch device such as ``cpu`` or ``cuda:1``.
        precision: bits to compute in. ``auto`` is ``16`` on a CUDA device in the geometry ``exact``, else ``32``: the
            original's geometries are for the original's boxes. ``32`` does without TF32, which CUDA devices use by
            default. The correlation runs in 32 bits always.
        box_from: which head the box is taken from: ``corner``, or ``mask`` for the box around the mask; ``auto`` takes
            the corner head where there is one.
        mask_threshold: probability above which a pixel belongs to the target, where the box is taken from the mask.
        flip_test: whether to look at each search region a second time, mirrored left to right, and average the two
            answers: somewhat more precise, in twice the time.

    Attributes:
        network: on the device.
        device: that it runs on.
        precision: that it runs in.
        box_head: that boxes are taken from.

    Raises:
        ValueError: if there is no such precision, or the network does not have the head.
    """

    def __init__(
        self,
        network: AlphaRefineNet,
        device: str = "auto",
        precision: Precision = "auto",
        box_from: BoxFrom = "auto",
        mask_threshold: float = MASK_THRESHOLD,
        flip_test: bool = False,
    ) -> None:
        if precision not in get_args(Precision):
            raise ValueError(f"`precision` must be one of {', '.join(get_args(Precision))}, got {precision!r}.")
        self.device = torch.device(device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
        self.precision = choose_precision(precision, self.device.type, network.geometry)
        self.network = network.to(self.device).eval()
        self.box_head = choose_box_head(box_from, network.heads)
        if self.box_head not in network.heads:
            raise ValueError(f"`box_from`: the network has the heads {list(network.heads)}, not {box_from!r}.")
        self._mask_threshold = mask_threshold
        self._flip_test = flip_test
        self._geometry = GEOMETRIES[network.geometry]
        self._template: Template | None = None

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        device: str = "auto",
        precision: Precision = "auto",
        geometry: GeometryName | None = None,
        box_from: BoxFrom = "auto",
        mask_threshold: float = MASK_THRESHOLD,
        flip_test: bool = False,
    ) -> Refiner:
        """Load a checkpoint: of `train.py`, exported weights (.safetensors), or of the authors' code (.pth.tar).

        Args:
            path: of the file, whose kind is told by its content.
            device: see `Refiner`.
            precision: see `Refiner`.
            geometry: in place of the one that the weights were trained in, which the file records.
            box_from: see `Refiner`.
            mask_threshold: see `Refiner`.
            flip_test: see `Refiner`.

        Warns:
            UserWarning: if a file of the authors' code does not tell which of two networks it holds.

        Raises:
            UserError: if the file is missing or not one of a refinement network.
            ValueError: see `Refiner`.
        """
        loaded = load_checkpoint(path, geometry)
        if loaded.doubts:
            warnings.warn(f"{path}: {loaded.doubts}", stacklevel=2)
        return cls(loaded.network, device, precision, box_from, mask_threshold, flip_test)

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Learn the target that `refine` then looks for.

        Args:
            frame: ``(H, W, 3)`` uint8 RGB.
            box_xywh: ``(4,)`` image pixels.

        Raises:
            ValueError: if the frame or the box is malformed, or the box lies outside of the frame.
        """
        self._template = self.encode_template(frame, box_xywh)

    def encode_template(self, frame: np.ndarray, box_xywh: np.ndarray) -> Template:
        """The same as `initialize`, with the target returned and not kept; for `refine_many`."""
        _check(frame, box_xywh)
        x1, y1, x2, y2 = xywh_to_xyxy(np.asarray(box_xywh, dtype=np.float64))
        if x1 >= frame.shape[1] or y1 >= frame.shape[0] or x2 <= 0 or y2 <= 0:
            raise ValueError(
                f"The target's box {list(box_xywh)} lies outside of the {frame.shape[1]}x{frame.shape[0]} frame."
            )
        window = self._geometry.window.around(box_xywh)
        crops, targets_xyxy = [window.cut(frame)], [window.to_crop(np.array([x1, y1, x2, y2]))]
        if self._flip_test:
            crops.append(crops[0][:, ::-1])
            targets_xyxy.append(self._geometry.mirrored(targets_xyxy[0]))
        with torch.inference_mode(), self._autocast():
            target_xyxy = torch.from_numpy(np.stack(targets_xyxy).astype(np.float32)).to(self.device)
            return Template(*self.network.encode_template(self._batch(crops), target_xyxy))

    def refine(self, frame: np.ndarray, box_xywh: np.ndarray, mask: bool = False) -> Refinement:
        """Make a rough box of the target precise.

        Args:
            frame: ``(H, W, 3)`` uint8 RGB.
            box_xywh: ``(4,)`` image pixels; the target is looked for in a window of twice its size.
            mask: whether to compute the mask too.

        Raises:
            RuntimeError: before `initialize`.
            ValueError: if the frame or the box is malformed, or a mask is asked of a network without mask head.
        """
        if self._template is None:
            raise RuntimeError("`refine` needs a target: call `initialize` with the first frame and its box before.")
        return self.refine_many([frame], [box_xywh], [self._template], mask)[0]

    def refine_many(
        self,
        frames: Sequence[np.ndarray],
        boxes_xywh: Sequence[np.ndarray] | np.ndarray,
        templates: Sequence[Template],
        mask: bool = False,
    ) -> list[Refinement]:
        """Refine many boxes in one pass of the network: other frames, other targets, or both.

        Args:
            frames: N frames ``(H, W, 3)`` uint8 RGB, of any sizes.
            boxes_xywh: N boxes ``(4,)`` in pixels of their frames.
            templates: N targets from `encode_template`.
            mask: whether to compute the masks too.

        Raises:
            ValueError: if the three differ in number, or one of them is malformed.
        """
        if mask:
            self._require_mask_head("mask")
        windows, crops = self._cut(frames, boxes_xywh, templates)
        if not crops:
            return []
        heads: list[HeadName] = ["corner", "mask"] if mask and self.box_head == "corner" else [self.box_head]
        answers = self._predict(crops, templates, heads)
        return [
            self._refinement(answer, window, frame.shape[:2], np.asarray(box_xywh, np.float64), mask)
            for answer, window, frame, box_xywh in zip(answers, windows, frames, boxes_xywh, strict=True)
        ]

    def segment(self, frame: np.ndarray, box_xywh: np.ndarray) -> np.ndarray:
        """The mask of the target alone, looked for about a box that is precise already.

        A mask from `refine` is one of the window about the rough box, which may cut the target off.

        Args:
            frame: ``(H, W, 3)`` uint8 RGB.
            box_xywh: ``(4,)`` image pixels.

        Returns:
            ``(H, W)`` float32 probabilities.

        Raises:
            RuntimeError: before `initialize`.
            ValueError: if the frame or the box is malformed, or the network has no mask head.
        """
        if self._template is None:
            raise RuntimeError("`segment` needs a target: call `initialize` with the first frame and its box before.")
        return self.segment_many([frame], [box_xywh], [self._template])[0]

    def segment_many(
        self,
        frames: Sequence[np.ndarray],
        boxes_xywh: Sequence[np.ndarray] | np.ndarray,
        templates: Sequence[Template],
    ) -> list[np.ndarray]:
        """The masks of many targets in one pass of the network; see `segment` and `refine_many`."""
        self._require_mask_head("segment")
        windows, crops = self._cut(frames, boxes_xywh, templates)
        if not crops:
            return []
        masks = []
        for answer, window, frame in zip(self._predict(crops, templates, ["mask"]), windows, frames, strict=True):
            assert answer.crop_mask is not None
            masks.append(window.paste(answer.crop_mask, frame.shape[:2]))
        return masks

    def _cut(
        self,
        frames: Sequence[np.ndarray],
        boxes_xywh: Sequence[np.ndarray] | np.ndarray,
        templates: Sequence[Template],
    ) -> tuple[list[Window], list[np.ndarray]]:
        """The search regions around the boxes, and what is seen in them."""
        if not len(frames) == len(boxes_xywh) == len(templates):
            counts = f"{len(frames)} frames, {len(boxes_xywh)} boxes, {len(templates)} templates"
            raise ValueError(f"A frame, a box and a template each are needed, got {counts}.")
        for frame, box_xywh in zip(frames, boxes_xywh, strict=True):
            _check(frame, box_xywh)
        windows = [self._geometry.window.around(box_xywh) for box_xywh in boxes_xywh]
        return windows, [window.cut(frame) for window, frame in zip(windows, frames, strict=True)]

    def _require_mask_head(self, asked: str) -> None:
        if "mask" not in self.network.heads:
            raise ValueError(f"`{asked}` needs a network with a mask head; this one has none.")

    def _predict(self, crops: list[np.ndarray], templates: Sequence[Template], heads: list[HeadName]) -> list[_Answer]:
        if not self._flip_test:
            return self._answers(crops, [template.kernel for template in templates], heads)
        mirrored_kernels = [template.mirrored_kernel for template in templates if template.mirrored_kernel is not None]
        if len(mirrored_kernels) < len(templates):
            raise ValueError("`templates` must come from `encode_template` of a refiner with `flip_test`, too.")
        kernels = [*(template.kernel for template in templates), *mirrored_kernels]
        answers = self._answers([*crops, *(crop[:, ::-1] for crop in crops)], kernels, heads)
        plain, mirrored = answers[: len(crops)], answers[len(crops) :]
        return [self._mean(*both) for both in zip(plain, mirrored, strict=True)]

    def _mean(self, answer: _Answer, mirrored: _Answer) -> _Answer:
        """The mean of the answers for a crop and for its mirror image."""
        crop_xyxy, peak, crop_mask = answer
        if crop_xyxy is not None and mirrored.crop_xyxy is not None:
            crop_xyxy = (crop_xyxy + self._geometry.mirrored(mirrored.crop_xyxy)) / 2
        if peak is not None and mirrored.peak is not None:
            peak = (peak + mirrored.peak) / 2
        if crop_mask is not None and mirrored.crop_mask is not None:
            crop_mask = (crop_mask + mirrored.crop_mask[:, ::-1]) / 2
        return _Answer(crop_xyxy, peak, crop_mask)

    def _answers(self, crops: list[np.ndarray], kernels: list[Tensor], heads: list[HeadName]) -> list[_Answer]:
        with torch.inference_mode(), self._autocast():
            prediction: Prediction = self.network(self._batch(crops), torch.stack(kernels), heads)
            corners, logits = prediction.corners, prediction.mask_logits
            # Everything leaves the device at once, not box by box.
            boxes = None if corners is None else corners.crop_xyxy.cpu().numpy()
            peaks = None if corners is None else corners.peak.cpu().numpy()
            masks = None if logits is None else logits.sigmoid().cpu().numpy()
        return [
            _Answer(*(None if values is None else values[i] for values in (boxes, peaks, masks)))
            for i in range(len(crops))
        ]

    def _refinement(
        self, answer: _Answer, window: Window, image_size: tuple[int, int], box_xywh: np.ndarray, want_mask: bool
    ) -> Refinement:
        mask = None if answer.crop_mask is None else window.paste(answer.crop_mask, image_size)
        if answer.crop_xyxy is not None and answer.peak is not None:
            raw_xywh, score = xyxy_to_xywh(window.to_image(answer.crop_xyxy)), float(answer.peak)
        else:
            assert mask is not None
            inside = mask[mask > self._mask_threshold]
            found = mask_to_box(mask, self._mask_threshold)
            raw_xywh = box_xywh if found is None else found
            score = float(inside.mean()) if found is not None else 0.0
        refined = window.overlaps(image_size) and score > 0
        if not refined:
            raw_xywh, score = box_xywh, 0.0
        clipped_xywh = xyxy_to_xywh(self._geometry.clip(xywh_to_xyxy(raw_xywh), image_size))
        if not is_valid(clipped_xywh):  # the original's clip leaves corners out of order
            refined = False
        return Refinement(clipped_xywh, raw_xywh, mask if want_mask else None, score, refined)

    def _batch(self, crops: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(crops)).to(self.device).permute(0, 3, 1, 2)

    def _autocast(self) -> AbstractContextManager[object]:
        dtype = _AUTOCAST.get(self.precision)
        return full_float32() if dtype is None else torch.autocast(self.device.type, dtype)


class _Answer(NamedTuple):
    """What the network says of one crop: the box ``(4,)`` in crop pixels, its peak, the mask ``(S, S)``; or None."""

    crop_xyxy: np.ndarray | None
    peak: np.ndarray | None
    crop_mask: np.ndarray | None


def _check(frame: np.ndarray, box_xywh: np.ndarray) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"`frame` must be an (H, W, 3) uint8 RGB picture, got {frame.dtype} {frame.shape}.")
    if np.shape(box_xywh) != (4,) or not is_valid(np.asarray(box_xywh, dtype=np.float64)):
        raise ValueError(f"`box_xywh` must be four finite numbers with a positive width and height, got {box_xywh}.")
