"""Optimizers of a filter: steepest descent with the step length that is optimal for a quadratic model.

An optimizer first computes maps ``(N, 1, M, h, w)`` of the desired scores of N samples from the targets' boxes, then
takes any number of steps. The maps of S targets are ``(N, S, M, h, w)``. No gradient graph is kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from alpharefine.trackers.dimp.filters import STRIDE, apply_filter, filter_gradient

_SMALLEST_CURVATURE = 1e-8
_SMALLEST_REG = 1e-3
_NUM_BINS, _BIN_WIDTH = 100, 0.1


class FilterOptimizer(nn.Module, ABC):
    """Base class of the optimizers."""

    @abstractmethod
    def maps(self, boxes_xywh: Tensor, map_side: int, filter_size: int, label_sigma: float) -> Tensor:
        """Return maps of the desired scores, ``(..., M, h, h)``.

        Args:
            boxes_xywh: Boxes of the targets, ``(..., 4)`` in crop pixels.
            map_side: Side h of the score maps in cells.
            filter_size: Side k of the filter in cells.
            label_sigma: Standard deviation of a Gaussian label in cells, for optimizers without a trained label.
        """

    @abstractmethod
    def step(self, filters: Tensor, features: Tensor, maps: Tensor, weights: Tensor) -> Tensor:
        """Return the filters ``(S, C, k, k)`` after one step.

        Args:
            filters: Filters before the step, ``(S, C, k, k)``.
            features: Feature maps, ``(N, S, C, H, W)``.
            maps: Maps of the desired scores, ``(N, S, M, h, w)``.
            weights: Weights of the samples, ``(N, S)``, with a sum of 1 over N.
        """

    def score_map(self, scores: Tensor) -> Tensor:
        """Return the map ``(N, S, h, w)`` whose peaks are located; by default the scores.

        Args:
            scores: Scores, ``(N, S, h, w)``.
        """
        return scores

    @torch.no_grad()
    def forward(
        self, filters: Tensor, features: Tensor, maps: Tensor, num_iterations: int, weights: Tensor | None = None
    ) -> Tensor:
        """Return the filters ``(S, C, k, k)`` after several steps.

        Args:
            filters: Filters before the steps, ``(S, C, k, k)``.
            features: Feature maps, ``(N, S, C, H, W)``.
            maps: Maps of the desired scores, ``(N, S, M, h, w)``.
            num_iterations: Number of steps.
            weights: Weights of the samples, ``(N, S)``; None for equal weights.
        """
        if weights is None:
            weights = features.new_full(features.shape[:2], 1 / len(features))
        for _ in range(num_iterations):
            filters = self.step(filters, features, maps, weights)
        return filters


class DiMPOptimizer(FilterOptimizer):
    """Gauss-Newton steps on a residual with trained label, mask and weight as functions of the distance to the target.

    Source: DiMP (arXiv 1904.07220), sections 3.1 to 3.3.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_step_length = nn.Parameter(torch.zeros(1))
        self.filter_reg = nn.Parameter(torch.zeros(1))
        self.label_map_predictor = nn.Conv2d(_NUM_BINS, 1, 1, bias=False)
        self.target_mask_predictor = nn.Sequential(nn.Conv2d(_NUM_BINS, 1, 1, bias=False), nn.Sigmoid())
        self.spatial_weight_predictor = nn.Conv2d(_NUM_BINS, 1, 1, bias=False)

    @torch.no_grad()
    def maps(self, boxes_xywh: Tensor, map_side: int, filter_size: int, label_sigma: float) -> Tensor:  # noqa: ARG002
        """Return label, mask and weight of each cell; see `FilterOptimizer.maps`.

        Args:
            boxes_xywh: Boxes of the targets, ``(..., 4)`` in crop pixels.
            map_side: Side h of the score maps in cells.
            filter_size: Side k of the filter in cells.
            label_sigma: Not used.
        """
        bins = distance_bins(distance_map(boxes_xywh, map_side, filter_size)).flatten(0, -4)
        predictors = (self.label_map_predictor, self.target_mask_predictor, self.spatial_weight_predictor)
        maps = torch.cat([predictor(bins) for predictor in predictors], dim=1)
        return maps.reshape(*boxes_xywh.shape[:-1], 3, map_side, map_side)

    def step(self, filters: Tensor, features: Tensor, maps: Tensor, weights: Tensor) -> Tensor:
        """Return the filters ``(S, C, k, k)`` after one step.

        Args:
            filters: Filters before the step, ``(S, C, k, k)``.
            features: Feature maps, ``(N, S, C, H, W)``.
            maps: Maps of the desired scores, ``(N, S, M, h, w)``.
            weights: Weights of the samples, ``(N, S)``, with a sum of 1 over N.
        """
        label, mask, spatial_weight = maps.unbind(dim=2)
        weight = spatial_weight * weights.sqrt()[..., None, None]
        regularization = self.filter_reg.square().clamp(min=_SMALLEST_REG**2)
        scores = apply_filter(features, filters)
        slope = leaky_slope(scores, mask)
        residuals = slope * weight.square() * (slope * scores - label)
        gradient = filter_gradient(features, residuals, filters.shape[-1]) + regularization * filters
        change = weight * slope * apply_filter(features, gradient)
        curvature = change.square().sum(dim=(0, 2, 3)) + regularization * _energy(gradient)
        return filters - _scaled(gradient, self.log_step_length.exp() * _best_step(gradient, curvature))


