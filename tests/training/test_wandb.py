from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import wandb
from pytorch_lightning.loggers import WandbLogger

from alpharefine.data.pairs import PairBatch
from alpharefine.errors import UserError
from alpharefine.models import Corners, Prediction
from alpharefine.training.wandb import PREDICTED_COLOR, TARGET_COLOR, PairPanel, draw_pair, no_answer, wandb_logger
from tests.training_runs import PROJECT, arguments, run

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


def a_trainer(logger: object, **changed: object) -> SimpleNamespace:
    given = {"loggers": [object(), logger], "sanity_checking": False, "is_global_zero": True, "global_step": 7}
    return SimpleNamespace(**(given | changed))


def a_batch(num: int) -> PairBatch:
    crops = torch.full((num, 3, SIDE, SIDE), GRAY, dtype=torch.uint8)
    target_xyxy = torch.from_numpy(TARGET_XYXY).float().expand(num, 4)
    masks = torch.from_numpy(column_mask(5)).expand(num, SIDE, SIDE)
    return PairBatch(
        crops, target_xyxy, crops, target_xyxy, masks, torch.arange(num) == 0
    )  # the first alone has a mask


def a_prediction(num: int, corners: bool = True, mask: bool = True) -> dict[str, Prediction]:
    crop_xyxy = torch.from_numpy(PRED_XYXY).float().expand(num, 4)
    logits = torch.from_numpy(column_mask(10, np.float32) * 2 - 1).expand(num, SIDE, SIDE)
    boxes = Corners(crop_xyxy, torch.zeros(num, 2, 16, 16)) if corners else None
    return {"prediction": Prediction(boxes, logits if mask else None)}


def show(trainer: SimpleNamespace, panel: PairPanel, batch_idx: int = 0, num: int = 3, **parts: bool) -> None:
    panel.on_validation_batch_end(trainer, None, a_prediction(num, **parts), a_batch(num), batch_idx)


class TestPanel:
    def test_the_first_pairs_of_a_validation(self) -> None:
        logger = Recorder()
        show(a_trainer(logger), PairPanel(num_pairs=2))
        ((key, pictures, step),) = logger.logged
        assert (key, step) == ("val/pairs", 7)
        expected = draw_pair(plain(), plain(), TARGET_XYXY, PRED_XYXY, column_mask(5), column_mask(10, np.float32))
        assert np.array_equal(pictures[0], expected)
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

    def test_runs_that_wandb_does_not_track(self) -> None:
        other = SimpleNamespace()
        show(a_trainer(other), PairPanel())
        assert not vars(other), "nothing was asked of another logger"


class TestLogger:
    @pytest.mark.parametrize(
        ("mode", "has_key", "fault", "offline"),
        [
            ("auto", True, "", False),
            ("auto", True, "no route", True),
            ("auto", False, "", True),
            ("online", True, "", False),
            ("offline", True, "", True),
        ],
    )
    def test_modes(self, tmp_path, monkeypatch, capsys, mode, has_key, fault, offline) -> None:
        asked = []
        monkeypatch.setattr(wandb, "login", lambda **options: asked.append(options) or has_key)
        monkeypatch.setattr("alpharefine.training.wandb.no_answer", lambda *_: fault)
        logger = wandb_logger("a run", tmp_path / "a" / "run", mode, {"lr": 0.1})
        assert isinstance(logger, WandbLogger)
        assert logger._offline == offline
        assert asked == ([] if mode == "offline" else [{"prompt": False, "verify": False}])
        assert (tmp_path / "a" / "run").is_dir()
        assert Path(logger.save_dir) == tmp_path / "a" / "run"
        assert capsys.readouterr().err.count("the run is tracked offline") == bool(fault)

    @pytest.mark.parametrize(
        ("has_key", "fault", "message"),
        [
            (False, "", "`--wandb online` requires a key, found none; set WANDB_API_KEY"),
            (True, "no route", r"`--wandb online`: no answer from \S+ \(no route\); use `--wandb offline`"),
        ],
    )
    def test_online_without_a_key_or_network(self, tmp_path, monkeypatch, has_key, fault, message) -> None:
        monkeypatch.setattr(wandb, "login", lambda **_: has_key)
        monkeypatch.setattr("alpharefine.training.wandb.no_answer", lambda *_: fault)
        with pytest.raises(UserError, match=message):
            wandb_logger("a run", tmp_path, "online", {})

    def test_auto_without_a_key_asks_nobody_and_stays_offline(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("WANDB_API_KEY", raising=False)
        monkeypatch.setattr("alpharefine.training.wandb.no_answer", None)
        assert wandb_logger("a run", tmp_path / "run", "auto", {})._offline

    def test_what_wandb_refuses_is_one_line(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(wandb, "login", lambda **_: True)
        monkeypatch.setattr("alpharefine.training.wandb.no_answer", lambda *_: "")
        logger = wandb_logger("a run", tmp_path, "online", {})

        def refuse(**_: object) -> None:
            raise wandb.errors.CommError("permission denied\nmore")

        monkeypatch.setattr(wandb, "init", refuse)
        with pytest.raises(UserError, match=r"^`--wandb online`: permission denied; use `--wandb offline`"):
            _ = logger.experiment


class TestAnswer:
    def test_a_closed_port(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        assert "refused" in no_answer(f"http://127.0.0.1:{port}", 5)

    def test_a_server_that_says_nothing(self) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            assert no_answer(f"http://127.0.0.1:{silent.getsockname()[1]}", 0.2)

    def test_any_status_is_an_answer(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_error(404)

            def log_message(self, *_: object) -> None:
                pass

        with HTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.handle_request, daemon=True).start()
            assert not no_answer(f"http://127.0.0.1:{server.server_port}", 5)

    def test_no_address(self) -> None:
        assert no_answer("nowhere", 5)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "code"), [("online", 2), ("auto", 0)])
def test_no_network(tmp_path, data_root, mode, code) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    environment = {"WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40, "HOME": str(tmp_path)}
    one_step = {"trainer__limit_train_batches": 1, "trainer__limit_val_batches": 1, "trainer__max_epochs": 1}
    command = (str(PROJECT / "train.py"), *arguments(data_root, tmp_path, wandb=mode, **one_step))
    done = run(*command, cwd=tmp_path, **environment)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if mode == "online":
        assert done.stderr.splitlines()[-1].startswith(f"error: `--wandb online`: no answer from {url}")
    else:
        assert f"wandb: no answer from {url}" in done.stderr
        assert list((tmp_path / "small" / "wandb").glob("offline-run-*"))
