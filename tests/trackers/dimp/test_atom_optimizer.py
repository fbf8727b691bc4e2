from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from alpharefine.trackers.dimp.atom_optimizer import (
    Classifier,
    ConjugateGradient,
    Regularization,
    Samples,
    filter_scores,
    filter_step,
    joint_step,
    project,
)
from tests.trackers.dimp.golden import read_arrays

PUBLISHED = Regularization(projection=1e-4, filters=0.1)


@pytest.fixture(scope="module")
def arrays(golden: Path) -> dict[str, Any]:
    return read_arrays(golden / "tracker_atom.npz")


def golden_problem(arrays: dict[str, Any], dtype: torch.dtype) -> tuple[Samples, Classifier]:
    features, labels, weights, projection, filters = (
        torch.from_numpy(arrays[f"small/{name}"]).to(dtype) for name in ("X", "Y", "weights", "proj0", "filter0")
    )
    return Samples(features, labels[:, 0], weights), Classifier(projection[..., 0, 0], filters)


def assert_near(ours: torch.Tensor, wanted: np.ndarray, absolute: float, relative: float, key: str) -> None:
    largest = np.abs(wanted).max()
    atol = max(absolute, relative * largest)
    np.testing.assert_allclose(ours, wanted.reshape(ours.shape), rtol=0, atol=atol, err_msg=key)


@pytest.mark.parity
@pytest.mark.parametrize(("problem", "dtype"), [("small64", torch.float64), ("small", torch.float32)])
def test_golden_steps_for_both_layers(arrays: dict[str, Any], problem: str, dtype: torch.dtype) -> None:
    samples, classifier = golden_problem(arrays, dtype)
    for index in range(6):
        classifier = joint_step(samples, classifier, PUBLISHED, 10)
        rounded = (1e-5, 0.0) if index < 2 else (0.0, 0.01)  # each step amplifies rounding
        bounds = (1e-9, 0.0) if dtype == torch.float64 else rounded
        for layer, name in zip(classifier, ("proj", "filter"), strict=True):
            key = f"{problem}/gn{index}_{name}"
            assert_near(layer, arrays[key], *bounds, key)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("problem", "dtype", "bound"), [("small64", torch.float64, 1e-9), ("small", torch.float32, 1e-6)]
)
def test_golden_steps_for_the_filter(arrays: dict[str, Any], problem: str, dtype: torch.dtype, bound: float) -> None:
    samples, _ = golden_problem(arrays, dtype)
    projection = torch.from_numpy(arrays[f"{problem}/gn5_proj"][..., 0, 0])
    samples = samples._replace(features=project(samples.features, projection))
    first = torch.from_numpy(arrays[f"{problem}/gn5_filter"])

    filters, search = first, ConjugateGradient("polak_ribiere")
    for key in ("cg5", "cg10"):
        filters = filter_step(samples, filters, PUBLISHED.filters, search, 5)
        assert_near(filters, arrays[f"{problem}/{key}_filter"], bound, 0, key)
    filters, search = first, ConjugateGradient("polak_ribiere", forgetting_factor=0.8)
    for _ in range(2):
        filters = filter_step(samples, filters, PUBLISHED.filters, search, 3)
    assert_near(filters, arrays[f"{problem}/cg3_3_forget0.8_filter"], bound, 0, "forgetting")


def generated_problem(num_samples: int = 3) -> tuple[Samples, Classifier]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    samples = Samples(normal(num_samples, 6, 7, 7), normal(num_samples, 7, 7).exp(), normal(num_samples).exp())
    return samples, Classifier(normal(3, 6) / 3, normal(1, 3, 4, 4) / 8)


def residuals(point: torch.Tensor, samples: Samples, like: Classifier) -> torch.Tensor:
    """The definition, by convolutions."""
    projection, filters = point[: like.projection.numel()], point[like.projection.numel() :]
    projected = F.conv2d(samples.features, projection.view(*like.projection.shape, 1, 1))
    scores = F.conv2d(projected, filters.view_as(like.filters), padding=2)[:, 0, :-1, :-1]
    responses = torch.where(scores >= 0, scores, 0.05 * ((scores / 0.05).clamp(max=0).exp() - 1))
    differences = samples.weights.sqrt()[:, None, None] * (responses - samples.labels)
    return torch.cat([differences.flatten(), 1e-4**0.5 * projection, 0.1**0.5 * filters])


def flat(classifier: Classifier) -> torch.Tensor:
    return torch.cat([classifier.projection.flatten(), classifier.filters.flatten()])


def test_scores_are_those_of_a_convolution_that_keeps_the_size() -> None:
    samples, classifier = generated_problem()
    padded = F.pad(project(samples.features, classifier.projection), (2, 1, 2, 1))
    expected = F.conv2d(padded, classifier.filters)[:, 0]
    scores = filter_scores(project(samples.features, classifier.projection), classifier.filters)
    torch.testing.assert_close(scores, expected)


def test_a_step_with_many_iterations_solves_the_linearised_problem() -> None:
    samples, classifier = generated_problem()
    point = flat(classifier)
    jacobian = torch.autograd.functional.jacobian(lambda x: residuals(x, samples, classifier), point)
    assert isinstance(jacobian, torch.Tensor)
    change = torch.linalg.solve(jacobian.T @ jacobian, -jacobian.T @ residuals(point, samples, classifier))
    better = joint_step(samples, classifier, PUBLISHED, 250)
    torch.testing.assert_close(flat(better), point + change, rtol=1e-6, atol=1e-6)


def test_steps_lessen_the_residuals() -> None:
    samples, classifier = generated_problem()
    start = residuals(flat(classifier), samples, classifier).square().sum()
    joint = joint_step(samples, classifier, PUBLISHED, 10)
    after_joint = residuals(flat(joint), samples, classifier).square().sum()
    projected = samples._replace(features=project(samples.features, joint.projection))
    filters = filter_step(projected, joint.filters, 0.1, ConjugateGradient("polak_ribiere"), 5)
    after_filter = residuals(flat(joint._replace(filters=filters)), samples, classifier).square().sum()
    assert after_filter < after_joint < start


def test_a_sample_without_weight_changes_nothing() -> None:
    samples, classifier = generated_problem()
    fewer = Samples(*(array[:2] for array in samples))
    unweighted = samples._replace(weights=samples.weights * torch.tensor([1.0, 1.0, 0.0]))
    for ours, expected in zip(
        joint_step(unweighted, classifier, PUBLISHED, 5), joint_step(fewer, classifier, PUBLISHED, 5), strict=True
    ):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("formula", ["fletcher_reeves", "polak_ribiere"])
@pytest.mark.parametrize("is_preconditioned", [False, True])
def test_a_linear_system_is_solved_in_as_many_iterations_as_it_has_unknowns(
    formula: Any, is_preconditioned: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    matrix, right = root @ root.T + torch.eye(6), torch.randn(6, generator=generator, dtype=torch.float64)
    preconditioner = matrix.diagonal() if is_preconditioned else None
    solution = ConjugateGradient(formula).solve(lambda x: matrix @ x, right, 6, preconditioner)
    torch.testing.assert_close(matrix @ solution, right)


def test_what_is_solved_already_stays() -> None:
    search = ConjugateGradient("polak_ribiere", forgetting_factor=0.5)
    for right in (torch.zeros(3), torch.tensor([0.0, 2.0, 0.0]), torch.zeros(3)):
        torch.testing.assert_close(search.solve(lambda x: 2 * x, right, 4), right / 2)
