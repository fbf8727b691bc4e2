"""Resumed runs draw the pairs and have the losses of an undisturbed run, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from alpharefine.cli.train import main
from alpharefine.training.task import RefineTask
from tests.training_runs import arguments, assert_equal_states, quick_forward, read_checkpoint, read_metrics

THREE_STEPS = {"data__pairs_per_epoch": 6, "data__val_pairs": 2, "model__heads": "[corner]"}


def train(data_root: Path, folder: Path, *flags: str, **changed: object) -> list[dict[str, float]]:
    """Train, and return all rows that this call logged."""
    logs = folder / "small" / "logs"
    version = len(list(logs.iterdir())) if logs.is_dir() else 0
    main(arguments(data_root, folder, *flags, **(THREE_STEPS | changed)))
    return read_metrics(folder / "small", version)


@pytest.fixture(autouse=True)
def _quick(monkeypatch) -> None:
    monkeypatch.setattr(RefineTask, "forward", quick_forward)


class StoppedError(Exception):
    pass


@pytest.fixture
def stopped_after(monkeypatch):
    """Return a function that ends the next training without notice, as soon as `count` checkpoints are written."""
    from alpharefine.training.last_checkpoint import LastCheckpoint

    save = LastCheckpoint._save

    def install(count: int) -> None:
        left = [count]

        def counted(self, trainer, inside_epoch) -> None:
            save(self, trainer, inside_epoch)
            left[0] -= 1
            if not left[0]:
                raise StoppedError

        monkeypatch.setattr(LastCheckpoint, "_save", counted)

    yield install
    monkeypatch.undo()


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
class TestPlace:
    @pytest.mark.parametrize("num_workers", [0, pytest.param(1, marks=pytest.mark.exhaustive), 2])
    def test_after_an_epoch(self, data_root, tmp_path, num_workers) -> None:
        workers = {"data__num_workers": num_workers}
        straight = train(data_root, tmp_path / "a", **workers)
        first = train(data_root, tmp_path / "b", trainer__max_epochs=1, **workers)
        second = train(data_root, tmp_path / "b", "--resume", **workers)
        assert first + second == straight
        assert_equal_states(
            read_checkpoint(tmp_path / "b" / "small")["state_dict"],
            read_checkpoint(tmp_path / "a" / "small")["state_dict"],
            0,
        )

    @pytest.mark.parametrize("num_workers", [0, pytest.param(1, marks=pytest.mark.exhaustive), 2])
    @pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.exhaustive)])
    def test_inside_an_epoch(self, data_root, tmp_path, stopped_after, num_workers, count) -> None:
        """Checkpoints are written after the steps 1, 2, 3 (the end of the epoch), 4, ..."""
        options = {"data__num_workers": num_workers, "checkpoint__every_n_train_steps": 1}
        straight = train(data_root, tmp_path / "a", **options)
        stopped_after(count)
        with pytest.raises(StoppedError):
            train(data_root, tmp_path / "b", **options)
        stopped_after(-1)
        checkpoint = read_checkpoint(tmp_path / "b" / "small")
        assert checkpoint["global_step"] == count
        resumed = train(data_root, tmp_path / "b", "--resume", "auto", **options)
        first = read_metrics(tmp_path / "b" / "small", 0)
        assert first + resumed == straight
        assert_equal_states(
            read_checkpoint(tmp_path / "b" / "small")["state_dict"],
            read_checkpoint(tmp_path / "a" / "small")["state_dict"],
            0,
        )

    @pytest.mark.filterwarnings("ignore:.*could not find the monitored key:UserWarning")
    def test_after_max_steps(self, data_root, tmp_path) -> None:
        """The epoch ends early, and the resumed run trains on the rest of it."""
        straight = train(data_root, tmp_path / "a")
        first = train(data_root, tmp_path / "b", trainer__max_steps=2)
        second = train(data_root, tmp_path / "b", "--resume")
        losses = [row for row in first + second if "train/loss" in row]
        assert losses == [row for row in straight if "train/loss" in row]
        assert_equal_states(
            read_checkpoint(tmp_path / "b" / "small")["state_dict"],
            read_checkpoint(tmp_path / "a" / "small")["state_dict"],
            0,
        )