class PrDiMPOptimizer(FilterOptimizer):
    """Newton steps on the divergence between the softmax of the scores and a density around the target.

    The names of the arguments are those in the authors' files.

    Source: PrDiMP (arXiv 2003.12565), section 4.

    Args:
        gauss_sigma: Standard deviation of the density in cells.
        min_filter_reg: Minimum regularization of the filter.
        alpha_eps: Additional curvature, which shortens the steps.
        normalize_label: Normalizes the density to a sum of 1.
        uni_weight: Weight of a uniform density.
        label_shrink: Fraction by which the density is reduced.
        softmax_reg: Logit of an additional class; None for no such class.
        label_threshold: Density below which a cell is set to zero.
    """

    def __init__(
        self,
        gauss_sigma: float = 0.9,
        min_filter_reg: float = 0.05,
        alpha_eps: float = 0.05,
        normalize_label: bool = True,
        uni_weight: float = 0.0,
        label_shrink: float = 0.0,
        softmax_reg: float | None = None,
        label_threshold: float = 0.0,
    ) -> None:
        super().__init__()
        self.log_step_length = nn.Parameter(torch.zeros(1))
        self.filter_reg = nn.Parameter(torch.zeros(1))
        self.gauss_sigma, self.min_filter_reg, self.alpha_eps = gauss_sigma, min_filter_reg, alpha_eps
        self.normalize_label, self.uni_weight, self.label_shrink = normalize_label, uni_weight, label_shrink
        self.softmax_reg, self.label_threshold = softmax_reg, label_threshold

    @torch.no_grad()
    def maps(self, boxes_xywh: Tensor, map_side: int, filter_size: int, label_sigma: float) -> Tensor:  # noqa: ARG002
        """Return the density at each cell; see `FilterOptimizer.maps`.

        Args:
            boxes_xywh: Boxes of the targets, ``(..., 4)`` in crop pixels.
            map_side: Side h of the score maps in cells.
            filter_size: Side k of the filter in cells.
            label_sigma: Not used.
        """
        distance = distance_map(boxes_xywh, map_side, filter_size)
        variance = self.gauss_sigma**2
        density = torch.exp(-distance.square() / (2 * variance)) / (2 * torch.pi * variance)
        density = density.where(density > self.label_threshold, 0)
        if self.normalize_label:
            density = density / (density.sum(dim=(-2, -1), keepdim=True) + 1e-8)
        uniform = self.uni_weight / map_side**2
        density = (1 - self.label_shrink) * ((1 - self.uni_weight) * density + uniform)
        return density[..., None, :, :]

    def score_map(self, scores: Tensor) -> Tensor:
        """Return the softmax over the cells and the additional class.

        Args:
            scores: Scores, ``(N, S, h, w)``.
        """
        logits = scores.flatten(-2)
        if self.softmax_reg is not None:
            logits = torch.cat([logits, logits.new_full((*logits.shape[:-1], 1), self.softmax_reg)], dim=-1)
        probs: Tensor = logits.softmax(dim=-1)[..., : scores[0, 0].numel()]
        return probs.reshape(scores.shape)

    def step(self, filters: Tensor, features: Tensor, maps: Tensor, weights: Tensor) -> Tensor:
        """Return the filters ``(S, C, k, k)`` after one step.

        Args:
            filters: Filters before the step, ``(S, C, k, k)``.
            features: Feature maps, ``(N, S, C, H, W)``.
            maps: Maps of the desired scores, ``(N, S, M, h, w)``.
            weights: Weights of the samples, ``(N, S)``, with a sum of 1 over N.
        """
        density = maps.squeeze(2)
        regularization = self.filter_reg.square().clamp(min=self.min_filter_reg**2)
        prob = self.score_map(apply_filter(features, filters))
        residuals = weights[..., None, None] * (prob - density)
        gradient = filter_gradient(features, residuals, filters.shape[-1]) + regularization * filters
        change = apply_filter(features, gradient)
        weighted = prob * change
        hessian = weighted - prob * weighted.sum(dim=(2, 3), keepdim=True)
        quadratic = (weights * (change * hessian).sum(dim=(2, 3)).clamp(min=0)).sum(dim=0)
        curvature = quadratic + (regularization + self.alpha_eps) * _energy(gradient)
        return filters - _scaled(gradient, self.log_step_length.exp() * _best_step(gradient, curvature))


