"""SiamRPN++ (arXiv 1812.11703), short-term and long-term, with the boxes and scores of pysot's trackers.

Steps and constants are those of the published configurations. Unlike in pysot, the box can be set without a new
template. The features of the template are computed once per sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor

import cv2
import numpy as np
import torch
from torch import Tensor

from alpharefine.models.device import select_device
from alpharefine.trackers.base import Track, Tracker, TrackState
from alpharefine.trackers.entry import LoadedTracker, TrackerRequest
from alpharefine.trackers.siamese import AnchorGrid, context_side, cut_square, limit_box
from alpharefine.trackers.siamrpnpp.loading import load_network
from alpharefine.trackers.siamrpnpp.network import SiamRPNpp
from alpharefine.trackers.siamrpnpp.variants import TEMPLATE_SIZE, VARIANTS, Variant

_LEAST_SIDE = 1.0


def cut_around(frame: np.ndarray, center: np.ndarray, side: int, crop_size: int, color: Sequence[float]) -> np.ndarray:
    """Crop a square around a point, as pysot does.

    Args:
        frame: Frame, ``(H, W, 3)`` uint8.
        center: Center x and y, ``(2,)`` in image pixels.
        side: Side of the square in image pixels.
        crop_size: Side of the result in pixels.
        color: Color of the pixels outside the frame, truncated to integers.

    Returns:
        Crop, ``(crop_size, crop_size, 3)`` uint8.
    """
    x0, y0 = (floor(v - 0.5 * (side + 1) + 0.5) for v in center)
    return cut_square(frame, x0, y0, side, crop_size, [int(v) for v in color[:3]])


class SiamRPNppTracker(Tracker):
    """SiamRPN++ in one sequence.

    Args:
        network: Network in evaluation mode; it is not changed and may be shared.
        variant: Constants of the tracker.
    """

    def __init__(self, network: SiamRPNpp, variant: Variant) -> None:
        self._network = network
        self._device = next(network.parameters()).device
        self._variant = variant
        self._grids: dict[int, AnchorGrid] = {}

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Learn the target from the first frame.

        Args:
            frame: First frame, ``(H, W, 3)`` RGB uint8.
            box_xywh: Box of the target, ``(4,)`` in image pixels.
        """
        self.set_box(box_xywh)
        self._is_lost = False
        self._color = cv2.mean(frame)
        crop = self._crop(frame, round(context_side(self._size)), TEMPLATE_SIZE)
        with torch.inference_mode():
            self._template = self._network.encode_template(crop)

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Replace the last box; the template does not change.

        Deviation: the sides are at least 1 px, because no region can be searched around a box without extent.

        Args:
            box_xywh: Box of the target, ``(4,)`` in image pixels.
        """
        box = np.asarray(box_xywh, dtype=np.float64)
        self._center, self._size = box[:2] + 0.5 * box[2:], np.maximum(box[2:], _LEAST_SIDE)

    def track(self, frame: np.ndarray) -> Track:
        """Locate the target in the next frame. If the long-term tracker does not find it, the last box is returned.

        Args:
            frame: Next frame, ``(H, W, 3)`` RGB uint8.
        """
        variant, lost = self._variant, self._variant.lost
        search_size, window_influence = variant.search_size, variant.window_influence
        if lost is not None and self._is_lost:
            search_size, window_influence = lost.search_size, lost.window_influence
        side = context_side(self._size)
        scale = TEMPLATE_SIZE / side
        outputs = self._search(self._crop(frame, round(side * search_size / TEMPLATE_SIZE), search_size))
        candidate = self._grid(search_size).best(*outputs, self._size * scale, variant.penalty, window_influence)

        found = lost is None or candidate.score >= lost.low_score
        if found:
            rate = candidate.penalty * candidate.score * variant.rate
            self._center = self._center + candidate.shift / scale
            self._size = self._size * (1 - rate) + candidate.size / scale * rate
        center, size = limit_box(self._center, self._size, frame.shape[:2])
        if lost is None:
            self._center, self._size = center, size
        else:  # continues from the box before it is limited to the image
            self._is_lost = not found or (self._is_lost and candidate.score <= lost.high_score)
        state = TrackState.UNCERTAIN if self._is_lost else TrackState.NORMAL
        return Track(
            np.concatenate([center - 0.5 * size, size]), candidate.score, state if found else TrackState.NOT_FOUND
        )

    def _crop(self, frame: np.ndarray, side: int, crop_size: int) -> Tensor:
        """Return a BGR crop ``(1, 3, m, m)`` on the network's device."""
        crop = cut_around(frame, self._center, side, crop_size, self._color)
        return torch.from_numpy(crop).to(self._device).permute(2, 0, 1)[None].flip(1).float()

    def _search(self, crop: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return logits ``(2, 5, S, S)`` and deltas ``(4, 5, S, S)``, copied from the device at once."""
        with torch.inference_mode():
            maps = self._network.search(crop, self._template)[0].cpu().numpy()
        channels = maps.reshape(6, -1, *maps.shape[1:])
        return channels[:2], channels[2:]

    def _grid(self, search_size: int) -> AnchorGrid:
        if search_size not in self._grids:
            hann = np.hanning(self._variant.score_size(search_size))
            self._grids[search_size] = AnchorGrid(np.outer(hann, hann))
        return self._grids[search_size]


def load(request: TrackerRequest) -> LoadedTracker:
    """Read the network of a tracker, once for all sequences.

    Args:
        request: Request with the name of one of `VARIANTS` and its authors' file.

    Raises:
        UserError: If the file cannot be read or is not of this tracker.
    """
    (path,), device = request.weights, request.device
    network, variant = load_network(request.name, path), VARIANTS[request.name]
    network.to(select_device(device))
    return LoadedTracker(lambda _: SiamRPNppTracker(network, variant))
