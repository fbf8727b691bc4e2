"""Refinement of `supervision.Detections`: boxes of a detector, with the track ids of a multi-object tracker."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import cv2
import numpy as np

from alpharefine.boxes import is_valid, xywh_to_xyxy, xyxy_to_xywh
from alpharefine.inference.refiner import Refinement, Refiner, Template
from alpharefine.masks import MASK_THRESHOLD

if TYPE_CHECKING:
    from supervision import Detections

ChannelOrder = Literal["bgr", "rgb"]
"""Order of the channels of a frame."""


@dataclass
class _Track:
    """Template of a track.

    Attributes:
        template: Template, from the first frame of the track.
        last_seen: Number of the last frame with a detection of the track.
    """

    template: Template
    last_seen: int


class DetectionsRefiner:
    """Refines the detections of all tracks in a frame in one batch, and predicts their masks.

    The template of a track is taken from the first frame in which a detection has its id. It is dropped when the track
    has been absent for more than `max_age` frames. A detection keeps its box if it has no track (an id below 0, as
    trackers give it to unconfirmed detections), if its box lies outside of the frame or is not valid, or if the
    refinement fails.

    Args:
        refiner: Refiner. Its own target is neither used nor changed.
        mask: Predict masks. The network needs a mask head.
        channels: Order of the channels of the frames. OpenCV and `supervision` read ``bgr``.
        max_age: Number of consecutive frames without a detection of a track, after which its template is kept. Give
            the number of frames for which the tracker keeps a lost track.
        min_score: Minimum score of a refinement, in 0..1. A detection with a lower score keeps its box.
        mask_threshold: Probability above which a pixel belongs to the object.

    Raises:
        ValueError: If an argument is out of its range, or masks are requested from a network without a mask head.
    """

    def __init__(
        self,
        refiner: Refiner,
        *,
        mask: bool = True,
        channels: ChannelOrder = "bgr",
        max_age: int = 30,
        min_score: float = 0.0,
        mask_threshold: float = MASK_THRESHOLD,
    ) -> None:
        if mask and "mask" not in refiner.heads:
            raise ValueError(
                f"`mask` requires a network with a mask head, got one with {list(refiner.heads)}; give `mask=False`, "
                "or load another network."
            )
        if channels not in get_args(ChannelOrder):
            raise ValueError(f"`channels` must be one of {get_args(ChannelOrder)}, got {channels!r}.")
        if max_age < 0:
            raise ValueError(f"`max_age` must be at least 0, got {max_age}.")
        for name, value in (("min_score", min_score), ("mask_threshold", mask_threshold)):
            if not 0 <= value < 1:
                raise ValueError(f"`{name}` must be at least 0 and below 1, got {value}.")
        self._refiner, self._mask, self._channels = refiner, mask, channels
        self._max_age, self._min_score, self._mask_threshold = max_age, min_score, mask_threshold
        self.reset()

    def reset(self) -> None:
        """Drop all templates, before the first frame of another video."""
        self._tracks: dict[int, _Track] = {}
        self._frame_number = 0

    def update(self, frame: np.ndarray, detections: Detections) -> Detections:
        """Refine the detections of the next frame.

        Args:
            frame: Next frame, ``(H, W, 3)`` uint8. It is not changed.
            detections: N detections with `tracker_id`. They are not changed.

        Returns:
            The detections in the same order, with all their fields, and

            - `xyxy`: refined boxes, ``(N, 4)`` in image pixels.
            - `mask`: masks, ``(N, H, W)`` bool. A detection that is not refined keeps its mask, which is empty if the
              given detections have none. Without `mask`, the field is that of the given detections.
            - `data["refined"]`: True where the box was refined, ``(N,)`` bool.
            - `data["refinement_score"]`: score of the refinement in 0..1, ``(N,)`` float32; 0 without one.

        Raises:
            ValueError: If the frame is malformed, or the detections have no `tracker_id`, one id twice, or masks of
                another size.
        """
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"`frame` must be an (H, W, 3) uint8 image, got {frame.dtype} {frame.shape}; convert it.")
        size = frame.shape[:2]
        if self._mask and detections.mask is not None and detections.mask.shape[1:] != size:
            raise ValueError(
                f"`detections.mask` must have the size of the frame, {size}, got {detections.mask.shape[1:]}; give the "
                "masks of this frame, or none."
            )
        tracker_ids = _tracker_ids(detections)
        frame_rgb = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if self._channels == "bgr" else frame
        boxes_xywh = xyxy_to_xywh(np.asarray(detections.xyxy, dtype=np.float64))
        self._note_tracks(frame_rgb, boxes_xywh, tracker_ids)
        rows = [
            row
            for row, visible in enumerate(_are_visible(boxes_xywh, size))
            if visible and tracker_ids[row] in self._tracks
        ]
        refinements = self._refiner.refine_many(
            [frame_rgb] * len(rows),
            boxes_xywh[rows],
            [self._tracks[tracker_ids[row]].template for row in rows],
            self._mask,
        )
        return self._refined(detections, size, dict(zip(rows, refinements, strict=True)))

    def _note_tracks(self, frame_rgb: np.ndarray, boxes_xywh: np.ndarray, tracker_ids: list[int]) -> None:
        """Take templates of new tracks, and drop those of old ones."""
        visible = _are_visible(boxes_xywh, frame_rgb.shape[:2])
        self._frame_number += 1
        for row, tracker_id in enumerate(tracker_ids):
            if tracker_id in self._tracks:
                self._tracks[tracker_id].last_seen = self._frame_number
            elif tracker_id >= 0 and visible[row]:
                template = self._refiner.encode_template(frame_rgb, boxes_xywh[row])
                self._tracks[tracker_id] = _Track(template, self._frame_number)
        oldest = self._frame_number - self._max_age
        self._tracks = {key: track for key, track in self._tracks.items() if track.last_seen >= oldest}

    def _refined(
        self, detections: Detections, image_size: tuple[int, int], refinements: dict[int, Refinement]
    ) -> Detections:
        """Return the detections with the refinements of some rows."""
        count = len(detections)
        xyxy = np.array(detections.xyxy, dtype=np.result_type(detections.xyxy, np.float32))
        refined, scores = np.zeros(count, dtype=bool), np.zeros(count, dtype=np.float32)
        masks = np.zeros((count, *image_size), dtype=bool)
        if self._mask and detections.mask is not None:
            masks[:] = detections.mask
        for row, refinement in refinements.items():
            scores[row] = refinement.score
            if not refinement.refined or refinement.score < self._min_score:
                continue
            refined[row], xyxy[row] = True, xywh_to_xyxy(refinement.box_xywh)
            if refinement.mask is not None:
                masks[row] = refinement.mask > self._mask_threshold
        data = {**detections.data, "refined": refined, "refinement_score": scores}
        return replace(detections, xyxy=xyxy, mask=masks if self._mask else detections.mask, data=data)


def _tracker_ids(detections: Detections) -> list[int]:
    """Return the ids of the tracks, one a detection; below 0 without a track."""
    if len(detections) == 0:
        return []
    if detections.tracker_id is None:
        raise ValueError(
            "`detections` must have a `tracker_id`, got None; pass them through a tracker first, such as "
            "`trackers.ByteTrackTracker`."
        )
    ids = [int(each) for each in detections.tracker_id]
    tracked = [each for each in ids if each >= 0]
    if len(set(tracked)) < len(tracked):
        twice = next(each for each in tracked if tracked.count(each) > 1)
        raise ValueError(
            f"`detections.tracker_id` must differ within a frame, got {twice} twice; where each class has its own "
            "tracker, give it its own `DetectionsRefiner` too."
        )
    return ids


def _are_visible(boxes_xywh: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Test which boxes, ``(N, 4)``, are valid and overlap the image. Returns ``(N,)`` bool."""
    boxes_xyxy = xywh_to_xyxy(boxes_xywh)
    overlap = (boxes_xyxy[:, :2] < image_size[::-1]).all(-1) & (boxes_xyxy[:, 2:] > 0).all(-1)
    return np.asarray(is_valid(boxes_xywh) & overlap)
