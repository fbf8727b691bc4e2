from __future__ import annotations

from itertools import product
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from alpharefine.boxes import paired_iou
from alpharefine.models import AlphaRefineNet, CornerHeadName, Corners, Grid, HeadName, NetworkConfig, soft_argmax
from alpharefine.models.correlation import ChannelGate, crop_kernel, pixel_correlation
from alpharefine.models.heads import QualityHead, build_corner_head
from alpharefine.training.losses import quality_loss

HEADS = [("corner",), ("mask",), ("corner", "mask")]


def pictures(seed: int, num: int = 1) -> Tensor:
    """Smooth random crops."""
    rng = torch.Generator().manual_seed(seed)
    small = torch.rand(num, 3, 8, 8, generator=rng) * 255
    return torch.nn.functional.interpolate(small, 256, mode="bilinear").to(torch.uint8)


@pytest.fixture(scope="module")
def network() -> AlphaRefineNet:
    torch.manual_seed(0)
    return AlphaRefineNet(NetworkConfig("resnet18")).eval().requires_grad_(False)


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


class TestParts:
    @pytest.mark.parametrize(("backbone", "expected"), [("resnet34", 8_170_304), ("resnet18", 2_782_784)])
    def test_parameter_counts(self, backbone, expected) -> None:
        network = AlphaRefineNet(NetworkConfig(backbone))
        adjusting = sum(count(getattr(network.mask_head, f"adjust_{tap}")) for tap in ("conv1", "layer1", "layer2"))
        assert count(network.backbone) == expected
        assert count(network.neck) == 35_856
        assert count(network.corner_head) == 1_072_002
        assert adjusting == 88_512
        assert count(network.mask_head) == 831_301 + adjusting
        assert count(network) == expected + 35_856 + 1_072_002 + 831_301 + 88_512

    @pytest.mark.parametrize("heads", HEADS)
    def test_a_head_that_is_not_asked_for_does_not_exist(self, heads) -> None:
        network = AlphaRefineNet(NetworkConfig("resnet18", heads))
        assert network.heads == heads
        assert (network.corner_head is not None, network.mask_head is not None) == ("corner" in heads, "mask" in heads)

    @pytest.mark.parametrize("heads", [(), ("box",), ("corner", "box")])
    def test_heads_must_be_known(self, heads) -> None:
        with pytest.raises(ValueError, match="must name 'corner', 'mask' or both"):
            AlphaRefineNet(NetworkConfig("resnet18", heads))

    def test_the_kernel_is_the_middle_half_of_the_template(self) -> None:
        features = torch.arange(2 * 3 * 16 * 16).view(2, 3, 16, 16)
        assert torch.equal(crop_kernel(features), features[:, :, 4:12, 4:12])

    def test_pixel_correlation_against_loops(self) -> None:
        rng = np.random.default_rng(0)
        search, kernel = rng.standard_normal((2, 5, 3, 4)), rng.standard_normal((2, 5, 2, 2))
        actual = pixel_correlation(torch.from_numpy(search), torch.from_numpy(kernel))
        assert actual.shape == (2, 4, 3, 4)
        for b, row, column, y, x in product(range(2), range(2), range(2), range(3), range(4)):
            expected = sum(search[b, c, y, x] * kernel[b, c, row, column] for c in range(5))
            assert actual[b, 2 * row + column, y, x].item() == pytest.approx(expected, abs=1e-12)

    def test_channel_gate_by_hand(self) -> None:
        gate = ChannelGate(2, reduction=2)
        with torch.no_grad():
            gate.squeeze.weight.copy_(torch.tensor([1.0, -1.0]).view(1, 2, 1, 1))
            gate.squeeze.bias.fill_(0.5)
            gate.excite.weight.copy_(torch.tensor([2.0, -4.0]).view(2, 1, 1, 1))
            gate.excite.bias.zero_()
        x = torch.tensor([[[[1.0, 3.0]], [[0.0, 2.0]]]])  # channel means 2 and 1, squeezed to 1.5
        factors = torch.sigmoid(torch.tensor([3.0, -6.0])).view(1, 2, 1, 1)
        torch.testing.assert_close(gate(x), x * factors)
        x = torch.tensor([[[[0.0]], [[9.0]]]])  # squeezed to -8.5, which ReLU makes 0
        torch.testing.assert_close(gate(x), x / 2)


