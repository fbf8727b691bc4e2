"""State of the refiner between calls, precision, batches, and invalid arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from alpharefine import Refiner, Template
from alpharefine.errors import UserError
from alpharefine.inference import options
from alpharefine.inference.options import resolve_precision
from alpharefine.models import AlphaRefineNet, NetworkConfig
from alpharefine.options import GeometryName
from tests.known_network import BOX, FRAME, KnownNetwork, started
from tests.models.test_folding import VARIANTS


@pytest.fixture(scope="module")
def random_network() -> AlphaRefineNet:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return AlphaRefineNet(NetworkConfig("resnet18"))


# ---- the network ---------------------------------------------------------------------------------------------------


def test_the_template_is_cut_from_the_first_frame() -> None:
    network = KnownNetwork([64, 64, 192, 192])
    refiner = Refiner.from_network(network, "cpu")  # type: ignore[arg-type]
    frame = np.zeros((240, 320, 3), dtype=np.uint8)
    frame[80:110, 100:140] = (10, 100, 200)  # exactly BOX: the middle half of the crop
    refiner.initialize(frame, BOX)
    template = network.templates[0]
    assert template.shape == (1, 3, 256, 256)
    assert template.dtype == torch.float32
    assert template[0, :, 70:186, 70:186].flatten(1).unique(dim=1).flatten().tolist() == [10, 100, 200]
    assert not template[0, :, :58].any()
    assert not template[0, :, :, 198:].any()


def test_every_target_keeps_its_own_template() -> None:
    network = KnownNetwork([64, 64, 192, 192])
    refiner = Refiner.from_network(network, "cpu")  # type: ignore[arg-type]
    dark, bright = np.full((90, 90, 3), 20, np.uint8), np.full((90, 90, 3), 200, np.uint8)
    box_xywh = np.array([30.0, 30.0, 20.0, 20.0])
    refiner.initialize(dark, box_xywh)
    other = refiner.encode_template(bright, box_xywh)
    refiner.refine(bright, box_xywh)
    refiner.refine_many([dark, dark], [box_xywh, box_xywh], [other, other])
    refiner.initialize(bright, box_xywh)
    refiner.refine(dark, box_xywh)
    kernels = [kernel[:, 0].tolist() for _, kernel, _ in network.calls]
    assert kernels == [[20], [200, 200], [200]]


def frames_and_boxes() -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(3)
    sizes = [(120, 160), (90, 70), (200, 64)]
    frames = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    boxes = [np.array([width / 4, height / 4, width / 2.3, height / 2.7]) for height, width in sizes]
    return frames, boxes


def test_many_at_once_equal_one_by_one(random_network: AlphaRefineNet) -> None:
    refiner = Refiner.from_network(random_network, "cpu")
    frames, boxes_xywh = frames_and_boxes()
    templates = [refiner.encode_template(frame, box) for frame, box in zip(frames, boxes_xywh, strict=True)]
    together = refiner.refine_many(frames, np.stack(boxes_xywh), templates, mask=True)
    assert len(together) == 3
    for frame, box_xywh, one_of_many in zip(frames, boxes_xywh, together, strict=True):
        refiner.initialize(frame, box_xywh)
        alone = refiner.refine(frame, box_xywh, mask=True)
        np.testing.assert_allclose(one_of_many.raw_box_xywh, alone.raw_box_xywh, atol=1e-3)
        np.testing.assert_allclose(one_of_many.box_xywh, alone.box_xywh, atol=1e-3)
        assert one_of_many.score == pytest.approx(alone.score, abs=1e-5)
        assert one_of_many.mask is not None
        assert one_of_many.mask.shape == frame.shape[:2]
        np.testing.assert_allclose(one_of_many.mask, alone.mask, atol=1e-5)


def test_calls_leave_the_network_and_the_frame_unchanged(random_network: AlphaRefineNet) -> None:
    random_network.train()
    before = {name: value.clone() for name, value in random_network.state_dict().items()}
    refiner = started(random_network)
    frame, box_xywh = FRAME.copy(), BOX.copy()
    first = refiner.refine(frame, box_xywh, mask=True)
    second = refiner.refine(frame, box_xywh, mask=True)
    assert random_network.training, "a copy of it runs"
    for name, value in random_network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in random_network.parameters())
    np.testing.assert_array_equal(first.raw_box_xywh, second.raw_box_xywh)
    np.testing.assert_array_equal(first.mask, second.mask)
    np.testing.assert_array_equal(frame, FRAME)
    np.testing.assert_array_equal(box_xywh, BOX)
    random_network.eval()


@pytest.mark.parametrize("precision", ["bf16", "16"])
def test_low_precision_is_close(random_network: AlphaRefineNet, precision: Any) -> None:
    exact = started(random_network, precision="32").refine(FRAME, BOX, mask=True)
    rough = started(random_network, precision=precision).refine(FRAME, BOX, mask=True)
    assert not np.array_equal(exact.raw_box_xywh, rough.raw_box_xywh)
    np.testing.assert_allclose(rough.raw_box_xywh, exact.raw_box_xywh, atol=1.2)
    assert rough.score == pytest.approx(exact.score, abs=0.02)
    assert rough.mask is not None
    assert rough.mask.dtype == np.float32
    np.testing.assert_allclose(rough.mask, exact.mask, atol=0.04)


def test_automatic_choices_without_a_graphics_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refiner = Refiner.from_network(KnownNetwork([0, 0, 1, 1]))  # type: ignore[arg-type]
    assert (refiner.backend.device, refiner.backend.precision) == ("cpu", "32")


def float32_precision() -> tuple[str, str]:
    return torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision  # type: ignore[attr-defined]


class Watching(KnownNetwork):
    """Records the float32 precision during the forward pass."""

    def forward(self, *args: Any) -> Any:
        self.seen = float32_precision()
        return super().forward(*args)


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_32_bits_are_32_bits_on_graphics_cards_too(precision: Any) -> None:
    before = float32_precision()
    network = Watching([64, 64, 192, 192])
    started(network, precision=precision).refine(FRAME, BOX)
    assert network.seen == ("ieee", "ieee")
    assert float32_precision() == before
    assert before[0] != "ieee"


def test_a_mask_alone() -> None:
    prob = np.full((256, 256), 0.1)
    prob[64:192, 64:192] = 0.9
    network = KnownNetwork([0, 0, 10, 10], prob)
    refiner = started(network)
    np.testing.assert_array_equal(refiner.segment(FRAME, BOX), refiner.refine(FRAME, BOX, mask=True).mask)
    assert network.calls[0][2] == ("mask",)
    with pytest.raises(RuntimeError, match="`segment` requires a target: call `initialize`"):
        Refiner.from_network(network, "cpu").segment(FRAME, BOX)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`segment` requires a network with a mask head"):
        started(KnownNetwork([0, 0, 1, 1])).segment(FRAME, BOX)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_graphics_card_gives_the_boxes_of_the_processor(random_network: AlphaRefineNet) -> None:
    exact = started(random_network).refine(FRAME, BOX, mask=True)
    for precision, tolerance in (("32", 0.05), ("auto", 1.2), ("bf16", 1.2)):
        refiner = Refiner.from_network(random_network, "auto", precision)  # type: ignore[arg-type]
        assert refiner.backend.device.startswith("cuda")
        assert refiner.backend.precision == ("16" if precision == "auto" else precision)
        refiner.initialize(FRAME, BOX)
        found = refiner.refine(FRAME, BOX, mask=True)
        np.testing.assert_allclose(found.raw_box_xywh, exact.raw_box_xywh, atol=tolerance)
        np.testing.assert_allclose(found.mask, exact.mask, atol=0.04)


def calibrated(options: dict[str, Any]) -> AlphaRefineNet:
    """Network with random weights, and batch norms that keep its values in the range of float16."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = AlphaRefineNet(NetworkConfig(**{"backbone": "resnet18", **options}))
        crops = torch.randint(0, 256, (2, 3, 256, 256))
    predicts_sizes = options.get("corner_head", "").startswith("box")  # their logarithms: they are to be small
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d) and not (predicts_sizes and name.startswith("corner_head")):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(crops, network.encode_template(crops))
    return network


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["32", "16", "bf16"])
@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: "-".join(options.values()))
def test_every_network_runs_on_a_graphics_card(options: dict[str, Any], precision: Any) -> None:
    network = calibrated(options)
    exact = started(network, precision="32").refine(FRAME, BOX, mask=True)
    refiner = Refiner.from_network(network, "cuda", precision)
    refiner.initialize(FRAME, BOX)
    found = refiner.refine(FRAME, BOX, mask=True)
    assert exact.failure != "not_finite"
    # On the CPU: 0.3 px in float16, 0.9 px in bfloat16, both of ResNet-50; masks 0.03.
    np.testing.assert_allclose(
        found.raw_box_xywh, exact.raw_box_xywh, atol={"32": 0.05, "16": 0.6, "bf16": 1.8}[precision]
    )
    np.testing.assert_allclose(found.mask, exact.mask, atol=0.01 if precision == "32" else 0.07)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("flip_test", [False, True])
