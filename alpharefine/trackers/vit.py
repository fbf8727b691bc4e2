"""VitTrack: a one-stream transformer tracker.

The network was trained as OSTrack was (Ye et al., ECCV 2022, arXiv 2203.11991): square crops around the last box, RGB
with ImageNet's mean and standard deviation, and a Hann window on the score map. `cv2.TrackerVit` prepares the crops in
another way, which costs accuracy; `alpharefine.trackers.vit_opencv` has its boxes.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from alpharefine.crops import Window
from alpharefine.trackers.base import Track, Tracker, TrackState
from alpharefine.trackers.entry import LoadedTracker, TrackerRequest
from alpharefine.trackers.onnx_networks import load_onnx

ROLES = ("vittrack",)
"""Roles of the ONNX files, in order."""

TEMPLATE_SIZE = 128
"""Side of the template crop in pixels."""

TEMPLATE_FACTOR = 2
"""Ratio of the side of the template crop to the geometric mean of the sides of the box."""

SEARCH_SIZE = 256
"""Side of the search crop in pixels."""

SEARCH_FACTOR = 4
"""Ratio of the side of the search crop to the geometric mean of the sides of the box."""

MEAN = np.array([0.485, 0.456, 0.406]) * 255
"""ImageNet's mean of red, green and blue."""

STD = np.array([0.229, 0.224, 0.225]) * 255
"""ImageNet's standard deviation of red, green and blue."""

_GRID = 16


class Cell(NamedTuple):
    """Cell of the score map with the highest score, and its box.

    Attributes:
        score: Score in 0..1, weighted by the Hann window.
        center: Center x and y of the box as fractions of the side of the search crop, ``(2,)``.
        size: Width and height of the box as fractions of the side of the search crop, ``(2,)``.
    """

    score: float
    center: np.ndarray
    size: np.ndarray


class VitNetwork:
    """Network of VitTrack with the template of one target.

    Args:
        network: Network that maps the crops `template` and `search` to a score map, a size map and an offset map.
        mean: Mean that is subtracted from each channel, ``(3,)``.
        scale: Factor of each channel, ``(3,)``.
    """

    def __init__(self, network: cv2.dnn.Net, mean: np.ndarray, scale: np.ndarray) -> None:
        self._network = network
        hann = np.hanning(_GRID + 2)[1:-1].astype(np.float32)
        self._window = np.outer(hann, hann)
        self._normalization = cv2.dnn.Image2BlobParams()
        self._normalization.mean = tuple(mean)
        self._normalization.scalefactor = tuple(scale)

    def set_template(self, crop: np.ndarray) -> None:
        """Keep the template for all searches that follow.

        Args:
            crop: Template crop, ``(128, 128, 3)`` uint8.
        """
        self._network.setInput(cv2.dnn.blobFromImageWithParams(crop, self._normalization), "template")

    def search(self, crop: np.ndarray) -> Cell:
        """Return the best cell of a search crop.

        Args:
            crop: Search crop, ``(256, 256, 3)`` uint8.
        """
        self._network.setInput(cv2.dnn.blobFromImageWithParams(crop, self._normalization), "search")
        scores, sizes, offsets = self._network.forward(["output1", "output2", "output3"])
        ranking = scores.reshape(_GRID, _GRID) * self._window
        row, column = np.unravel_index(ranking.argmax(), ranking.shape)
        center = (offsets.reshape(2, _GRID, _GRID)[:, row, column] + np.array([column, row], np.float32)) / _GRID
        return Cell(float(ranking[row, column]), center, sizes.reshape(2, _GRID, _GRID)[:, row, column])


class VitTracker(Tracker):
    """VitTrack in one sequence.

    Args:
        network: Network that maps the crops `template` and `search` to a score map, a size map and an offset map.
    """

    def __init__(self, network: cv2.dnn.Net) -> None:
        self._network = VitNetwork(network, MEAN, 1 / STD)

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Learn the target from the first frame.

        Args:
            frame: First frame, ``(H, W, 3)`` RGB uint8.
            box_xywh: Box of the target, ``(4,)`` in image pixels.
        """
        self.set_box(box_xywh)
        self._network.set_template(self._window(TEMPLATE_FACTOR).cut(frame, TEMPLATE_SIZE))

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Replace the last box; the template does not change.

        Args:
            box_xywh: Box of the target, ``(4,)`` in image pixels.
        """
        self._box_xywh = np.array(box_xywh, dtype=np.float64)

    def track(self, frame: np.ndarray) -> Track:
        """Locate the target in the next frame.

        Deviation: OpenCV keeps the last box where the score is below 0.2.

        Args:
            frame: Next frame, ``(H, W, 3)`` RGB uint8.
        """
        window = self._window(SEARCH_FACTOR)
        cell = self._network.search(window.cut(frame, SEARCH_SIZE))
        center = cell.center * window.width + np.array([window.x0, window.y0])
        self._box_xywh = _limited(center, cell.size * window.width, frame.shape[:2])
        return Track(self._box_xywh.copy(), cell.score, TrackState.NORMAL)

    def _window(self, factor: int) -> Window:
        """Return the square window around the last box with the area of the box times the square of `factor`."""
        side = np.sqrt(self._box_xywh[2:].prod())
        corner = self._box_xywh[:2] + 0.5 * (self._box_xywh[2:] - side)
        return Window.around(np.array([*corner, side, side]), factor)


def load(request: TrackerRequest) -> LoadedTracker:
    """Read and check the network of VitTrack.

    Args:
        request: Request with the ONNX file.

    Raises:
        UserError: If the file is missing or unreadable, or holds another network.
    """
    return load_onnx(request, VitTracker, ROLES)


def _limited(center: np.ndarray, size: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Return a box ``(4,)`` whose center is in the image and whose sides are between 1 px and those of the image."""
    limit = np.array(image_size[::-1], dtype=np.float64)
    size = np.clip(size, 1, limit)
    return np.concatenate([np.clip(center, 0, limit) - 0.5 * size, size])