class TestSoftArgmax:
    @pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 15), (15, 0), (15, 15), (7, 3)])
    def test_one_certain_cell(self, row, column) -> None:
        scores = torch.full((16, 16), -1e4, dtype=torch.float64)
        scores[row, column] = 0
        expected = torch.tensor([256 * column / 15, 256 * row / 15], dtype=torch.float64)
        torch.testing.assert_close(soft_argmax(scores, Grid(256)), expected)

    def test_equal_scores_give_the_middle(self) -> None:
        torch.testing.assert_close(soft_argmax(torch.full((3, 16, 16), 7.0), Grid(256)), torch.full((3, 2), 128.0))

    def test_two_by_two_by_hand(self) -> None:
        scores = torch.log(torch.tensor([[0.1, 0.2], [0.3, 0.4]], dtype=torch.float64))
        expected = torch.tensor([256 * 0.6, 256 * 0.7], dtype=torch.float64)  # the right column, the lower row
        torch.testing.assert_close(soft_argmax(scores, Grid(256)), expected)

    def test_shifting_all_scores_changes_nothing(self) -> None:
        scores = torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        torch.testing.assert_close(soft_argmax(scores + 100, Grid(64)), soft_argmax(scores, Grid(64)))

    def test_gradient(self) -> None:
        scores = torch.randn(2, 4, 4, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda s: soft_argmax(s, Grid(64)), scores)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_autocast_takes_no_precision_away(self, dtype) -> None:
        scores = torch.randn(8, 16, 16, generator=torch.Generator().manual_seed(0))
        expected = soft_argmax(scores.double(), Grid(256))
        with torch.autocast("cpu", dtype):
            actual = soft_argmax(scores, Grid(256))
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual.double(), expected, rtol=0, atol=1e-3)


def test_heat_and_peak_of_corners() -> None:
    certain, uniform = torch.full((2, 2), -1e4), torch.zeros(2, 2)
    certain[1, 0] = 0
    scores = torch.stack([torch.stack([certain, uniform]), torch.stack([certain, certain])])  # (2, 2, 2, 2)
    corners = Corners(torch.zeros(2, 4), scores)
    assert corners.heat[0].tolist() == [[[0, 0], [1, 0]], [[0.25, 0.25], [0.25, 0.25]]]
    assert corners.peak.tolist() == [0.25, 1]


class TestForward:
    def test_shapes_and_types(self, network) -> None:
        kernel = network.encode_template(pictures(0, 2))
        corners, mask_logits, _ = network(pictures(1, 2), kernel)
        assert kernel.shape == (2, 256, 8, 8)
        assert (corners.crop_xyxy.shape, corners.scores.shape) == ((2, 4), (2, 2, 16, 16))
        assert mask_logits.shape == (2, 256, 256)
        assert {corners.crop_xyxy.dtype, corners.scores.dtype, mask_logits.dtype} == {torch.float32}
        assert corners.crop_xyxy.min() >= 0
        assert corners.crop_xyxy.max() <= 256

    def test_float_and_uint8_pictures_give_the_same(self, network) -> None:
        template, search = pictures(0), pictures(1)
        as_uint8 = network(search, network.encode_template(template))
        as_float = network(search.float(), network.encode_template(template.float()))
        assert torch.equal(as_uint8.corners.crop_xyxy, as_float.corners.crop_xyxy)
        assert torch.equal(as_uint8.mask_logits, as_float.mask_logits)

    def test_normalization_by_hand(self, network) -> None:
        seen = []
        handle = network.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        network.encode_template(torch.tensor([255, 0, 51], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 256, 256))
        handle.remove()
        expected = torch.tensor([(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225])
        torch.testing.assert_close(seen[0][0, :, 17, 200], expected)

    def test_samples_of_a_batch_do_not_see_each_other(self, network) -> None:
        template, search = pictures(0, 3), pictures(1, 3)
        together = network(search, network.encode_template(template))
        for i in range(3):
            alone = network(search[i : i + 1], network.encode_template(template[i : i + 1]))
            torch.testing.assert_close(alone.corners.crop_xyxy[0], together.corners.crop_xyxy[i], rtol=0, atol=1e-3)
            torch.testing.assert_close(alone.mask_logits[0], together.mask_logits[i], rtol=0, atol=1e-4)

    def test_two_targets_can_take_turns(self, network) -> None:
        search = pictures(2)
        kernels = [network.encode_template(pictures(seed)) for seed in (0, 1)]
        first, second, again = (network(search, kernels[i], ["corner"]).corners.crop_xyxy for i in (0, 1, 0))
        assert torch.equal(first, again)
        assert not torch.equal(first, second)

    def test_no_weight_or_statistic_changes_in_evaluation(self, network) -> None:
        before = {name: value.clone() for name, value in network.state_dict().items()}
        network(pictures(1), network.encode_template(pictures(0)))
        assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())

    @pytest.mark.parametrize("head", get_args(HeadName))
    def test_one_head_alone_gives_the_same_and_the_other_is_not_run(self, network, head) -> None:
        search, kernel = pictures(1), network.encode_template(pictures(0))
        both = network(search, kernel)
        calls = []
        handles = [
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
            for name, module in (("corner", network.corner_head), ("mask", network.mask_head))
        ]
        alone = network(search, kernel, [head])
        for handle in handles:
            handle.remove()
        assert calls == [head]
        if head == "corner":
            assert alone.mask_logits is None
            assert torch.equal(alone.corners.crop_xyxy, both.corners.crop_xyxy)
            assert torch.equal(alone.corners.scores, both.corners.scores)
        else:
            assert alone.corners is None
            assert torch.equal(alone.mask_logits, both.mask_logits)

    @pytest.mark.parametrize(("heads", "wanted"), [(("corner",), "mask"), (("mask",), "corner")])
    def test_a_head_that_the_network_lacks(self, heads, wanted) -> None:
        network = AlphaRefineNet(NetworkConfig("resnet18", heads))
        with pytest.raises(ValueError, match=rf"`heads` must be among \['{heads[0]}'\], .*got \['{wanted}'\]"):
            network(pictures(1), torch.zeros(1, 256, 8, 8), [wanted])

    @pytest.mark.parametrize("heads", HEADS)
    def test_every_parameter_gets_a_gradient(self, heads) -> None:
        # Distributed training relies on it: it does not search for unused parameters.
        network = AlphaRefineNet(NetworkConfig("resnet18", heads)).train()
        corners, mask_logits, _ = network(pictures(1, 2), network.encode_template(pictures(0, 2)))
        total = sum(x.mean() for x in (None if corners is None else corners.crop_xyxy, mask_logits) if x is not None)
        total.backward()
        assert [name for name, p in network.named_parameters() if p.grad is None] == []

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_the_neck_stays_in_float32_under_autocast(self, network, dtype) -> None:
        # A correlation of this size is beyond float16 and would be rounded to multiples of 512 in bfloat16.
        search, kernel = torch.full((1, 256, 16, 16), 16.0), torch.full((1, 256, 8, 8), 17.0)
        plain = network.neck(search, kernel)
        with torch.autocast("cpu", dtype):
            mixed = network.neck(search.to(dtype), kernel.to(dtype))
        assert mixed.dtype == torch.float32
        assert torch.equal(mixed, plain)

    def test_results_are_float32_under_autocast(self, network) -> None:
        template, search = pictures(0), pictures(1)
        plain = network(search, network.encode_template(template))
        with torch.autocast("cpu", torch.bfloat16):
            mixed = network(search, network.encode_template(template))
        assert mixed.corners.crop_xyxy.dtype == mixed.corners.scores.dtype == mixed.mask_logits.dtype == torch.float32
        assert (mixed.corners.crop_xyxy - plain.corners.crop_xyxy).abs().max() < 2

    def test_it_can_be_exported(self, network) -> None:
        search, kernel = pictures(1), network.encode_template(pictures(0))
        program = torch.export.export(network, (search, kernel)).module()
        other = pictures(2)
        expected, actual = network(other, kernel), program(other, kernel)
        torch.testing.assert_close(actual.corners.crop_xyxy, expected.corners.crop_xyxy, rtol=0, atol=1e-3)
        torch.testing.assert_close(actual.mask_logits, expected.mask_logits, rtol=0, atol=1e-4)