class HingeOptimizer(FilterOptimizer):
    """Gauss-Newton steps on a hinge residual with a Gaussian label, as in SuperDiMPSimple.

    Args:
        hinge_threshold: Label above which a cell belongs to the target.
        activation_leak: Slope of the negative scores of the other cells.
    """

    def __init__(self, hinge_threshold: float = 0.05, activation_leak: float = 0.1) -> None:
        super().__init__()
        self.residual_module = nn.ParameterDict({"filter_reg": nn.Parameter(torch.zeros(1))})
        self.hinge_threshold, self.activation_leak = hinge_threshold, activation_leak

    @torch.no_grad()
    def maps(self, boxes_xywh: Tensor, map_side: int, filter_size: int, label_sigma: float) -> Tensor:
        """Return a Gaussian label; see `FilterOptimizer.maps`.

        Args:
            boxes_xywh: Boxes of the targets, ``(..., 4)`` in crop pixels.
            map_side: Side h of the score maps in cells.
            filter_size: Side k of the filter in cells.
            label_sigma: Standard deviation of the label in cells.
        """
        distance = distance_map(boxes_xywh, map_side, filter_size)
        return torch.exp(-distance.square() / (2 * label_sigma**2))[..., None, :, :]

    def step(self, filters: Tensor, features: Tensor, maps: Tensor, weights: Tensor) -> Tensor:
        """Return the filters ``(S, C, k, k)`` after one step.

        Args:
            filters: Filters before the step, ``(S, C, k, k)``.
            features: Feature maps, ``(N, S, C, H, W)``.
            maps: Maps of the desired scores, ``(N, S, M, h, w)``.
            weights: Weights of the samples, ``(N, S)``, with a sum of 1 over N.
        """
        label = maps.squeeze(2)
        mask = ((label > self.hinge_threshold).to(label) + self.activation_leak).clamp(max=1)
        weight = weights[..., None, None]
        regularization = self.residual_module["filter_reg"].square()
        scores = apply_filter(features, filters)
        slope = leaky_slope(scores, mask)
        residuals = slope * weight * (slope * scores - mask * label)
        gradient = filter_gradient(features, residuals, filters.shape[-1]) + regularization * filters
        change = weight * (slope * apply_filter(features, gradient)).square()
        curvature = change.sum(dim=(0, 2, 3)) + regularization * _energy(gradient)
        return filters - _scaled(gradient, _best_step(gradient, curvature))


def distance_map(boxes_xywh: Tensor, map_side: int, filter_size: int) -> Tensor:
    """Return the distance of each cell of a score map from the center of a box.

    Args:
        boxes_xywh: Boxes, ``(..., 4)`` in crop pixels.
        map_side: Side h of the score map in cells.
        filter_size: Side k of the filter in cells.

    Returns:
        Distances in cells, ``(..., h, h)``.
    """
    center = (boxes_xywh[..., :2] + boxes_xywh[..., 2:] / 2) / STRIDE - (filter_size % 2) / 2
    cells = torch.arange(map_side, dtype=boxes_xywh.dtype, device=boxes_xywh.device)
    dx, dy = (cells - center[..., i, None] for i in range(2))
    return (dy.square()[..., :, None] + dx.square()[..., None, :]).sqrt()


def distance_bins(distance: Tensor) -> Tensor:
    """Evaluate triangular basis functions at multiples of a tenth of a cell; the last one stays 1 beyond its center.

    Args:
        distance: Distances in cells, ``(..., h, w)``.

    Returns:
        Values of the basis functions, ``(..., 100, h, w)``.
    """
    bins = torch.arange(_NUM_BINS, dtype=distance.dtype, device=distance.device)[:, None, None]
    offset = distance[..., None, :, :] / _BIN_WIDTH - bins
    values = (1 - offset.abs()).clamp(min=0)
    values[..., -1, :, :] = (1 + offset[..., -1, :, :]).clamp(0, 1)
    return values


def leaky_slope(scores: Tensor, leak: Tensor) -> Tensor:
    """Return the slope of a leaky activation: 1 at positive scores, the leak at negative scores.

    Args:
        scores: Scores of any shape.
        leak: Slope at negative scores, of the same shape.
    """
    return (1 - leak) / 2 * scores.sign() + (1 + leak) / 2


def _energy(filters: Tensor) -> Tensor:
    return filters.square().sum(dim=(1, 2, 3))


def _best_step(gradient: Tensor, curvature: Tensor) -> Tensor:
    return _energy(gradient) / curvature.clamp(min=_SMALLEST_CURVATURE)


def _scaled(gradient: Tensor, step: Tensor) -> Tensor:
    return step[:, None, None, None] * gradient
