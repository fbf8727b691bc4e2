"""Data sets for tests of pairs: the box encodes sequence and frame, or the image is a bright rectangle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from alpharefine.data.augmentation import PairAugmentation
from alpharefine.data.pairs import Frame
from alpharefine.data.reader import Reader, SequenceRecord

STILL = PairAugmentation(scale_jitter=0, center_jitter=0, gray_prob=0, brightness=0)
"""Augmentation without any effect."""


class Numbered(Reader):
    """Sequences with given visibility flags. The box of frame ``f`` of sequence ``s`` is ``(s, f, 4, 4)``."""

    def __init__(self, root: Path, visible: list[list[bool]], step: int = 1) -> None:
        super().__init__(root)
        self.visible, self.step = visible, step
        assert cv2.imwrite(str(root / "frame.png"), np.full((8, 8, 3), 50, np.uint8))

    def options(self) -> dict[str, object]:
        return {"visible": self.visible, "step": self.step}

    def watched(self) -> Iterator[Path]:
        return iter(())

    def records(self) -> Iterator[SequenceRecord]:
        for sequence, visible in enumerate(self.visible):
            boxes_xywh = np.array([[sequence, frame, 4, 4] for frame in range(len(visible))], dtype=np.float64)
            times = np.arange(len(visible), dtype=np.int32) * self.step
            yield SequenceRecord(str(sequence), ["frame.png"] * len(visible), boxes_xywh, np.array(visible), times)

    def frame_path(self, name: str, frame_name: str) -> Path:  # noqa: ARG002
        return self.root / frame_name


class NumberedMasks(Numbered):
    """`Numbered` with mask images."""

    has_masks = True

    def mask_path(self, name: str, frame_name: str) -> Path:  # noqa: ARG002
        return self.root / frame_name


class NumberedImages(Numbered):
    """`Numbered` as a set of single images."""

    is_video = False


class Rectangle:
    """Pair source with one image: a bright rectangle on a dark background, with its box and mask."""

    def __init__(self, box_xywh: tuple[int, int, int, int], size: tuple[int, int] = (90, 120), mask: bool = True):
        x, y, w, h = box_xywh
        inside = np.zeros(size, np.uint8)
        inside[y : y + h, x : x + w] = 1
        image = np.full((*size, 3), 40, np.uint8)
        image[inside == 1] = (220, 200, 180)
        self.frame = Frame(image, np.array(box_xywh, dtype=np.float64), inside if mask else None)

    def draw(self, rng: np.random.Generator) -> tuple[Frame, Frame]:  # noqa: ARG002
        return self.frame, self.frame
