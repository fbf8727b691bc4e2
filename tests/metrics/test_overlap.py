import math

import pytest
import torch

from alpharefine.metrics import BoxIoU, MaskIoU


def test_box_iou_averages_over_samples_not_batches():
    metric = BoxIoU()
    box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    metric.update(box.repeat(3, 1), box.repeat(3, 1))
    metric.update(box, torch.tensor([[10.0, 10.0, 12.0, 12.0]]))
    assert metric.compute().item() == 0.75


@pytest.mark.parametrize(
    ("pred", "expected"),
    [
        pytest.param([0.0, 0.0, 4.0, 2.0], 0.5, id="half"),
        pytest.param([2.0, 2.0, 6.0, 6.0], 4 / 28, id="corner"),
        pytest.param([4.0, 0.0, 8.0, 4.0], 0.0, id="touching"),
        pytest.param([3.0, 3.0, 1.0, 1.0], 0.0, id="corners out of order"),
    ],
)
def test_box_iou_by_hand(pred, expected):
    metric = BoxIoU()
    metric.update(torch.tensor([pred]), torch.tensor([[0.0, 0.0, 4.0, 4.0]]))
    assert metric.compute().item() == pytest.approx(expected)


def test_box_iou_of_half_precision_boxes_is_not_rounded():
    metric = BoxIoU()
    metric.update(torch.tensor([[0.0, 0.0, 300.0, 300.0]]).half(), torch.tensor([[0.0, 0.0, 300.0, 200.0]]).half())
    assert metric.compute().item() == pytest.approx(2 / 3, abs=1e-12)  # the areas overflow float16


def test_mask_iou_ignores_samples_without_a_mask():
    prob = torch.tensor([[[0.9, 0.9], [0.1, 0.1]], [[0.9, 0.9], [0.9, 0.9]]])
    target = torch.tensor([[[1, 0], [0, 0]], [[0, 0], [0, 0]]])
    metric = MaskIoU()
    metric.update(prob, target, torch.tensor([True, False]))
    assert metric.compute().item() == 0.5
    assert metric.num_samples.item() == 1


@pytest.mark.parametrize(
    ("prob", "target", "expected"),
    [
        pytest.param([[0.5, 0.51]], [[0, 1]], 1.0, id="one half is outside"),
        pytest.param([[0.9, 0.9]], [[0, 0]], 0.0, id="empty label"),
        pytest.param([[0.1, 0.1]], [[1, 1]], 0.0, id="empty prediction"),
        pytest.param([[0.1, 0.1]], [[0, 0]], 1.0, id="both empty"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_mask_iou_by_hand(prob, target, expected, dtype):
    metric = MaskIoU()
    metric.update(torch.tensor([prob]), torch.tensor([target]).to(dtype), torch.tensor([True]))
    assert metric.compute().item() == expected


def test_mask_iou_without_any_mask_is_nan_and_quiet():
    metric = MaskIoU()
    metric.update(torch.zeros(2, 3, 3), torch.zeros(2, 3, 3), torch.tensor([False, False]))
    assert math.isnan(metric.compute().item())


def test_mask_iou_averages_over_samples():
    prob = torch.tensor([[[0.9, 0.9, 0.9, 0.1]], [[0.9, 0.1, 0.1, 0.1]], [[0.1, 0.1, 0.1, 0.1]]])
    target = torch.tensor([[[1, 0, 0, 0]], [[1, 0, 0, 0]], [[0, 0, 0, 1]]])
    metric = MaskIoU()
    metric.update(prob, target, torch.tensor([True] * 3))
    assert metric.compute().item() == pytest.approx((1 / 3 + 1 + 0) / 3, abs=1e-15)


def test_reset_forgets():
    metric = BoxIoU()
    box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    metric.update(box, box + 10)
    metric.reset()
    metric.update(box, box)
    assert metric.compute().item() == 1.0


@pytest.mark.parametrize("metric", [BoxIoU(), MaskIoU()], ids=["box", "mask"])
def test_state_survives_module_casts(metric):
    assert torch.nn.ModuleList([metric]).half()[0].iou_sum.dtype == torch.float64
