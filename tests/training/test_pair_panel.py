from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

from alpharefine.data.pairs import PairBatch
from alpharefine.models import Corners, Prediction
from alpharefine.training.pair_panel import PREDICTED_COLOR, TARGET_COLOR, PairPanel, draw_pair

SIDE = 32
GRAY = 100
TARGET_XYXY = np.array([4.0, 6.0, 20.0, 26.0])
PRED_XYXY = np.array([8.4, 9.6, 27.5, 29.0])


def plain(value: int = GRAY) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), value, np.uint8)


def column_mask(x: int, dtype: type = np.uint8) -> np.ndarray:
    """Mask of everything left of a column."""
    mask = np.zeros((SIDE, SIDE), dtype)
    mask[:, :x] = 1
    return mask


def colors(picture: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(int(v) for v in pixel) for pixel in picture.reshape(-1, 3)}


class TestDrawing:
    @pytest.fixture
    def panels(self) -> list[np.ndarray]:
        pred_mask = np.where(column_mask(10) > 0, 0.51, 0.49)
        picture = draw_pair(plain(50), plain(), TARGET_XYXY, PRED_XYXY, column_mask(5), pred_mask)
        assert picture.shape == (SIDE, 4 * SIDE, 3)
        assert picture.dtype == np.uint8
        return np.hsplit(picture, 4)

    def test_the_template_comes_first_as_it_is(self, panels) -> None:
        assert np.array_equal(panels[0], plain(50))

    def test_boxes(self, panels) -> None:
        boxed = panels[1]
        assert colors(boxed) == {(GRAY, GRAY, GRAY), TARGET_COLOR, PREDICTED_COLOR}
        for box, color in ((TARGET_XYXY, TARGET_COLOR), (PRED_XYXY, PREDICTED_COLOR)):
            x1, y1, x2, y2 = np.rint(box).astype(int)
            for y, x in ((y1, x1), (y1, x2), (y2, x1), (y2, x2)):  # the corners of a box are on its outline
                assert tuple(boxed[y, x]) == color
        assert tuple(boxed[15, 6]) == (GRAY, GRAY, GRAY)  # within the true box, nothing is filled
        assert tuple(boxed[1, 1]) == (GRAY, GRAY, GRAY)

    @pytest.mark.parametrize(("panel", "width", "color"), [(2, 5, TARGET_COLOR), (3, 10, PREDICTED_COLOR)])
    def test_masks_are_tints_of_a_search_region_without_boxes(self, panels, panel, width, color) -> None:
        tint = tuple(GRAY // 2 + c // 2 for c in color)
        assert colors(panels[panel][:, :width]) == {tint}
        assert colors(panels[panel][:, width:]) == {(GRAY, GRAY, GRAY)}

    def test_the_input_is_not_drawn_into(self) -> None:
        search = plain()
        draw_pair(plain(), search, TARGET_XYXY, PRED_XYXY, None, None)
        assert np.array_equal(search, plain())

    @pytest.mark.parametrize(
        ("pred_xyxy", "target_mask", "pred_mask", "num_panels"),
        [
            (None, column_mask(4), column_mask(4, np.float32), 4),
            (PRED_XYXY, None, None, 2),
            (PRED_XYXY, None, column_mask(4, np.float32), 3),
            (None, None, None, 2),
        ],
        ids=["no box", "no mask", "no true mask", "nothing"],
    )
    def test_what_is_not_there_is_left_out(self, pred_xyxy, target_mask, pred_mask, num_panels) -> None:
        picture = draw_pair(plain(), plain(), TARGET_XYXY, pred_xyxy, target_mask, pred_mask)
        assert picture.shape == (SIDE, num_panels * SIDE, 3)
        assert (PREDICTED_COLOR in colors(picture[:, SIDE : 2 * SIDE])) == (pred_xyxy is not None)


class Recorder(WandbLogger):
    """Logger that keeps images instead of sending them."""

    def __init__(self) -> None:
        self.logged: list[tuple[str, list[np.ndarray], int]] = []

    def log_image(self, key, images, step=None) -> None:
        self.logged.append((key, images, step))


class BoardRecorder(TensorBoardLogger):
    """The same for TensorBoard."""

    def __init__(self) -> None:
        self.logged: list[tuple[str, np.ndarray, int]] = []

    @property
    def experiment(self) -> SimpleNamespace:
        return SimpleNamespace(add_image=self.add_image)

    def add_image(self, tag, picture, step, dataformats) -> None:
        assert dataformats == "HWC"
        self.logged.append((tag, picture, step))


def a_trainer(logger: object, **changed: object) -> SimpleNamespace:
    given = {"loggers": [object(), logger], "sanity_checking": False, "is_global_zero": True, "global_step": 7}
    return SimpleNamespace(**(given | changed), precision_plugin=SimpleNamespace(forward_context=nullcontext))


def a_batch(num: int, gray: int = GRAY) -> PairBatch:
    crops = torch.full((num, 3, SIDE, SIDE), gray, dtype=torch.uint8)
    target_xyxy = torch.from_numpy(TARGET_XYXY).float().expand(num, 4)
    masks = torch.from_numpy(column_mask(5)).expand(num, SIDE, SIDE)
    return PairBatch(
        crops, target_xyxy, crops, target_xyxy, masks, torch.arange(num) == 0
    )  # the first alone has a mask


def a_prediction(num: int, corners: bool = True, mask: bool = True) -> Prediction:
    crop_xyxy = torch.from_numpy(PRED_XYXY).float().expand(num, 4)
    logits = torch.from_numpy(column_mask(10, np.float32) * 2 - 1).expand(num, SIDE, SIDE)
    boxes = Corners(crop_xyxy, torch.zeros(num, 2, 16, 16)) if corners else None
    return Prediction(boxes, logits if mask else None)


def show(trainer: SimpleNamespace, panel: PairPanel, batch_idx: int = 0, num: int = 3, **parts: bool) -> None:
    outputs = {"prediction": a_prediction(num, **parts)}
    panel.on_validation_batch_end(
        trainer, lambda batch: a_prediction(len(batch.search)), outputs, a_batch(num), batch_idx
    )


def expected(gray: int = GRAY) -> np.ndarray:
    return draw_pair(plain(gray), plain(gray), TARGET_XYXY, PRED_XYXY, column_mask(5), column_mask(10, np.float32))


class TestPanel:
    def test_the_first_pairs_of_a_validation(self) -> None:
        logger = Recorder()
        show(a_trainer(logger), PairPanel(num_pairs=2))
        ((key, pictures, step),) = logger.logged
        assert (key, step) == ("val/pairs", 7)
        assert np.array_equal(pictures[0], expected())
        assert [picture.shape[1] // SIDE for picture in pictures] == [4, 3]  # the second has no true mask

    def test_a_batch_may_be_smaller(self) -> None:
        logger = Recorder()
        show(a_trainer(logger), PairPanel(num_pairs=8))
        assert len(logger.logged[0][1]) == 3

    @pytest.mark.parametrize(
        ("parts", "has_box", "num_panels"), [({"mask": False}, True, 3), ({"corners": False}, False, 4)]
    )
    def test_networks_with_one_head(self, parts, has_box, num_panels) -> None:
        logger = Recorder()
        show(a_trainer(logger), PairPanel(), **parts)
        picture = logger.logged[0][1][0]
        assert picture.shape[1] == num_panels * SIDE
        assert (PREDICTED_COLOR in colors(picture[:, SIDE : 2 * SIDE])) == has_box

    @pytest.mark.parametrize(
        ("changed", "batch_idx"),
        [({}, 1), ({"sanity_checking": True}, 0), ({"is_global_zero": False}, 0)],
        ids=["later batch", "sanity check", "another process"],
    )
    def test_nothing_else_is_shown(self, changed, batch_idx) -> None:
        logger = Recorder()
        show(a_trainer(logger, **changed), PairPanel(), batch_idx)
        assert logger.logged == []

    def test_pairs_of_the_last_training_batch(self) -> None:
        logger, panel = Recorder(), PairPanel(num_pairs=2)
        for gray in (30, 60):
            panel.on_train_batch_end(a_trainer(logger), None, None, a_batch(5, gray), 0)
        show(a_trainer(logger), panel)
        assert [(key, len(pictures), step) for key, pictures, step in logger.logged] == [
            ("val/pairs", 2, 7),
            ("train/pairs", 2, 7),
        ]
        assert np.array_equal(logger.logged[1][1][0], expected(60))

    def test_tensorboard(self) -> None:
        logger, panel = BoardRecorder(), PairPanel(num_pairs=1)
        panel.on_train_batch_end(a_trainer(logger), None, None, a_batch(5, 60), 0)
        show(a_trainer(logger), panel)
        assert [(tag, step) for tag, _, step in logger.logged] == [("val/pairs/0", 7), ("train/pairs/0", 7)]
        assert np.array_equal(logger.logged[0][1], expected())
        assert np.array_equal(logger.logged[1][1], expected(60))

    def test_loggers_without_pictures(self) -> None:
        other, panel = SimpleNamespace(), PairPanel()
        panel.on_train_batch_end(a_trainer(other), None, None, a_batch(2), 0)
        panel.on_validation_batch_end(a_trainer(other), None, {}, a_batch(2), 0)
        assert not vars(other), "nothing was asked of another logger"
        assert panel._train_batch is None, "no batch is held"
