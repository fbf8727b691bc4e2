"""Localization of the target in a score map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from alpharefine.trackers.base import TrackState


@dataclass(frozen=True)
class Thresholds:
    """Thresholds on the peaks of a score map.

    Attributes:
        target_not_found_threshold: Score below which the target is not found.
        distractor_threshold: Fraction of the first peak above which a second peak is a distractor.
        hard_negative_threshold: Fraction of the first peak above which a second peak makes the sample a hard negative.
        target_neighborhood_scale: Side of the neighborhood of the first peak, in target sizes.
        displacement_scale: Maximum length of a small displacement, in half sides of the map.
        uncertain_threshold: Score below which the state is uncertain; None for none.
        hard_sample_threshold: Score below which the sample is a hard negative; None for none.
    """

    target_not_found_threshold: float
    distractor_threshold: float = 0.8
    hard_negative_threshold: float = 0.5
    target_neighborhood_scale: float = 2.2
    displacement_scale: float = 0.8
    uncertain_threshold: float | None = None
    hard_sample_threshold: float | None = None


class Localization(NamedTuple):
    """Position of the target.

    Attributes:
        translation_yx: Translation from the middle of the crop, ``(2,)`` float32 in image pixels.
        state: State of the tracker.
        max_score: Maximum of the score map.
    """

    translation_yx: np.ndarray
    state: TrackState
    max_score: float


def localize(
    scores: np.ndarray,
    middle: float,
    cell: np.float32,
    last_yx: np.ndarray,
    neighborhood_hw: np.ndarray,
    thresholds: Thresholds,
) -> Localization:
    """Locate the peak of a score map, and classify it by the highest score outside its neighborhood.

    Args:
        scores: Score map, ``(n, n)`` float32.
        middle: Index of the cell, along both axes, at the middle of the crop.
        cell: Image pixels per cell.
        last_yx: Last position of the target, ``(2,)`` in cells from the middle of the crop.
        neighborhood_hw: Size of the target in cells times `Thresholds.target_neighborhood_scale`, ``(2,)``.
        thresholds: Thresholds on the peaks.
    """
    peak_yx, peak = _maximum(scores)
    first_yx: np.ndarray = (peak_yx - middle).astype(np.float32)
    translation: np.ndarray = first_yx * cell

    def found(state: TrackState, translation_yx: np.ndarray = translation) -> Localization:
        return Localization(translation_yx, state, float(peak))

    if peak < thresholds.target_not_found_threshold:
        return found(TrackState.NOT_FOUND)
    if thresholds.uncertain_threshold is not None and peak < thresholds.uncertain_threshold:
        return found(TrackState.UNCERTAIN)
    if thresholds.hard_sample_threshold is not None and peak < thresholds.hard_sample_threshold:
        return found(TrackState.HARD_NEGATIVE)

    rival_at, rival = _maximum(_without(scores, peak_yx, neighborhood_hw))
    rival_yx: np.ndarray = (rival_at - middle).astype(np.float32)
    if rival > np.float32(thresholds.distractor_threshold) * peak:
        near = thresholds.displacement_scale * len(scores) / 2
        first_is_near = np.sqrt(np.square(first_yx - last_yx).sum()) < near
        rival_is_near = np.sqrt(np.square(rival_yx - last_yx).sum()) < near
        if first_is_near and not rival_is_near:
            return found(TrackState.HARD_NEGATIVE)
        if rival_is_near and not first_is_near:
            return found(TrackState.HARD_NEGATIVE, rival_yx * cell)
        return found(TrackState.UNCERTAIN)
    is_hard = rival > np.float32(thresholds.hard_negative_threshold) * peak
    if is_hard and rival > thresholds.target_not_found_threshold:
        return found(TrackState.HARD_NEGATIVE)
    return found(TrackState.NORMAL)


def _maximum(scores: np.ndarray) -> tuple[np.ndarray, np.float32]:
    at = np.array(np.unravel_index(scores.argmax(), scores.shape))
    return at, scores[tuple(at)]


def _without(scores: np.ndarray, peak_yx: np.ndarray, neighborhood_hw: np.ndarray) -> np.ndarray:
    half = neighborhood_hw / 2
    top, left = np.maximum(np.rint(peak_yx - half), 0).astype(int)
    bottom, right = np.minimum(np.rint(peak_yx + half + 1), len(scores)).astype(int)
    rest = scores.copy()
    rest[top:bottom, left:right] = 0
    return rest
