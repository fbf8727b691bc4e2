"""Numbers that the host reads later, and what the callbacks do when they are late, as on a GPU."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from alpharefine.cli.train import main
from alpharefine.errors import UserError
from alpharefine.training import last_checkpoint, non_finite
from alpharefine.training.host_copy import HostCopy
from alpharefine.training.last_checkpoint import LastCheckpoint
from alpharefine.training.task import RefineTask
from tests.models.test_cuda_graphs import HostOperations
from tests.training.test_non_finite import FIVE_STEPS, faulty_steps, finite  # noqa: F401 - a fixture
from tests.training_runs import arguments, quick_forward, read_checkpoint


class Late(HostCopy):
    """Copy of numbers of the CPU that claims to come from a GPU."""

    def __init__(self, numbers: torch.Tensor) -> None:
        super().__init__(numbers)
        self.is_late, self._copied = True, SimpleNamespace(synchronize=lambda: None)  # type: ignore[assignment]


@pytest.fixture
def _late(monkeypatch) -> None:
    monkeypatch.setattr(non_finite, "HostCopy", Late)
    monkeypatch.setattr(last_checkpoint, "HostCopy", Late)


def test_a_copy_is_not_the_original() -> None:
    numbers = torch.tensor([1.0, 2.0])
    copied = HostCopy(numbers)
    numbers.zero_()
    assert not copied.is_late
    assert copied.tolist() == [1, 2]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_copy_from_a_gpu() -> None:
    numbers = torch.tensor([1.0, 2.0], device="cuda")
    copied = HostCopy(numbers)
    numbers.zero_()
    assert copied.is_late
    assert copied.tolist() == [1, 2]


def test_no_step_reads_a_number_of_the_device(data_root, tmp_path, monkeypatch) -> None:
    step, mode = RefineTask.training_step, HostOperations()

    def marked(self, batch, batch_idx):
        mode.found.append(f"step {batch_idx}")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(RefineTask, "training_step", marked)
    monkeypatch.setattr(RefineTask, "forward", quick_forward)
    with mode:
        main(arguments(data_root, tmp_path, trainer__log_every_n_steps=5, **FIVE_STEPS))
    found = [each for each in mode.found if each != torch.ops.aten.lift_fresh.default]  # frames that become tensors
    steps = found[found.index("step 0") : found.index("step 4")]
    assert steps == [f"step {i}" for i in range(4)]


@pytest.mark.usefixtures("_late")
class TestNonFiniteSteps:
    def test_are_skipped(self, data_root, tmp_path, faulty_steps) -> None:  # noqa: F811
        faulty_steps({1, 2}, float("nan"))
        main(arguments(data_root, tmp_path, **FIVE_STEPS))
        state = read_checkpoint(tmp_path / "small")
        assert finite(state["state_dict"])
        assert {float(each["step"]) for each in state["optimizer_states"][0]["state"].values()} == {3}

    def test_too_many_in_a_row(self, data_root, tmp_path, faulty_steps) -> None:  # noqa: F811
        faulty_steps({1, 2, 3, 4}, float("nan"))
        with pytest.raises(UserError, match=r"in 2 consecutive steps, from step 1 \(loss nan\).* batch 2 of epoch 0"):
            main(arguments(data_root, tmp_path, max_nonfinite_steps=2, **FIVE_STEPS))

    def test_the_last_one_is_read_at_the_end(self, data_root, tmp_path, faulty_steps) -> None:  # noqa: F811
        faulty_steps({4}, float("nan"))
        with pytest.raises(UserError, match=r"in 1 consecutive steps, from step 4 .* batch 4 of epoch 0"):
            main(arguments(data_root, tmp_path, **FIVE_STEPS))


def trainer_of_two(other: list[int], step: int) -> Any:
    """Trainer of the first of two processes on a GPU; `other` are the flags of the second."""

    def reduce(flags: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "max"
        return torch.maximum(flags, torch.tensor(other))

    strategy = SimpleNamespace(root_device=torch.device("cpu"), reduce=reduce)
    return SimpleNamespace(world_size=2, global_step=step, strategy=strategy)


@pytest.mark.usefixtures("_late")
class TestAgreement:
    def callback(self, every_n_steps: int | None = None) -> LastCheckpoint:
        callback = LastCheckpoint(Path("last.ckpt"), every_n_steps, timedelta(hours=1), requeues=False)
        callback._saved_time = float("inf")
        return callback

    def test_the_signal_of_another_process_counts_one_call_later(self) -> None:
        callback = self.callback()
        assert callback._agree(trainer_of_two([15, 0], 1), late=True) == (0, False)
        assert callback._agree(trainer_of_two([15, 1], 2), late=True) == (15, False)
        assert callback._agree(trainer_of_two([0, 0], 3), late=True) == (15, True)
        assert callback._agree(trainer_of_two([0, 0], 4), late=True) == (0, False)

    def test_and_at_once_at_the_end_of_an_epoch(self) -> None:
        callback = self.callback()
        assert callback._agree(trainer_of_two([0, 0], 1), late=True) == (0, False)
        assert callback._agree(trainer_of_two([15, 1], 2)) == (15, True)

    def test_the_number_of_steps_needs_no_agreement(self) -> None:
        callback = self.callback(every_n_steps=2)
        times = [callback._agree(trainer_of_two([0, 0], step), late=True)[1] for step in range(1, 5)]
        assert times == [False, True, False, True]

    def test_one_checkpoint_for_one_interval(self) -> None:
        callback = self.callback()
        for _ in range(2):
            _, is_time = callback._agree(trainer_of_two([0, 1], 1), late=True)
        assert is_time
        trainer = trainer_of_two([0, 0], 2)
        trainer.fast_dev_run, trainer.loggers, trainer.save_checkpoint = False, [], lambda path: None  # noqa: ARG005
        callback._save(trainer, inside_epoch=True)
        assert callback._agree(trainer, late=True) == (0, False)
        assert callback._agree(trainer, late=True) == (0, False)
