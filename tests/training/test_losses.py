from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from alpharefine.boxes import xywh_to_xyxy
from alpharefine.training.losses import best_cell_loss, corner_loss, l1_giou_loss, mask_loss


def random_masks(num: int, side: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and targets, float64."""
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(num, side, side, generator=rng, dtype=torch.float64, requires_grad=True)
    return logits, torch.randint(0, 2, (num, side, side), generator=rng)


@pytest.mark.parity
@pytest.mark.parametrize("pattern", range(3))
def test_values_and_gradients_of_the_original(golden, pattern) -> None:
    with np.load(golden / "loss.npz") as arrays:
        expected = dict(arrays)
    pred_xyxy = torch.from_numpy(expected["corner_pred"]).requires_grad_()
    prob = torch.from_numpy(expected["mask_pred"]).requires_grad_()
    has_mask = torch.from_numpy(expected["mask_flag"][pattern]).bool()
    corner = corner_loss(pred_xyxy, torch.from_numpy(xywh_to_xyxy(expected["anno_xywh"])))
    mask = mask_loss(prob.logit()[:, 0], torch.from_numpy(expected["mask_gt"])[:, 0], has_mask)
    total = corner + 1000 * mask
    total.backward()
    expected_total, expected_corner, expected_mask, _ = expected["losses"][pattern]
    assert total.item() == pytest.approx(expected_total, rel=1e-5)
    assert corner.item() == pytest.approx(expected_corner, rel=1e-5)
    if has_mask.any():
        assert mask.item() == pytest.approx(expected_mask, rel=1e-5)
    np.testing.assert_allclose(pred_xyxy.grad, expected["grad_corner"][pattern], rtol=1e-5)
    absolute = prob.grad.abs().sum(dim=(1, 2, 3))
    np.testing.assert_allclose(absolute, expected["grad_mask_abs_sum"][pattern], rtol=1e-4)


class TestCornerLoss:
    def test_by_hand(self) -> None:
        pred_xyxy = torch.tensor([[0.0, 0.0, 4.0, 4.0], [1.0, 1.0, 2.0, 2.0]])
        target_xyxy = torch.tensor([[1.0, 0.0, 4.0, 2.0], [1.0, 1.0, 2.0, 5.0]])
        assert corner_loss(pred_xyxy, target_xyxy).item() == (1 + 4 + 9) / 8

    def test_gradient(self) -> None:
        pred_xyxy = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: corner_loss(x, torch.ones(3, 4, dtype=torch.float64)), pred_xyxy)


class TestL1GIoULoss:
    @pytest.mark.parametrize(
        ("pred_xyxy", "expected"),
        [
            ([0.0, 0, 64, 64], 0.0),
            ([0.0, 0, 64, 32], 5 * (32 / 4) / 256 + 2 * (1 - 1 / 2)),
            # Apart: of the enclosing 192 x 64 px the two boxes leave one third uncovered, so GIoU is -1/3.
            ([128.0, 0, 192, 64], 5 * (256 / 4) / 256 + 2 * (1 + 1 / 3)),
        ],
        ids=["equal", "half", "apart"],
    )
    def test_by_hand(self, pred_xyxy, expected) -> None:
        loss = l1_giou_loss(torch.tensor([pred_xyxy]), torch.tensor([[0.0, 0, 64, 64]]))
        assert loss.item() == pytest.approx(expected, abs=1e-6)

    def test_gradient(self) -> None:
        pred_xyxy = torch.tensor([[10.0, 20, 90, 70], [5, 5, 30, 40]], dtype=torch.float64, requires_grad=True)
        target_xyxy = torch.tensor([[0.0, 30, 80, 100], [50, 60, 70, 80]], dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda x: l1_giou_loss(x, target_xyxy), pred_xyxy)

    def test_mean_over_the_batch(self) -> None:
        pred_xyxy, target_xyxy = torch.rand(2, 5, 4, generator=torch.Generator().manual_seed(0)) * 50
        target_xyxy[:, 2:] += 60
        alone = [l1_giou_loss(pred_xyxy[[i]], target_xyxy[[i]]).item() for i in range(5)]
        assert l1_giou_loss(pred_xyxy, target_xyxy).item() == pytest.approx(sum(alone) / 5, rel=1e-5)

    @pytest.mark.parametrize("pred_xyxy", [[40.0, 40, 20, 20], [40.0, 10, 20, 60], [30.0, 30, 30, 30]])
    def test_descent_mends_boxes_whose_corners_are_not_in_order(self, pred_xyxy) -> None:
        pred = torch.tensor([pred_xyxy], requires_grad=True)
        target_xyxy = torch.tensor([[10.0, 10, 50, 50]])
        for _ in range(300):
            (gradient,) = torch.autograd.grad(l1_giou_loss(pred, target_xyxy), pred)
            pred = (pred - 10 * gradient).detach().requires_grad_()
        torch.testing.assert_close(pred, target_xyxy, rtol=0, atol=2)


class TestMaskLoss:
    def test_by_hand(self) -> None:
        logits = torch.tensor([[[0.0, math.log(3)]], [[9.0, -9.0]]])  # probabilities 1/2 and 3/4
        target = torch.tensor([[[1, 0]], [[0, 1]]])
        expected = -(math.log(1 / 2) + math.log(1 / 4)) / 2
        assert mask_loss(logits, target, torch.tensor([True, False])).item() == pytest.approx(expected)

    def test_gradient(self) -> None:
        logits, target = random_masks(3)
        has_mask = torch.tensor([True, False, True])
        assert torch.autograd.gradcheck(lambda x: mask_loss(x, target, has_mask), logits)

    def test_extreme_logits_stay_finite(self) -> None:
        logits = torch.tensor([[[1e4, -1e4]]], requires_grad=True)
        loss = mask_loss(logits, torch.tensor([[[0, 1]]]), torch.tensor([True]))
        loss.backward()
        assert loss.item() == 1e4
        assert logits.grad.tolist() == [[[0.5, -0.5]]]

    @pytest.mark.parametrize("num_masks", [None, 0.5, torch.tensor(0.5)])
    def test_no_mask_is_a_loss_of_zero_that_can_be_stepped(self, num_masks) -> None:
        logits, target = random_masks(2)
        loss = mask_loss(logits, target, torch.zeros(2, dtype=torch.bool), num_masks)
        loss.backward()
        assert loss.item() == 0
        assert logits.grad.abs().sum() == 0

    @pytest.mark.parametrize("known", ["1111", "1000", "1101", "0011"])
    @pytest.mark.parametrize("kind", [float, torch.tensor])
    def test_processes_that_average_get_the_gradient_of_the_whole_batch(self, known, kind) -> None:
        logits, target = random_masks(4)
        has_mask = torch.tensor([c == "1" for c in known])
        (whole,) = torch.autograd.grad(mask_loss(logits, target, has_mask), logits)
        num_masks = kind(has_mask.sum().item() / 2)
        halves = [mask_loss(logits[s], target[s], has_mask[s], num_masks) for s in (slice(0, 2), slice(2, 4))]
        (averaged,) = torch.autograd.grad((halves[0] + halves[1]) / 2, logits)
        torch.testing.assert_close(averaged, whole)


class TestBestCellLoss:
    """Cells of 32 px: 8 x 8 of them."""

    @pytest.mark.parametrize(
        ("target_xyxy", "row", "column"),
        [
            pytest.param([64, 96, 95, 127], 3, 2, id="inside a cell"),
            pytest.param([32, 0, 96, 64], 1, 2, id="on the edge of a cell"),
            pytest.param([0, 0, 1, 1], 0, 0, id="first"),
            pytest.param([250, 254, 256, 256], 7, 7, id="last"),
            pytest.param([256, 200, 256, 202], 6, 7, id="at the end of the crop"),
            pytest.param([-90, -20, -10, -10], 0, 0, id="before the crop"),
            pytest.param([300, 290, 310, 300], 7, 7, id="behind the crop"),
        ],
    )
    def test_the_cell_of_the_center(self, target_xyxy: list[float], row: int, column: int) -> None:
        scores = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        target = torch.tensor([target_xyxy, [0, 0, 256, 256]], dtype=torch.float64)
        chances = scores.flatten(1).softmax(1).view(2, 8, 8)
        expected = -(chances[0, row, column].log() + chances[1, 4, 4].log()) / 2
        assert best_cell_loss(scores, target).item() == pytest.approx(expected.item(), abs=1e-12)