def test_batches_of_any_size_on_a_graphics_card(random_network: AlphaRefineNet, flip_test: bool) -> None:
    refiner = Refiner.from_network(random_network, "cuda", "32", flip_test=flip_test)
    boxes = [BOX + np.array([x, x % 7, x % 5, x % 3]) for x in range(71)]
    templates = [refiner.encode_template(FRAME, box) for box in boxes]
    alone = [refiner.refine_many([FRAME], [box], [each])[0] for box, each in zip(boxes, templates, strict=True)]
    for num in (1, 2, 3, 32, 33, 71):
        for mask in (False, True):
            found = refiner.refine_many([FRAME] * num, boxes[:num], templates[:num], mask)
            for one, other in zip(found, alone, strict=False):
                np.testing.assert_allclose(one.raw_box_xywh, other.raw_box_xywh, atol=0.05)
                assert (one.mask is not None) == mask


def test_a_checkpoint_refines_like_the_network_in_it(checkpoint: Path) -> None:
    refiner = Refiner.from_checkpoint(checkpoint, device="cpu", precision="32")
    assert refiner.heads == ("corner", "mask")
    refiner.initialize(FRAME, BOX)
    found = refiner.refine(FRAME, BOX)
    content = torch.load(checkpoint, weights_only=True)
    network = AlphaRefineNet(
        NetworkConfig(content["hyper_parameters"]["backbone"], content["hyper_parameters"]["heads"])
    )
    network.load_state_dict({name.removeprefix("network."): value for name, value in content["state_dict"].items()})
    with torch.inference_mode():
        again = started(network).refine(FRAME, BOX)
    np.testing.assert_array_equal(found.box_xywh, again.box_xywh)
    assert 0 < found.score <= 1


