"""Training of ATOM's classifier by Gauss-Newton steps, each solved by conjugate gradients.

The classifier projects the channels of the features, applies a filter, and applies an activation. Projection and filter
are linear. Their composition is one filter over the features, ``projection^T filter``, whose derivatives follow from
the product rule. Products with the Jacobian and with its transpose are then one matrix product over all samples each.
Neither the projected features nor a gradient with respect to them is computed.

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
"""Magnitude at which negative scores saturate."""


class Samples(NamedTuple):
    """Training samples of a classifier.

    Attributes:
        features: Feature maps, ``(N, C, H, W)``.
        labels: Target values of the activated scores, ``(N, H, W)``.
        weights: Weights of the squared residuals, ``(N,)``.
    """

    features: Tensor
    labels: Tensor
    weights: Tensor


class Classifier(NamedTuple):
    """Two linear layers.

    Attributes:
        projection: Projection of the channels, ``(c, C)``.
        filters: Filter over the projected channels, ``(1, c, k, k)``.
    """

    projection: Tensor
    filters: Tensor


class Regularization(NamedTuple):
    """Weights of the squared parameters.

    Attributes:
        projection: Weight of the projection.
        filters: Weight of the filter.
    """

    projection: float
    filters: float


def project(features: Tensor, projection: Tensor) -> Tensor:
    """Project the channels of feature maps.

    Args:
        features: Feature maps, ``(N, C, H, W)``.
        projection: Projection, ``(c, C)``.

    Returns:
        Feature maps, ``(N, c, H, W)``.
    """
    return (projection @ features.flatten(2)).reshape(len(features), len(projection), *features.shape[2:])


def filter_scores(features: Tensor, filters: Tensor) -> Tensor:
    """Apply a filter to feature maps.

    For an even side k, the last row and the last column of the result of `apply_filter` are removed.

    Args:
        features: Feature maps, ``(N, C, H, W)``.
        filters: Filter, ``(1, C, k, k)``.

    Returns:
        Scores, ``(N, H, W)``.
    """
    return apply_filter(features[:, None], filters)[:, 0, : features.shape[2], : features.shape[3]]


def joint_step(
    samples: Samples, classifier: Classifier, regularization: Regularization, num_iterations: int
) -> Classifier:
    """Return the classifier after one Gauss-Newton step of both layers.

    Args:
        samples: Samples with features that are not projected.
        classifier: Classifier before the step.
        regularization: Regularization of both layers; it is also the preconditioner.
        num_iterations: Number of iterations of conjugate gradients.
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
    """Return the filter ``(1, c, k, k)`` after one Gauss-Newton step.

    Args:
        samples: Samples with projected features.
        filters: Filter before the step, ``(1, c, k, k)``.
        regularization: Weight of the squared filter.
        search: Solver; it may keep the direction of its last solution.
        num_iterations: Number of iterations of conjugate gradients.
    """
    fit = _Linearized(samples, filters)
    change = search.solve(
        lambda x: fit.normal_product(x.view_as(filters)).flatten() + regularization * x,
        (-fit.gradient - regularization * filters).flatten(),
        num_iterations,
    )
    return filters + change.view_as(filters)


class ConjugateGradient:
    """Solver of ``A x = b`` for a symmetric positive matrix A, given as a function.

    Args:
        formula: Formula that makes the next direction conjugate.
        forgetting_factor: Weight in 0..1 of the last solution's direction at the start of the next solution; None
            starts each solution without it.
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
        """Return an approximate solution, ``(n,)``.

        Args:
            product: Function that multiplies A by a vector ``(n,)``.
            right: Right-hand side b, ``(n,)``.
            num_iterations: Number of iterations; those after the exact solution change nothing.
            preconditioner: Diagonal of a matrix close to A, ``(n,)``; None for the identity.
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
    """Both layers as one filter, and the first derivative of that filter.

    Attributes:
        whole: Composition of both layers, ``(1, C, k, k)``.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._projection, self._taps = classifier.projection, classifier.filters[0].flatten(1)  # (c, C), (c, k*k)
        self._size = classifier.filters.shape[-1]
        self.whole = self._unflattened(self._projection.T @ self._taps)

    def change(self, point: Tensor) -> Tensor:
        """Return the change of the composed filter for a change ``(c*C + c*k*k,)`` of the layers."""
        projection, taps = self.split(point)
        return self._unflattened(self._projection.T @ taps + projection.T @ self._taps)

    def transposed(self, gradient: Tensor) -> Tensor:
        """Return the gradient ``(c*C + c*k*k,)`` of the layers from the gradient of the composed filter."""
        taps = gradient[0].flatten(1)  # (C, k*k)
        return torch.cat([(self._taps @ taps.T).flatten(), (self._projection @ taps).flatten()])

    def split(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Split a vector ``(c*C + c*k*k,)`` into projection ``(c, C)`` and filter ``(c, k*k)``."""
        end = self._projection.numel()
        return point[:end].view_as(self._projection), point[end:].view_as(self._taps)

    def _unflattened(self, taps: Tensor) -> Tensor:
        return taps.view(1, -1, self._size, self._size)


class _Linearized:
    """Second-order model of the samples' squared residuals around a filter ``(1, C, k, k)``.

    Attributes:
        gradient: Half of the gradient of the squared residuals, ``(1, C, k, k)``.
    """

    def __init__(self, samples: Samples, filters: Tensor) -> None:
        scores, weights = filter_scores(samples.features, filters), samples.weights[:, None, None]
        slope = (scores.clamp(max=0) / _LEAST_RESPONSE).exp()
        responses = scores.clamp(min=0) + _LEAST_RESPONSE * (slope - 1)
        self._features, self._size = samples.features, filters.shape[-1]
        self._curvature = weights * slope.square()
        self.gradient = self._transposed(weights * slope * (responses - samples.labels))

    def normal_product(self, change: Tensor) -> Tensor:
        """Multiply a change ``(1, C, k, k)`` of the filter by the Jacobian and by its transpose."""
        return self._transposed(self._curvature * filter_scores(self._features, change))

    def _transposed(self, residuals: Tensor) -> Tensor:
        cut = (self._size + 1) % 2
        return filter_gradient(self._features[:, None], F.pad(residuals, (0, cut, 0, cut))[:, None], self._size)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide, with 0 for a zero denominator: the solution is reached. The device is not synchronized."""
    return torch.where(denominator == 0, 0, numerator / denominator)
