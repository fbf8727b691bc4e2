"""Composition of the pairs that `DevicePairs` makes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from alpharefine.data.device_draws import Draws


@dataclass(frozen=True)
class BoxJitter:
    """Distribution of the errors of a base tracker's box. The errors of one box share a random factor.

    The defaults were fitted to NanoTrack's boxes on training videos with `benchmarks/tracker_errors.py`.

    Attributes:
        center: Standard deviation of the shift of the center along each axis, relative to the side of the box.
        scale: Standard deviation of the log of the scale of both sides.
        aspect: Standard deviation of half the log of the factor of the aspect ratio.
        spread: Standard deviation of the log of the shared factor, which is at most 2.5. 0 gives normal errors.
        limits: Largest absolute errors of center, scale and aspect, in the units of their deviations.
    """

    center: float = 0.085
    scale: float = 0.13
    aspect: float = 0.1
    spread: float = 0.5
    limits: tuple[float, float, float] = (0.4, 0.6, 0.45)

    def apply(self, boxes_xyxy: Tensor, generator: torch.Generator) -> Tensor:
        """Jitter boxes.

        Args:
            boxes_xyxy: Boxes of shape ``(B, 4)``, in pixels.
            generator: Random generator on the device of the boxes.

        Returns:
            Boxes of shape ``(B, 4)``, xyxy, with sides of at least 4 pixels. With the default limits, their centers are
            inside the given boxes.
        """
        draw, num = Draws(generator), len(boxes_xyxy)
        spread = draw.normal(num, 1, std=self.spread).exp().clamp(max=2.5)
        size = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
        center = (boxes_xyxy[:, 2:] + boxes_xyxy[:, :2]) / 2
        max_center, max_scale, max_aspect = self.limits
        scale = (draw.normal(num, 1, std=self.scale) * spread).clamp(-max_scale, max_scale)
        aspect = (draw.normal(num, 1, std=self.aspect) * spread).clamp(-max_aspect, max_aspect)
        shift = (draw.normal(num, 2, std=self.center) * spread).clamp(-max_center, max_center)
        half = (size * torch.cat([scale + aspect, scale - aspect], 1).exp()).clamp(min=4) / 2
        middle = center + shift * size
        return torch.cat([middle - half, middle + half], dim=1)


_FAR = (2.0, 1.2, 0.6)  # chosen by hand, as the errors below

DRIFT = BoxJitter(0.25, 0.4, 0.2, spread=0.0, limits=_FAR)
"""Errors of a tracker that drifts: the target is partly in the search region, or much smaller than expected."""

LOST = BoxJitter(0.9, 0.5, 0.25, spread=0.0, limits=_FAR)
"""Errors of a tracker that has lost its target: it is often outside of the search region."""


@dataclass(frozen=True)
class PairRecipe:
    """Composition of the pairs.

    Attributes:
        composite_share: Share of the pairs that are video made of pictures.
        max_gap: Maximum number of stored frames between template and search frame.
        search_jitter: Errors of the center box of the search region.
        drift_share: Share of the search boxes with the errors `DRIFT` in place of `search_jitter`.
        lost_share: Share of the search boxes with the errors `LOST` in place of `search_jitter`.
        template_jitter: Errors of the template box, for targets with a mask.
        template_jitter_prob: Probability of errors of the template box.
        occluder_prob: Probability of an occluder over a part of a composed target in the search frame.
        distractor_probs: Probabilities of a distractor in a composed template frame and search frame.
        same_distractor_prob: Probability that a distractor has the picture of the target.
        augment: Mirror crops, change their light, blur and compress them, and add noise.
    """

    composite_share: float = 0.6
    max_gap: int = 16
    search_jitter: BoxJitter = BoxJitter()
    drift_share: float = 0.0
    lost_share: float = 0.0
    template_jitter: BoxJitter = BoxJitter(0.03, 0.04, 0.03)
    template_jitter_prob: float = 0.5
    occluder_prob: float = 0.3
    distractor_probs: tuple[float, float] = (0.35, 0.65)
    same_distractor_prob: float = 0.4
    augment: bool = True

    def search_boxes(self, boxes_xyxy: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the center boxes of search regions.

        Args:
            boxes_xyxy: Boxes of the targets, ``(B, 4)`` in pixels.
            generator: Random generator on the device of the boxes.

        Returns:
            ``(B, 4)``, xyxy.
        """
        boxes = self.search_jitter.apply(boxes_xyxy, generator)
        if self.drift_share + self.lost_share > 0:
            which = Draws(generator).uniform(len(boxes), 1, low=0.0, high=1.0)
            drifting, lost = (jitter.apply(boxes_xyxy, generator) for jitter in (DRIFT, LOST))
            boxes = torch.where(which < self.drift_share + self.lost_share, drifting, boxes)
            boxes = torch.where(which < self.lost_share, lost, boxes)
        return boxes

    def for_validation(self) -> PairRecipe:
        """Return a recipe with the same search boxes, without changes of frames and templates."""
        return replace(self, composite_share=0.0, template_jitter_prob=0.0, augment=False)