# ---- misuse --------------------------------------------------------------------------------------------------------


def test_refine_before_initialize() -> None:
    with pytest.raises(RuntimeError, match="call `initialize`"):
        Refiner.from_network(KnownNetwork([0, 0, 1, 1]), "cpu").refine(FRAME, BOX)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(FRAME.astype(np.float32), id="float"),
        pytest.param(FRAME[..., 0], id="gray"),
        pytest.param(np.zeros((20, 20, 4), np.uint8), id="four channels"),
        pytest.param(np.zeros((1, 20, 20, 3), np.uint8), id="batch"),
        pytest.param(FRAME[:0], id="no height"),
    ],
)
def test_a_malformed_frame(frame: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"`frame` must be an \(H, W, 3\) uint8 RGB image"):
        Refiner.from_network(KnownNetwork([0, 0, 1, 1]), "cpu").initialize(frame, BOX)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`frame` must be an \(H, W, 3\) uint8 RGB image"):
        started(KnownNetwork([0, 0, 1, 1])).refine(frame, BOX)


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (None, r"got NoneType; read it again: `cv2.imread` returns None for a file that it cannot read"),
        ("frame.jpg", "got str; convert it"),
        (torch.zeros(9, 9, 3, dtype=torch.uint8), "got Tensor; convert it"),
    ],
)
def test_what_is_no_array_is_no_frame(frame: Any, told: str) -> None:
    with pytest.raises(ValueError, match=rf"`frame` must be an \(H, W, 3\) uint8 RGB image, {told}"):
        started(KnownNetwork([0, 0, 1, 1])).refine(frame, BOX)


@pytest.mark.parametrize(
    "box_xywh",
    [
        pytest.param([1, 2, 3], id="three numbers"),
        pytest.param([[1, 2, 3, 4]], id="two dimensions"),
        pytest.param([1, 2, 0, 4], id="no width"),
        pytest.param([1, 2, 3, -4], id="negative height"),
        pytest.param([np.nan, 2, 3, 4], id="not a number"),
        pytest.param([1, 2, np.inf, 4], id="infinite"),
    ],
)
def test_a_malformed_box(box_xywh: Any) -> None:
    refiner = started(KnownNetwork([0, 0, 1, 1]))
    for call in (refiner.initialize, refiner.refine):
        with pytest.raises(ValueError, match="`box_xywh` must be four finite numbers with a positive width and height"):
            call(FRAME, np.array(box_xywh, dtype=np.float64))


