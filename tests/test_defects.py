"""Defects of the authors' code that are corrected here, by the numbers of the table in docs/deviations.md."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from alpharefine import Refiner
from alpharefine.boxes import clip_to_image, xywh_to_xyxy, xyxy_to_xywh
from alpharefine.checkpoints.loading import load_checkpoint
from alpharefine.cli import train
from alpharefine.crops import OriginalWindow, Window
from alpharefine.data.augmentation import PairAugmentation
from alpharefine.data.images import box_of_mask, read_image, read_label_image
from alpharefine.data.lasot import LaSOT
from alpharefine.data.mask_video import MaskVideo, Saliency
from alpharefine.data.pairs import EpochSampler, PairDataset, PairSource
from alpharefine.errors import UserError
from alpharefine.evaluation.config import DatasetConfig
from alpharefine.evaluation.datasets.registry import open_dataset
from alpharefine.evaluation.run import TrackerRunner
from alpharefine.masks import mask_to_box
from alpharefine.models import AlphaRefineNet, Corners, Grid, NetworkConfig, soft_argmax
from alpharefine.models.heads import BoxHead
from alpharefine.trackers import Track, TrackState
from alpharefine.trackers.dimp.target import Target
from alpharefine.training.losses import best_cell_loss, mask_loss
from tests.evaluation.settings import run_settings
from tests.known_network import BOX, FRAME, KnownNetwork, started

BOXES = np.random.default_rng(0).uniform([-20, -20, 6, 6], [300, 200, 90, 90], size=(200, 4))


def shifted(box_xywh: np.ndarray) -> np.ndarray:
    return box_xywh + np.array([0.07, -0.11, 0.13, 0.05]) * box_xywh[[2, 3, 2, 3]]


def test_1_label_and_way_back_are_inverses() -> None:
    for box in BOXES:
        there = xywh_to_xyxy(shifted(box))
        window = Window.around(box)
        np.testing.assert_allclose(window.to_image(window.to_crop(there)), there, atol=1e-9)
    errors = [
        np.abs((w := OriginalWindow.around(box)).to_image(w.to_crop(xywh_to_xyxy(box))) - xywh_to_xyxy(box)).max()
        for box in BOXES
    ]
    assert np.mean(errors) > 0.1


@pytest.mark.parametrize(("window", "is_right"), [(Window, True), (OriginalWindow, False)])
def test_2_and_3_the_label_is_where_the_target_is_in_the_crop(window: type[Window], is_right: bool) -> None:
    errors = []
    for size in range(9, 30):
        frame = np.zeros((120, 120, 3), np.uint8)
        x, y = 40 + size % 7, 50 + size % 5
        frame[y : y + size, x : x + size] = 255
        made = window.around(np.array([x + 0.4, y - 0.3, size * 1.21, size * 0.87]))
        label = made.to_crop(np.array([x, y, x + size, y + size], dtype=np.float64))
        x1, y1, w, h = box_of_mask(made.cut(frame)[..., 0] > 127)
        errors.append(np.abs(label - [x1, y1, x1 + w, y1 + h]).mean())
    assert (np.mean(errors) < 0.5) == is_right


def test_4_the_far_borders_can_be_reached() -> None:
    scores = torch.full((1, 16, 16), -50.0)
    scores[0, 15, 15] = 50
    assert soft_argmax(scores, Grid(256)).tolist() == [[256, 256]]
    assert soft_argmax(scores, Grid(256, reaches_end=False)).tolist() == [[240, 240]]


def test_5_no_row_or_column_is_lost_at_the_border() -> None:
    picture = np.full((64, 64, 3), 200, np.uint8)
    whole = np.array([16.0, 16, 32, 32])  # its window is the picture
    assert (Window.around(whole).cut(picture, 64) == 200).all()
    assert not (OriginalWindow.around(whole).cut(picture, 64) == 200).all()


@pytest.mark.parametrize("place", [(-300, 40), (700, 40), (40, -300), (40, 700)], ids=str)
def test_6_a_window_outside_of_the_picture_is_black_and_not_refined(place: tuple[int, int]) -> None:
    box = np.array([*place, 20.0, 20.0])
    assert not Window.around(box).cut(np.full((100, 100, 3), 255, np.uint8)).any()
    found = started(KnownNetwork(crop_xyxy=[10, 10, 50, 50])).refine(FRAME, box)
    assert not found.refined
    np.testing.assert_array_equal(found.raw_box_xywh, box)


def test_7_and_8_boxes_are_ordered_and_not_tiny() -> None:
    boxes = np.random.default_rng(1).uniform(-50, 150, size=(500, 4))
    x, y, w, h = xyxy_to_xywh(clip_to_image(boxes, (100, 80))).T
    assert (w >= 10 - 1e-9).all()
    assert (h >= 10 - 1e-9).all()
    assert (x >= 0).all()
    assert (x + w <= 80 + 1e-9).all()
    assert (y + h <= 100 + 1e-9).all()


class Recording:
    """Tracker that stays at its box, gives no box in the third frame, and records the boxes that are set."""

    boxes: ClassVar[list[list[float]]] = []
    state: ClassVar[TrackState] = TrackState.NORMAL

    def initialize(self, _frame: np.ndarray, box_xywh: np.ndarray) -> None:
        self.boxes.clear()
        self.box_xywh, self.index = box_xywh, 0

    def track(self, _frame: np.ndarray) -> Track:
        self.index += 1
        box_xywh = np.full(4, -1.0) if self.index == 2 else self.box_xywh
        return Track(box_xywh, 0.5, self.state)

    def set_box(self, box_xywh: np.ndarray) -> None:
        self.boxes.append(box_xywh.tolist())
        self.box_xywh = box_xywh


def run_recording(lasot_root: Path, checkpoint: Path, **refinement: Any) -> np.ndarray:
    """Return the boxes of a refined run over `Recording`."""
    dataset = open_dataset(DatasetConfig(root=lasot_root))
    settings = run_settings(f"{__name__}:Recording", ckpt=str(checkpoint), **refinement)
    return TrackerRunner({"refined": settings}, "cpu")("refined", dataset.load(dataset.names[0])).boxes_xywh


@pytest.fixture
def recorded(lasot_root: Path, checkpoint: Path) -> np.ndarray:
    """The boxes of a run over `Recording`."""
    return run_recording(lasot_root, checkpoint, min_feedback_score=0.0)


def test_9_a_target_that_is_lost_need_not_be_refined(
    lasot_root: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recording, "state", TrackState.NOT_FOUND)
    boxes = {}
    for when_lost in ("refine", "report", "keep"):
        boxes[when_lost] = run_recording(lasot_root, checkpoint, when_lost=when_lost, min_feedback_score=0.0)
        assert bool(Recording.boxes) == (when_lost == "refine")
    assert (boxes["keep"][[1, 3, 4, 5]] == boxes["keep"][0]).all()
    assert (boxes["report"][1] != boxes["report"][0]).any()
    run_recording(lasot_root, checkpoint, min_feedback_score=1.1)
    assert not Recording.boxes, "the refiner's own peak gates too"


def test_10_the_box_fed_back_is_the_one_recorded(recorded: np.ndarray) -> None:
    assert Recording.boxes == [row for i, row in enumerate(recorded.tolist()) if i not in (0, 2)]


def test_11_the_first_box_is_used_as_given() -> None:
    network = KnownNetwork(crop_xyxy=[64, 64, 192, 192])
    refiner = Refiner.from_network(network, "cpu")
    refiner.initialize(FRAME, BOX)
    expected = Window.around(BOX).cut(FRAME)
    np.testing.assert_array_equal(network.templates[0][0].permute(1, 2, 0).numpy(), expected)


@pytest.mark.parity
def test_11_the_original_moves_every_first_box(golden: Path) -> None:
    with np.load(golden / "geometry_original.npz") as arrays:
        rectangles, polygons, started_xywh = arrays["init_rect"], arrays["init_polygon"], arrays["init_box"]
    num = len(rectangles)
    moved = started_xywh[:num] - rectangles
    np.testing.assert_allclose(moved, np.tile([0.5, 0.5, 0, 0], (num, 1)), atol=1e-4)
    middles = started_xywh[num:, :2] + started_xywh[num:, 2:] / 2
    moved = middles - polygons.reshape(-1, 4, 2).mean(1)
    np.testing.assert_allclose(moved, np.full((len(polygons), 2), 0.5), atol=1e-4)


def test_12_a_box_set_is_the_box_that_a_tracker_has() -> None:
    target = Target(np.array([40.0, 30.0, 24.0, 18.0]), sample_size=288, search_area_scale=5)
    for box in BOXES[:20]:
        target.set_box(box)
        np.testing.assert_allclose(target.box_xywh, box, atol=1e-4)


def test_13_boxes_and_masks_are_asked_for_by_name() -> None:
    refiner = started(KnownNetwork(crop_xyxy=[64, 64, 192, 192], mask_prob=0.9))
    assert refiner.refine(FRAME, BOX).mask is None
    assert refiner.refine(FRAME, BOX, mask=True).mask is not None


def test_14_boxes_of_masks_need_no_certain_opencv() -> None:
    mask = np.zeros((40, 50))
    mask[5:25, 10:40] = 1
    assert mask_to_box(mask) is not None
    np.testing.assert_array_equal(mask_to_box(mask), [10, 5, 30, 20])


def test_16_saliency_needs_no_list_of_boxes(data_root: Path) -> None:
    record = next(Saliency(data_root / "ecssd").records())
    assert (record.boxes_xywh[0, 2:] > 0).all()


def test_17_objects_are_palette_indices_and_gaps_are_frames(tmp_path: Path) -> None:
    labels = np.zeros((30, 40), np.uint8)
    labels[2:14, 2:14], labels[15:29, 20:39] = 1, 2
    for folder in ("JPEGImages", "Annotations"):
        (tmp_path / folder / "v").mkdir(parents=True)
    for frame in (0, 4, 60, 64, 120, 124):
        cv2.imwrite(str(tmp_path / f"JPEGImages/v/{frame:05d}.jpg"), np.full((30, 40, 3), frame, np.uint8))
        picture = Image.fromarray(labels, mode="P")
        picture.putpalette([0, 0, 0, 0, 0, 200, 67, 0, 0, *[0] * 759])  # 1 and 2 are of about the same gray
        picture.save(tmp_path / f"Annotations/v/{frame:05d}.png")
    first, second = MaskVideo(tmp_path).records()
    assert (first.object_id, second.object_id) == (1, 2)
    source = PairSource(MaskVideo(tmp_path), tmp_path / "cache", max_gap=10)
    rng = np.random.default_rng(0)
    pairs = [[frame.load() for frame in source.draw(rng)] for _ in range(40)]
    gaps = [abs(template.image.mean() - search.image.mean()) for template, search in pairs]
    assert max(gaps) < 10


def test_19_lasot_is_read_by_its_lists(data_root: Path) -> None:
    for split in ("train", "test"):
        names = (data_root / "lasot" / f"{split}ing_set.txt").read_text().split()
        assert [record.name for record in LaSOT(data_root / "lasot", split).records()] == names


def test_20_a_batch_without_masks_can_be_trained_on() -> None:
    logits = torch.zeros(2, 8, 8, requires_grad=True)
    loss = mask_loss(logits, torch.zeros(2, 8, 8), torch.tensor([False, False]))
    loss.backward()
    assert loss == 0
    assert logits.grad is not None


def test_21_the_confidence_of_the_rpn_head_is_trained() -> None:
    scores = torch.zeros(1, 1, 16, 16, requires_grad=True)
    best_cell_loss(scores, torch.tensor([[96.0, 32, 128, 64]])).backward()
    assert scores.grad is not None
    assert int(scores.grad.argmin()) == 3 * 16 + 7


def test_22_the_depthwise_neck_runs() -> None:
    network = AlphaRefineNet(NetworkConfig("resnet18", ("corner",), neck="depthwise")).eval()
    crops = torch.zeros(1, 3, 256, 256)
    with torch.inference_mode():
        assert network(crops, network.encode_template(crops)).corners.crop_xyxy.isfinite().all()


def test_23_box_heads_run_and_can_shrink_a_box() -> None:
    torch.manual_seed(0)
    fused = torch.randn(16, 64, 16, 16)
    with torch.inference_mode():
        assert (BoxHead(64, Grid(256), "box").eval().deltas(10 * fused) < 0).any()
        for name in ("box_conv", "box_conv_narrow"):
            assert BoxHead(64, Grid(256), name).eval()(fused[:1]).crop_xyxy.isfinite().all()


def test_24_a_run_ends_once_and_goes_on_when_asked(tmp_path: Path) -> None:
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.touch()
    config = Path(__file__).parent / "conf" / "small.yaml"
    with pytest.raises(UserError, match=r"run holds a run; continue it with `--resume`, or give another `--name`"):
        train.main([f"--config={config}", f"--output_dir={tmp_path}", "--name=run"])


@pytest.mark.parametrize("change", [{"heads": ("corner",)}, {"neck": "naive"}, {"backbone": "resnet34"}], ids=str)
def test_25_a_checkpoint_records_its_network(checkpoint: Path, tmp_path: Path, change: dict[str, object]) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"] |= change
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="does not hold the weights of the network that it describes"):
        load_checkpoint(tmp_path / "other.ckpt")


def test_26_27_every_pair_has_its_own_brightness_and_validation_repeats(data_root: Path, tmp_path: Path) -> None:
    source = PairSource(Saliency(data_root / "ecssd"), tmp_path)
    still = {"scale_jitter": 0, "center_jitter": 0, "gray_prob": 0}
    plain, bright = (PairDataset([source], [1.0], PairAugmentation(**still, brightness=b), 8) for b in (0.0, 0.2))
    factors = [bright[i].search.float().mean() / plain[i].search.float().mean() for i in range(8)]
    assert len({round(float(factor), 3) for factor in factors}) > 5
    dataset = plain
    fixed = EpochSampler(dataset, True, 1, 0)
    first = list(fixed)
    fixed.set_epoch(3)
    assert list(fixed) == first


def test_28_nothing_is_built_that_is_not_run() -> None:
    network = AlphaRefineNet(NetworkConfig("resnet34"))
    assert not [name for name, _ in network.named_parameters() if "layer4" in name or ".fc." in name]


def test_29_30_the_network_has_no_state_of_a_target() -> None:
    network = AlphaRefineNet(NetworkConfig("resnet18", ("corner",))).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    pictures = torch.randint(0, 256, (2, 3, 256, 256), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.inference_mode():
        kernels = network.encode_template(pictures)
        both = network(pictures, kernels).corners.crop_xyxy
        alone = network(pictures[1:], kernels[1:]).corners.crop_xyxy
    torch.testing.assert_close(both[1:], alone, rtol=0, atol=1e-3)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_31_an_unreadable_picture_is_named(tmp_path: Path) -> None:
    for read in (read_image, read_label_image):
        with pytest.raises(UserError, match="nowhere"):
            read(tmp_path / "nowhere.png")


def test_33_nothing_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (marker,)

    torch.save({"net": {}, "constructor": Evil(), "net_type": "SEcmnet"}, tmp_path / "evil.pth.tar")
    (tmp_path / "plain.pth.tar").write_bytes(pickle.dumps(Evil()))
    for name in ("evil", "plain"):
        with pytest.raises(UserError):
            load_checkpoint(tmp_path / f"{name}.pth.tar")
    assert not marker.exists()


def test_34_a_tracker_without_a_box_does_not_stop_the_run(recorded: np.ndarray) -> None:
    assert recorded[2].tolist() == [-1, -1, -1, -1]
    assert (recorded[3:, 2:] > 0).all()


def test_peak_of_a_head_without_scores_is_certain() -> None:
    assert Corners(torch.zeros(2, 4), torch.zeros(2, 0, 1, 1)).peak.tolist() == [1, 1]
