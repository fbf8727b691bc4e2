"""Runs of the training command in wandb, read back from their files."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import wandb
from pytorch_lightning.loggers import WandbLogger

from alpharefine.data.images import read_image
from alpharefine.errors import UserError
from alpharefine.training.wandb import wandb_logger
from tests.training_runs import PROJECT, arguments, read_metrics, run
from tests.wandb_files import read_run


class TestLogger:
    def test_a_run_that_is_kept_on_the_disk(self, tmp_path) -> None:
        logger = wandb_logger("a run", tmp_path / "a" / "run", "offline", {"lr": 0.1})
        assert isinstance(logger, WandbLogger)
        assert (tmp_path / "a" / "run").is_dir()
        assert Path(logger.save_dir) == tmp_path / "a" / "run"

    @pytest.mark.parametrize(
        ("mode", "others"), [("online", "`--wandb offline` or `--wandb off`"), ("offline", "`--wandb off`")]
    )
    def test_what_wandb_refuses_is_one_line(self, tmp_path, monkeypatch, mode, others) -> None:
        monkeypatch.setattr("alpharefine.training.wandb.resolve_mode", lambda *_, **__: mode)
        logger = wandb_logger("a run", tmp_path, "auto", {})

        def refuse(**options: object) -> None:
            assert options["mode"] == mode
            raise wandb.errors.CommError("permission denied\nmore")

        monkeypatch.setattr(wandb, "init", refuse)
        with pytest.raises(
            UserError, match=rf"^`--wandb`: wandb does not start {mode} \(permission denied\); use {others}\.$"
        ):
            _ = logger.experiment


@pytest.fixture(scope="module")
def tracked(data_root, tmp_path_factory) -> Path:
    """Folder of a run of two epochs with two steps each, tracked without a key."""
    folder = tmp_path_factory.mktemp("tracked")
    names = ("HOME", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR")
    environment = {name: str(folder / name) for name in names} | {"WANDB_API_KEY": ""}
    command = (str(PROJECT / "train.py"), *arguments(data_root, folder, "--log_checkpoints", wandb="auto"))
    process = run(*command, cwd=folder, **environment)
    assert process.returncode == 0, process.stderr
    return folder / "small"


@pytest.mark.slow
class TestRunFile:
    def test_the_configuration(self, tracked) -> None:
        read = read_run(tracked)
        assert read.name == "small"
        assert read.config["model"]["backbone"] == "resnet18"
        assert read.config["data"]["init_args"]["batch_size"] == 2

    def test_losses_and_measures_of_every_step(self, tracked) -> None:
        read = read_run(tracked)
        for key in ("train/loss", "train/loss_corner", "train/loss_mask", "train/gradient_norm", "train/loader_wait"):
            assert read.logged(key) == [row[key] for row in read_metrics(tracked, skipped=()) if key in row]
            assert len(read.logged(key)) == 4
        assert all(0 < share < 1 for share in read.logged("train/loader_wait"))
        assert all(rate > 0 for rate in read.logged("train/pairs_per_s"))
        for key in ("val/iou", "val/mask_iou", "lr-AdamW/pg1"):
            assert len(read.logged(key)) == 2

    def test_pictures_of_every_validation(self, tracked) -> None:
        read = read_run(tracked)
        for key in ("val/pairs", "train/pairs"):
            first, second = read.logged(key)
            assert (first["_type"], first["count"], second["count"]) == ("images/separated", 2, 2)
            pictures = [read_image(read.folder / "files" / name) for name in first["filenames"]]
            sizes = {picture.shape for picture in pictures}
            assert sizes <= {(256, panels * 256, 3) for panels in (3, 4)}  # template, boxes, one or two masks
        assert [row["trainer/global_step"] for row in read.history if "train/pairs" in row] == [2, 4]

    def test_the_best_checkpoint_is_an_artifact(self, tracked) -> None:
        (artifact,) = read_run(tracked).artifacts
        assert (artifact.type, sorted(artifact.aliases)) == ("model", ["best", "latest"])
        (entry,) = artifact.manifest.contents
        assert entry.size == (tracked / "checkpoints" / "best.ckpt").stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "code"), [pytest.param("online", 2, marks=pytest.mark.exhaustive), ("auto", 0)])
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