@pytest.mark.parametrize(
    "box_xywh",
    [[320, 10, 5, 5], [-5, 10, 5, 5], [10, 240, 5, 5], [10, -9, 5, 5]],
    ids=["right", "left", "below", "above"],
)
def test_a_first_box_outside_of_the_frame(box_xywh: Any) -> None:
    with pytest.raises(ValueError, match="lies outside of the 320x240 frame"):
        Refiner.from_network(KnownNetwork([0, 0, 1, 1]), "cpu").initialize(FRAME, np.array(box_xywh))  # type: ignore[arg-type]


def test_a_mask_of_a_network_without_masks() -> None:
    with pytest.raises(ValueError, match="`mask` requires a network with a mask head"):
        started(KnownNetwork([0, 0, 1, 1])).refine(FRAME, BOX, mask=True)


def test_the_malformed_one_of_a_batch_is_named() -> None:
    refiner = started(KnownNetwork([0, 0, 1, 1]))
    template = refiner.encode_template(FRAME, BOX)
    with pytest.raises(ValueError, match=r"`frames\[1\]` must be .* got NoneType"):
        refiner.refine_many([FRAME, None], [BOX, BOX], [template, template])  # type: ignore[list-item]
    for box_xywh in (BOX[:2], -BOX):
        with pytest.raises(ValueError, match=r"`boxes_xywh\[1\]` must be four finite numbers"):
            refiner.refine_many([FRAME, FRAME], [BOX, box_xywh], [template, template])


def test_lists_that_differ_in_length() -> None:
    refiner = started(KnownNetwork([0, 0, 1, 1]))
    with pytest.raises(ValueError, match="got 2 frames, 1 boxes, 1 templates"):
        refiner.refine_many([FRAME, FRAME], [BOX], [Template(torch.zeros(3))])


def test_a_template_from_elsewhere() -> None:
    with pytest.raises(ValueError, match=r"`templates` must come from `encode_template`; encode"):
        started(KnownNetwork([0, 0, 1, 1])).refine_many([FRAME], [BOX], [None])  # type: ignore[list-item]


@pytest.mark.parametrize("weights", ["ar18_cm", Path("best.ckpt")])
def test_weights_in_place_of_a_backend(weights: Any) -> None:
    with pytest.raises(ValueError, match=rf"`backend` must be .* got '{weights}'; use `Refiner.from_checkpoint`"):
        Refiner(weights)


def test_no_boxes_and_an_array_of_frames() -> None:
    refiner = started(KnownNetwork([64, 64, 192, 192]))
    template = refiner.encode_template(FRAME, BOX)
    assert refiner.refine_many([], np.empty((0, 4)), []) == []
    found = refiner.refine_many(np.stack([FRAME, FRAME]), np.stack([BOX, BOX]), [template, template])  # type: ignore[arg-type]
    np.testing.assert_allclose([refinement.box_xywh for refinement in found], [BOX, BOX])


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta"])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(ValueError, match=rf"`device` must be auto, cpu or a device of torch .*, got '{device}'"):
        Refiner.from_network(KnownNetwork([0, 0, 1, 1]), device)  # type: ignore[arg-type]


def test_an_unknown_precision() -> None:
    with pytest.raises(ValueError, match="`precision` must be one of auto, 32, 16, bf16, 8, got 'fp16'"):
        Refiner.from_network(KnownNetwork([0, 0, 1, 1]), "cpu", precision="fp16")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="Only an ONNX file computes in 8 bits"):
        Refiner.from_network(KnownNetwork([0, 0, 1, 1]), "cpu", precision="8")  # type: ignore[arg-type]


# ---- the mirrored second look ----------------------------------------------------------------------------------------


