"""Training runs: files, metrics, resuming, the command in another process."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from alpharefine.cli.train import main
from alpharefine.errors import UserError
from alpharefine.training.task import RefineTask
from tests.training_runs import PROJECT, arguments, assert_equal_states, read_checkpoint, read_metrics, run


@pytest.fixture(scope="module")
def trained(data_root, tmp_path_factory) -> Path:
    """Folder of a run of two epochs with two steps each."""
    output_dir = tmp_path_factory.mktemp("trained")
    main(arguments(data_root, output_dir))
    return output_dir / "small"


class TestTraining:
    def test_files_of_a_run(self, trained) -> None:
        files = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
        logs = "logs/version_0"
        assert {f"{logs}/metrics.csv", f"{logs}/config.yaml"} <= files
        assert {f for f in files if f.endswith(".ckpt")} == {
            "checkpoints/best.ckpt",
            "checkpoints/last.ckpt",
            "checkpoints/last.previous.ckpt",
        }

    def test_metrics(self, trained) -> None:
        rows = read_metrics(trained)
        steps = [row for row in rows if "train/loss" in row]
        assert [(row["epoch"], row["step"]) for row in steps] == [(0, 0), (0, 1), (1, 2), (1, 3)]
        for row in steps:
            weighted = row["train/loss_corner"] + 1000 * row["train/loss_mask"]
            assert row["train/loss"] == pytest.approx(weighted, rel=1e-5)
            assert row["train/gradient_norm"] > 0
        rates = [row["lr-AdamW/pg1"] for row in rows if "lr-AdamW/pg1" in row]
        assert rates == pytest.approx([1e-3, 5e-4])
        validations = [row for row in rows if "val/iou" in row]
        assert len(validations) == 2
        assert all(0 <= row["val/iou"] <= 1 and 0 <= row["val/mask_iou"] <= 1 for row in validations)

    def test_the_resolved_configuration_is_kept(self, trained, data_root) -> None:
        config = yaml.safe_load((trained / "logs" / "version_0" / "config.yaml").read_text())
        assert config["model"]["backbone"] == "resnet18"
        assert config["model"]["lr"] == 1e-3  # a default
        assert config["data"]["init_args"]["root"] == str(data_root)
        assert config["data"]["init_args"]["batch_size"] == 2
        assert config["seed_everything"] == 0

    def test_the_kept_configuration_starts_another_run(self, trained, not_fitted) -> None:
        kept = str(trained / "logs" / "version_0" / "config.yaml")
        main(["--config", kept, "--name", "again"])
        ((task, *_),) = not_fitted
        assert dict(task.hparams) == read_checkpoint(trained)["hyper_parameters"]

    def test_the_checkpoint_counts_and_rebuilds(self, trained) -> None:
        checkpoint = read_checkpoint(trained)
        assert (checkpoint["epoch"], checkpoint["global_step"]) == (1, 4)
        task = RefineTask.load_from_checkpoint(trained / "checkpoints" / "last.ckpt")
        assert task.network.heads == ("corner", "mask")
        assert task.hparams["lr_step"] == 1

    def test_a_finished_run_is_not_overwritten(self, trained, data_root) -> None:
        before = (trained / "checkpoints" / "last.ckpt").stat().st_mtime_ns
        with pytest.raises(
            UserError, match=r"small holds a run; continue it with `--resume`, or give another `--name`"
        ):
            main(arguments(data_root, trained.parent))
        assert (trained / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before

    def test_not_even_where_a_launcher_numbers_the_processes(self, trained, data_root, monkeypatch) -> None:
        monkeypatch.setenv("LOCAL_RANK", "0")
        with pytest.raises(UserError, match="holds a run"):
            main(arguments(data_root, trained.parent))

    def test_resuming_continues_as_if_never_interrupted(self, trained, data_root, tmp_path) -> None:
        main(arguments(data_root, tmp_path, trainer__max_epochs=1))
        assert read_checkpoint(tmp_path / "small")["global_step"] == 2
        main(arguments(data_root, tmp_path, "--resume"))
        resumed, expected = read_checkpoint(tmp_path / "small"), read_checkpoint(trained)
        assert (resumed["epoch"], resumed["global_step"]) == (1, 4)
        assert_equal_states(resumed["state_dict"], expected["state_dict"], 1e-6)
        second = [row for row in read_metrics(trained) if row["step"] >= 2]
        assert read_metrics(tmp_path / "small", version=1) == [pytest.approx(row, rel=1e-4) for row in second]

    def test_there_must_be_something_to_resume(self, data_root, tmp_path) -> None:
        with pytest.raises(UserError, match=r"`--resume`: no checkpoint .*last.ckpt; check `--name`"):
            main(arguments(data_root, tmp_path, "--resume"))

    def test_best_and_last_checkpoint(self, data_root, tmp_path, monkeypatch) -> None:
        ious = iter([0.3, 0.5, 0.4, 0.2, 0.1])
        monkeypatch.setattr("alpharefine.metrics.BoxIoU.compute", lambda _: torch.tensor(next(ious)))
        monkeypatch.setattr(RefineTask, "forward", lambda self, batch: tiny_prediction(self, batch))
        one_step = {"data__pairs_per_epoch": 2, "data__val_pairs": 1}
        epochs = []
        for flags, max_epochs in (((), 3), (("--resume",), 5)):
            main(arguments(data_root, tmp_path, *flags, trainer__max_epochs=max_epochs, **one_step))
            epochs.append([read_checkpoint(tmp_path / "small", name)["epoch"] for name in ("best", "last")])
        assert epochs == [[1, 2], [1, 4]]


def tiny_prediction(task: RefineTask, batch: Any) -> Any:
    """Prediction that does not run the network and gives one bias a gradient."""
    from alpharefine.models import Corners, Prediction

    num = len(batch.search)
    bias = task.network.corner_head.top_left[-1].bias
    crop_xyxy = torch.tensor([[64.0, 64, 192, 192]]).expand(num, 4) + bias
    scores = torch.zeros(num, 2, 16, 16)
    return Prediction(Corners(crop_xyxy, scores), torch.zeros(num, 256, 256) + bias)


class TestCommand:
    @pytest.mark.slow
    def test_a_frame_that_does_not_decode_is_one_line(self, tmp_path, data_root) -> None:
        root = tmp_path / "data"
        shutil.copytree(data_root, root)
        for picture in (root / "got10k").rglob("*.jpg"):
            picture.write_bytes(b"no picture")
        done = run(str(PROJECT / "train.py"), *arguments(root, tmp_path / "runs", data__num_workers=1), cwd=tmp_path)
        assert done.returncode == 2
        (error,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
        assert re.fullmatch(r"error: \S+\.jpg: cannot decode this image; restore it\.", error)
        assert done.stderr.rstrip().endswith(error)

    @pytest.mark.slow
    def test_a_missing_data_root_is_one_line_and_blocks_nothing(self, tmp_path, data_root) -> None:
        with pytest.raises(UserError, match=re.escape(str(tmp_path / "nowhere" / "got10k"))) as error:
            main(arguments(tmp_path / "nowhere", tmp_path / "runs"))
        assert len(str(error.value).splitlines()) == 1
        # With the data in place the same command gets past the check for earlier runs.
        main(arguments(data_root, tmp_path / "runs", trainer__limit_train_batches=1, trainer__max_epochs=1))
        assert (tmp_path / "runs" / "small" / "checkpoints" / "last.ckpt").is_file()

    @pytest.mark.slow
    def test_wandb_off_needs_no_wandb(self, tmp_path, data_root) -> None:
        program = (
            "import sys; sys.modules['wandb'] = None\n"  # an import of it would fail
            "import train; train.main(sys.argv[1:])\n"
            "print('imported:', sys.modules['wandb'], 'alpharefine.tracking' in sys.modules)"
        )
        one_step = {"trainer__limit_train_batches": 1, "trainer__limit_val_batches": 1, "trainer__max_epochs": 1}
        done = run("-c", program, *arguments(data_root, tmp_path, **one_step), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        *_, saved, imported = done.stdout.splitlines()
        assert saved == f"best.ckpt, last.ckpt in {tmp_path / 'small' / 'checkpoints'}"
        assert imported == "imported: None False"
        for hint in ("litlogger", "weights_only", "LeafSpec"):  # of Lightning, not for the user of the command
            assert hint not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
def test_two_processes_train_as_one_does(tmp_path, data_root, not_fitted, monkeypatch) -> None:
    options = {
        "data__pairs_per_epoch": 6,
        "trainer__max_epochs": 1,
        "trainer__precision": "64-true",  # float32 rounds differently in other batches: 1e-5 after three steps
        "trainer__callbacks": "tests.frozen_norms.FrozenNormsAndPlainDescent",
    }
    one = arguments(data_root, tmp_path, name="one", data__batch_size=2, **options)
    both = {"data__batch_size": 1, "trainer__devices": 2, "trainer__strategy": "ddp"}
    two = arguments(data_root, tmp_path, name="two", **both, **options)

    main(one)
    ((task, data, _),) = not_fitted
    start = {name: value.clone() for name, value in task.state_dict().items()}
    has_mask = [bool(data.train_dataset[i].has_mask) for i in range(6)]
    assert has_mask == [False, True, False, True, True, False]  # one process in turn has the only mask of a step

    monkeypatch.undo()
    main(one)
    done = run(str(PROJECT / "train.py"), *two, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    alone, together = (read_checkpoint(tmp_path / name) for name in ("one", "two"))
    assert alone["global_step"] == together["global_step"] == 3
    # Measured: 4e-14, after steps that move weights by more than 1e-3.
    assert_equal_states(together["state_dict"], alone["state_dict"], 1e-12)
    for part in ("backbone", "neck", "corner_head", "mask_head"):  # all have moved, by far more than that
        moves = {
            name: (alone["state_dict"][name] - value).abs().max().item()
            for name, value in start.items()
            if name.startswith(f"network.{part}.") and value.is_floating_point()
        }
        assert max(moves.values()) > 1e-3, part
    for row, expected in zip(read_metrics(tmp_path / "two"), read_metrics(tmp_path / "one"), strict=True):
        assert row == pytest.approx(expected, rel=1e-10)
