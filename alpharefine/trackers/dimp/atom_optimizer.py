"""How ATOM's classifier is learned: Gauss-Newton steps, each of them solved by conjugate gradients.

The classifier is a projection of the features' channels, a filter over those, and an activation. Projection and filter
are linear, so both together are one filter over the features, ``projection^T filter``, and their derivatives follow
from that filter's by the product rule. So neither the projected features nor a gradient with respect to them is ever
needed: a product with the Jacobian, and one with its transpose, is a matrix product over all samples each.

Source: ATOM (arXiv 1811.07628), section 3.2 and supplementary material, section S1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from alpharefine.trackers.dimp.filters import apply_filter, filter_gradient

_LEAST_RESPONSE = 0.05
"""Negative scores saturate at minus this."""


class Samples(NamedTuple):
    """What a classifier is learned from.

    Attributes:
        features: ``(N, C, H, W)``.
        labels: ``(N, H, W)``, what the activated scores should be.
        weights: ``(N,)``, of the squared differences.
    """

    features: Tensor
    labels: Tensor
    weights: Tensor


class Classifier(NamedTuple):
    """Two linear layers.

    Attributes:
        projection: ``(c, C)``, of the channels.
        filters: ``(1, c, k, k)``.
    """

    projection: Tensor
    filters: Tensor


class Regularization(NamedTuple):
    """Weights of the squared parameters."""

    projection: float
    filters: float


def project(features: Tensor, projection: Tensor) -> Tensor:
    """Features ``(N, C, H, W)`` with the channels ``(N, c, H, W)`` that a projection ``(c, C)`` makes of them."""
    return (projection @ features.flatten(2)).reshape(len(features), len(projection), *features.shape[2:])


def filter_scores(features: Tensor, filters: Tensor) -> Tensor:
    """Scores ``(N, H, W)`` of a filter ``(1, C, k, k)`` on features ``(N, C, H, W)``.

    For even k they have a row and a column less than those of `apply_filter`, at their end.
    """
    return apply_filter(features[:, None], filters)[:, 0, : features.shape[2], : features.shape[3]]


def joint_step(
    samples: Samples, classifier: Classifier, regularization: Regularization, num_iterations: int
) -> Classifier:
    """One Gauss-Newton step for both layers.

    Args:
        samples: with the features that are projected.
        classifier: to improve.
        regularization: of both layers, which is the preconditioner too.
        num_iterations: of conjugate gradients.
    """
    layers, (projection, filters) = _Layers(classifier), classifier
    fit = _Linearized(samples, layers.whole)
    weight = torch.cat(
        [
            torch.full_like(projection, regularization.projection).flatten(),
            torch.full_like(filters, regularization.filters).flatten(),
        ]
    )
    point = torch.cat([projection.flatten(), filters.flatten()])
    change = ConjugateGradient("fletcher_reeves").solve(
        lambda x: layers.transposed(fit.normal_product(layers.change(x))) + weight * x,
        -layers.transposed(fit.gradient) - weight * point,
        num_iterations,
        weight,
    )
    better_projection, better_filters = layers.split(point + change)
    return Classifier(better_projection, better_filters.view_as(filters))


def filter_step(
    samples: Samples, filters: Tensor, regularization: float, search: ConjugateGradient, num_iterations: int
) -> Tensor:
    """One Gauss-Newton step for a filter ``(1, c, k, k)`` alone.

    Args:
        samples: with features that are projected already.
        filters: to improve.
        regularization: of the filter.
        search: solves for the step; may remember the last one's direction.
        num_iterations: of conjugate gradients.
    """
    fit = _Linearized(samples, filters)
    change = search.solve(
        lambda x: fit.normal_product(x.view_as(filters)).flatten() + regularization * x,
        (-fit.gradient - regularization * filters).flatten(),
        num_iterations,
    )
    return filters + change.view_as(filters)


class ConjugateGradient:
    """Solves ``A x = b`` for a symmetric positive A that is known by its products with vectors.

    Args:
        formula: by which the next direction is made conjugate.
        forgetting_factor: None if each solution begins anew; else it goes on from the last one's direction, the more so
            the nearer this is to 1.
    """

    def __init__(
        self, formula: Literal["fletcher_reeves", "polak_ribiere"], forgetting_factor: float | None = None
    ) -> None:
        self._formula, self._forgetting_factor = formula, forgetting_factor
        self._direction: Tensor | None = None
        self._last_residual = self._last_energy = torch.zeros(())

    def solve(
        self,
        product: Callable[[Tensor], Tensor],
        right: Tensor,
        num_iterations: int,
        preconditioner: Tensor | None = None,
    ) -> Tensor:
        """An approximate solution.

        Args:
            product: A times a vector.
            right: ``(n,)``, b.
            num_iterations: how many; with the exact solution the rest of them change nothing.
            preconditioner: ``(n,)``, a diagonal matrix near A; None for the identity.

        Returns:
            ``(n,)``.
        """
        if self._forgetting_factor is None:
            self._direction = None
        elif self._direction is not None:
            self._last_energy = self._last_energy / self._forgetting_factor
        solution, residual = torch.zeros_like(right), right
        for _ in range(num_iterations):
            scaled = residual if preconditioner is None else residual / preconditioner
            energy = residual @ scaled
            direction = self._next_direction(scaled, energy)
            image = product(direction)
            step = _ratio(energy, direction @ image)
            solution = solution + step * direction
            self._direction, self._last_energy, self._last_residual = direction, energy, residual
            residual = residual - step * image
        return solution

    def _next_direction(self, scaled: Tensor, energy: Tensor) -> Tensor:
        if self._direction is None:
            return scaled
        gain = energy if self._formula == "fletcher_reeves" else energy - self._last_residual @ scaled
        return scaled + _ratio(gain, self._last_energy).clamp(min=0) * self._direction


class _Layers:
    """Both layers as the one filter that they are together, and that filter's first derivative.

    Attributes:
        whole: ``(1, C, k, k)``.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._projection, self._taps = classifier.projection, classifier.filters[0].flatten(1)  # (c, C), (c, k*k)
        self._size = classifier.filters.shape[-1]
        self.whole = self._unflattened(self._projection.T @ self._taps)

    def change(self, point: Tensor) -> Tensor:
        """Of the whole filter, with the change ``(c*C + c*k*k,)`` of the layers."""
        projection, taps = self.split(point)
        return self._unflattened(self._projection.T @ taps + projection.T @ self._taps)

    def transposed(self, gradient: Tensor) -> Tensor:
        """The gradient ``(c*C + c*k*k,)`` with respect to the layers, from the whole filter's."""
        taps = gradient[0].flatten(1)  # (C, k*k)
        return torch.cat([(self._taps @ taps.T).flatten(), (self._projection @ taps).flatten()])

    def split(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """``(c, C)`` and ``(c, k*k)``."""
        end = self._projection.numel()
        return point[:end].view_as(self._projection), point[end:].view_as(self._taps)

    def _unflattened(self, taps: Tensor) -> Tensor:
        return taps.view(1, -1, self._size, self._size)


class _Linearized:
    """The samples' share of the squared residuals about a filter ``(1, C, k, k)``, to second order.

    Attributes:
        gradient: ``(1, C, k, k)``, half of the true one.
    """

    def __init__(self, samples: Samples, filters: Tensor) -> None:
        scores, weights = filter_scores(samples.features, filters), samples.weights[:, None, None]
        slope = (scores.clamp(max=0) / _LEAST_RESPONSE).exp()
        responses = scores.clamp(min=0) + _LEAST_RESPONSE * (slope - 1)
        self._features, self._size = samples.features, filters.shape[-1]
        self._curvature = weights * slope.square()
        self.gradient = self._transposed(weights * slope * (responses - samples.labels))

    def normal_product(self, change: Tensor) -> Tensor:
        """The Jacobian's transpose times the Jacobian times the change ``(1, C, k, k)`` of a filter."""
        return self._transposed(self._curvature * filter_scores(self._features, change))

    def _transposed(self, residuals: Tensor) -> Tensor:
        cut = (self._size + 1) % 2
        return filter_gradient(self._features[:, None], F.pad(residuals, (0, cut, 0, cut))[:, None], self._size)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Zero where the denominator is: the solution is reached. Not asked on the host, which would have to wait."""
    return torch.where(denominator == 0, 0, numerator / denominator)