def mirrored_frame(frame: np.ndarray, box_xywh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y, w, h = box_xywh
    return np.ascontiguousarray(frame[:, ::-1]), np.array([frame.shape[1] - x - w, y, w, h])


@pytest.mark.parametrize("geometry", ["exact", "original"])
def test_a_second_look_makes_no_difference_between_left_and_right(geometry: GeometryName) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = AlphaRefineNet(NetworkConfig("resnet18", geometry=geometry))
    refiner = Refiner.from_network(network, "cpu", flip_test=True)
    template, mirrored_template = (
        refiner.encode_template(*scene) for scene in ((FRAME, BOX), mirrored_frame(FRAME, BOX))
    )
    refinement = refiner.refine_many([FRAME], [BOX], [template], mask=True)[0]
    frame, box_xywh = mirrored_frame(FRAME, BOX)
    mirrored = refiner.refine_many([frame], [box_xywh], [mirrored_template], mask=True)[0]
    _, back_xywh = mirrored_frame(frame, mirrored.raw_box_xywh)
    np.testing.assert_allclose(back_xywh, refinement.raw_box_xywh, atol=1e-3 if geometry == "exact" else 0.5)
    assert mirrored.score == pytest.approx(refinement.score, abs=1e-6)
    np.testing.assert_allclose(mirrored.mask[:, ::-1], refinement.mask, atol=1e-4)
    once = started(network).refine(FRAME, BOX)
    assert np.abs(once.raw_box_xywh - refinement.raw_box_xywh).max() > 0.1


def test_a_second_look_is_averaged_with_the_first() -> None:
    mask_prob = np.full((256, 256), 0.2)
    mask_prob[:, :128] = 0.6
    refiner = started(KnownNetwork([10, 20, 110, 120], mask_prob), flip_test=True)
    refinement = refiner.refine(FRAME, BOX, mask=True)
    crop_xyxy = np.array([(10 + 256 - 110) / 2, 20, (110 + 256 - 10) / 2, 120])
    scale = np.array([80, 60, 80, 60]) / 256
    x1, y1, x2, y2 = crop_xyxy * scale + [80, 65, 80, 65]
    np.testing.assert_allclose(refinement.raw_box_xywh, [x1, y1, x2 - x1, y2 - y1], atol=1e-4)
    assert refinement.mask is not None
    np.testing.assert_allclose(refinement.mask[70:120, 90:150], 0.4, atol=1e-6)


def test_a_target_that_was_looked_at_once_is_refused() -> None:
    network = KnownNetwork([64, 64, 192, 192])
    once = started(network).encode_template(FRAME, BOX)
    with pytest.raises(ValueError, match="flip_test"):
        started(network, flip_test=True).refine_many([FRAME], [BOX], [once])


def test_masks_need_a_target_each() -> None:
    refiner = started(KnownNetwork(mask_prob=np.full((256, 256), 0.9)))
    template = refiner.encode_template(FRAME, BOX)
    with pytest.raises(ValueError, match="got 2 frames, 2 boxes, 1 templates"):
        refiner.segment_many([FRAME, FRAME], [BOX, BOX], [template])


@pytest.mark.parametrize(
    ("predictions", "box_from"),
    [
        ({"crop_xyxy": [np.nan, 64, 192, 192]}, "corner"),
        ({"crop_xyxy": [64, 64, np.inf, 192]}, "corner"),
        ({"crop_xyxy": [64, 64, 192, 192], "peak_logit": np.nan}, "corner"),
        ({"mask_prob": np.full((256, 256), np.nan)}, "mask"),
    ],
    ids=["a corner", "infinity", "the score", "the mask"],
)
def test_predictions_that_are_not_finite_leave_the_given_box(predictions: dict[str, Any], box_from: Any) -> None:
    refinement = started(KnownNetwork(**predictions), box_from=box_from).refine(FRAME, BOX)
    assert (refinement.refined, refinement.failure, refinement.score) == (False, "not_finite", 0.0)
    np.testing.assert_array_equal(refinement.box_xywh, BOX)
    np.testing.assert_array_equal(refinement.raw_box_xywh, BOX)


def test_the_reason_of_a_failure() -> None:
    found = started(KnownNetwork(crop_xyxy=[64, 64, 192, 192]))
    assert found.refine(FRAME, BOX).failure is None
    assert found.refine(FRAME, np.array([5000.0, 80, 40, 30])).failure == "outside"
    empty = started(KnownNetwork(mask_prob=np.full((256, 256), 0.1)))
    assert empty.refine(FRAME, BOX).failure == "not_found"


@pytest.mark.parametrize(
    ("flags", "limit", "expected"),
    [
        ("fpu avx512f avx512_bf16 amx_bf16", None, "bf16"),
        ("fpu avx512f avx512_bf16", "ALL", "bf16"),
        ("fpu avx512f avx512_bf16", "AVX512_CORE_BF16", "bf16"),
        ("fpu avx512f avx512_bf16", "avx512_core", "32"),
        ("fpu avx2", None, "32"),
        (None, None, "32"),
    ],
    ids=["amx", "avx512", "allowed", "forbidden", "no_units", "no_linux"],
)
def test_auto_is_bfloat16_where_the_processor_computes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str | None, limit: str | None, expected: str
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(f"model name\t: A processor\nflags\t\t: {flags}\n")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    if limit is not None:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    monkeypatch.setattr(options, "CPU_INFO", cpuinfo)
    assert resolve_precision("auto", "cpu", "exact") == expected
    assert resolve_precision("auto", "cpu", "original") == "32"
    assert resolve_precision("auto", "mps", "exact") == "32"