class TestQualityHead:
    @pytest.mark.parametrize("name", get_args(CornerHeadName))
    def test_it_judges_the_boxes_of_every_corner_head(self, name) -> None:
        fused = torch.rand(2, 64, 16, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
        corners = build_corner_head(name, 64, Grid(256)).eval()(fused)
        head = QualityHead(64, 256).eval()
        logits = head(fused, corners)
        assert logits.shape == (2,)
        assert logits.isfinite().all()
        logits.sum().backward()
        assert fused.grad is None
        assert all(parameter.grad is not None for parameter in head.parameters())
        moved = corners._replace(crop_xyxy=corners.crop_xyxy + 30)
        assert (head(fused, moved) - logits).abs().min() > 1e-4

    def test_features_are_averaged_inside_the_box(self) -> None:
        boxes = torch.tensor([[64.0, 32, 192, 128], [0, 0, 256, 256], [200, 200, 100, 100]])
        inside = QualityHead(64, 256)._box_map(boxes, 16)
        assert inside[0, 0, 4, 8] > 0.95
        assert inside[0, 0, [0, 9], 8].max() < 0.1
        assert inside[0, 0, 4, [2, 13]].max() < 0.1
        assert inside.sum((1, 2, 3))[:2].tolist() == pytest.approx([8 * 6, 16 * 16], rel=0.1)
        assert inside[2].max() < 1e-3

    def test_it_learns_to_tell_boxes_on_the_target(self) -> None:
        torch.manual_seed(0)
        fused = torch.zeros(64, 64, 16, 16)
        fused[:, :, 4:12, 4:12] = 1
        shift = torch.linspace(0, 128, 64)[:, None]
        boxes = torch.tensor([64.0, 64, 192, 192]) + shift
        corners, target_xyxy = Corners(boxes, torch.zeros(64, 2, 16, 16)), torch.tensor([[64.0, 64, 192, 192]])
        head = QualityHead(64, 256)
        optimizer = torch.optim.AdamW(head.parameters(), 1e-2)
        for _ in range(60):
            loss = quality_loss(head(fused, corners), boxes, target_xyxy)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        error = head(fused, corners).sigmoid() - paired_iou(boxes, target_xyxy)
        assert error.abs().mean() < 0.05
