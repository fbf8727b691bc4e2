"""MIL: OpenCV's tracker with a classifier that is learned online (Babenko et al., CVPR 2009). It needs no weights.

`cv2.TrackerMIL` searches about its own last box, whose size never changes, and has no way to be told of another. So
the picture is moved under the box instead: after `set_box` each frame is warped such that the new box lies where the
classifier's own one is, at its size. The classifier itself is left as it is.
"""

from __future__ import annotations

import ctypes

import cv2
import numpy as np

from alpharefine.errors import UserError
from alpharefine.trackers.base import Track, Tracker, TrackState
from alpharefine.trackers.entry import LoadedTracker, TrackerRequest

SEED = 0
"""Of the features that the classifier chooses from, the same for every sequence."""

_LEAST_SIDE = 8  # px; the search for random features inside of a box under 5 px never ends in OpenCV
_LEAST_FRAME = 24  # px
_LEAST_BORDER = 8  # px between the box and a border, without which there is no background to learn from


class MILTracker(Tracker):
    """`cv2.TrackerMIL` with a box that can be set. Its classifier is random but seeded: a run can be repeated."""

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Learn the target from its box in the first frame, rounded to whole pixels.

        Deviation: OpenCV fails where the box is tiny, reaches out of the picture or fills it; here the picture is
        warped such that the box fits.

        Raises:
            UserError: if the frame is smaller than 24 px a side.
        """
        if min(frame.shape[:2]) < _LEAST_FRAME:
            raise UserError(f"--tracker mil needs frames of {_LEAST_FRAME} px a side, got {frame.shape[1::-1]}.")
        box = np.asarray(box_xywh, dtype=np.float64)
        whole = np.rint(box).astype(np.int64)
        self._own_box = _fit(whole, frame.shape[:2])
        self._scale, self._shift = np.ones(2), np.zeros(2)
        if (self._own_box != whole).any():
            self.set_box(box)
        cv2.setRNGSeed(SEED)
        ctypes.CDLL(None).srand(SEED)  # OpenCV draws the features by the C library's `rand`
        self._mil = cv2.TrackerMIL.create()
        self._mil.init(self._warped(frame), tuple(self._own_box.tolist()))

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Search about this box and at its size from now on; the classifier stays as it is."""
        box = np.asarray(box_xywh, dtype=np.float64)
        self._scale = self._own_box[2:] / box[2:]
        self._shift = self._own_box[:2] - self._scale * box[:2]

    def track(self, frame: np.ndarray) -> Track:
        """Find the target in the next frame; the size is that of the first box or of the one last set."""
        found, own_box = self._mil.update(self._warped(frame))
        if found:
            self._own_box = np.array(own_box)
        corner, size = (self._own_box[:2] - self._shift) / self._scale, self._own_box[2:] / self._scale
        return Track(np.concatenate([corner, size]), float("nan"), TrackState.NORMAL if found else TrackState.NOT_FOUND)

    def _warped(self, frame: np.ndarray) -> np.ndarray:
        """The blue channel, the one that OpenCV's features are made of, with the set box where the classifier's is."""
        blue: np.ndarray = cv2.extractChannel(frame, 2)
        if (self._scale == 1).all() and (self._shift == 0).all():
            return blue
        shift = self._shift + 0.5 * self._scale - 0.5  # from pixel borders to the pixel centers that OpenCV counts in
        matrix = np.column_stack([np.diag(self._scale), shift])
        return cv2.warpAffine(blue, matrix, blue.shape[::-1], borderMode=cv2.BORDER_REPLICATE)


def load(request: TrackerRequest) -> LoadedTracker:  # noqa: ARG001 - the signature of `TrackerEntry.load`
    """Load MIL, which needs no files.

    Args:
        request: Request for the tracker.
    """
    return LoadedTracker(lambda _: MILTracker())


def _fit(box_xywh: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """The box ``(4,)`` on whole pixels, moved and resized no more than OpenCV needs to learn it."""
    limit = np.array(image_size[::-1])
    size = np.clip(box_xywh[2:], _LEAST_SIDE, limit - 2 * _LEAST_BORDER)
    corner = np.clip(box_xywh[:2], 0, limit - size - _LEAST_BORDER)
    return np.concatenate([corner, size])
