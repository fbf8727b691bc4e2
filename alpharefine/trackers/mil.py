"""MIL: OpenCV's tracker with an online classifier (Babenko et al., CVPR 2009), without weight files.

`cv2.TrackerMIL` searches around its own last box, whose size is constant, and has no function to set another box. Here
the frame is transformed in place of the box: after `set_box`, each frame is warped such that the new box coincides with
the classifier's own box. The classifier does not change.
"""

from __future__ import annotations

import ctypes

import cv2
import numpy as np

from alpharefine.errors import UserError
from alpharefine.trackers.base import Track, Tracker, TrackState
from alpharefine.trackers.entry import LoadedTracker, TrackerRequest

SEED = 0
"""Seed of the classifier's random features, the same for all sequences."""

_LEAST_SIDE = 8  # px; OpenCV's search for random features does not terminate for boxes under 5 px
_LEAST_FRAME = 24  # px
_LEAST_BORDER = 8  # px between the box and a border, so that there is background to learn from


class MILTracker(Tracker):
    """`cv2.TrackerMIL` with a box that can be set. Its random classifier is seeded, so that results are repeatable."""

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Learn the target from the first frame; the box is rounded to whole pixels.

        Deviation: OpenCV fails if the box is tiny, exceeds the frame or fills it; here the frame is warped such that
        the box fits.

        Args:
            frame: First frame, ``(H, W, 3)`` RGB uint8, with sides of at least 24 px.
            box_xywh: Box of the target, ``(4,)`` in image pixels.

        Raises:
            UserError: If a side of the frame is shorter than 24 px.
        """
        if min(frame.shape[:2]) < _LEAST_FRAME:
            height, width = frame.shape[:2]
            raise UserError(
                f"--tracker mil needs frames of at least {_LEAST_FRAME} px a side, got {width}x{height} px."
            )
        box = np.asarray(box_xywh, dtype=np.float64)
        whole = np.rint(box).astype(np.int64)
        self._own_box = _fit(whole, frame.shape[:2])
        self._scale, self._shift = np.ones(2), np.zeros(2)
        if (self._own_box != whole).any():
            self.set_box(box)
        cv2.setRNGSeed(SEED)
        ctypes.CDLL(None).srand(SEED)  # OpenCV draws the features with the C library's `rand`
        self._mil = cv2.TrackerMIL.create()
        self._mil.init(self._warped(frame), tuple(self._own_box.tolist()))

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Search around this box and at its size from now on; the classifier does not change.

        Args:
            box_xywh: Box of the target, ``(4,)`` in image pixels.
        """
        box = np.asarray(box_xywh, dtype=np.float64)
        self._scale = self._own_box[2:] / box[2:]
        self._shift = self._own_box[:2] - self._scale * box[:2]

    def track(self, frame: np.ndarray) -> Track:
        """Locate the target in the next frame; the size is that of the first box or of the last box that was set.

        Args:
            frame: Next frame, ``(H, W, 3)`` RGB uint8.
        """
        found, own_box = self._mil.update(self._warped(frame))
        if found:
            self._own_box = np.array(own_box)
        corner, size = (self._own_box[:2] - self._shift) / self._scale, self._own_box[2:] / self._scale
        return Track(np.concatenate([corner, size]), float("nan"), TrackState.NORMAL if found else TrackState.NOT_FOUND)

    def _warped(self, frame: np.ndarray) -> np.ndarray:
        """Return the blue channel, from which OpenCV computes its features, warped by the box that was set."""
        blue: np.ndarray = cv2.extractChannel(frame, 2)
        if (self._scale == 1).all() and (self._shift == 0).all():
            return blue
        shift = self._shift + 0.5 * self._scale - 0.5  # from pixel edges to OpenCV's coordinates of pixel centers
        matrix = np.column_stack([np.diag(self._scale), shift])
        return cv2.warpAffine(blue, matrix, blue.shape[::-1], borderMode=cv2.BORDER_REPLICATE)


def load(request: TrackerRequest) -> LoadedTracker:  # noqa: ARG001 - the signature of `TrackerEntry.load`
    """Load MIL, which needs no files.

    Args:
        request: Request for the tracker.
    """
    return LoadedTracker(lambda _: MILTracker())


def _fit(box_xywh: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Return the box ``(4,)`` in whole pixels, moved and resized as little as OpenCV needs."""
    limit = np.array(image_size[::-1])
    size = np.clip(box_xywh[2:], _LEAST_SIDE, limit - 2 * _LEAST_BORDER)
    corner = np.clip(box_xywh[:2], 0, limit - size - _LEAST_BORDER)
    return np.concatenate([corner, size])
