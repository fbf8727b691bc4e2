"""Steps with a non-finite loss or gradient are skipped, and end the training if they continue."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from alpharefine.cli.train import main
from alpharefine.errors import UserError
from alpharefine.training.checkpoint_io import WholeCheckpointIO
from alpharefine.training.non_finite import NonFiniteSteps
from alpharefine.training.task import RefineTask
from tests.training_runs import arguments, quick_forward, read_checkpoint, read_metrics

FIVE_STEPS = {"data__pairs_per_epoch": 10, "data__val_pairs": 1, "model__heads": "[corner]", "trainer__max_epochs": 1}


@pytest.fixture
def faulty_steps(monkeypatch):
    """Return a function that makes the loss NaN or infinite in some steps."""
    losses = RefineTask._losses
    monkeypatch.setattr(RefineTask, "forward", quick_forward)

    def install(steps: set[int], value: float) -> None:
        def faulty(self, batch, num_masks):
            parts = losses(self, batch, num_masks)
            if self.global_step in steps:
                self.network.corner_head.top_left[0][1].running_mean.fill_(value)
                parts["corner"] = parts["corner"].detach() * 0 + value + 0 * parts["corner"]
            return parts

        monkeypatch.setattr(RefineTask, "_losses", faulty)

    return install


def finite(state: dict[str, torch.Tensor]) -> bool:
    return all(bool(value.isfinite().all()) for value in state.values() if value.is_floating_point())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_single_step_is_skipped(data_root, tmp_path, faulty_steps, value, precision) -> None:
    faulty_steps({1, 2}, value)
    main(arguments(data_root, tmp_path, trainer__precision=precision, **FIVE_STEPS))
    state = read_checkpoint(tmp_path / "small")
    assert state["global_step"] == 5
    assert finite(state["state_dict"])
    (moments,) = {float(each["step"]) for each in state["optimizer_states"][0]["state"].values()}
    assert moments == 3, "the optimizer made no step of the two"


def test_too_many_in_a_row(data_root, tmp_path, faulty_steps) -> None:
    faulty_steps({1, 2, 3, 4}, float("nan"))
    with pytest.raises(UserError, match=r"not finite in 2 consecutive steps, from step 1 \(loss nan\)") as caught:
        main(arguments(data_root, tmp_path, max_nonfinite_steps=2, **FIVE_STEPS))
    message = str(caught.value)
    assert "batch 2 of epoch 0, pairs 4: " in message
    assert "; 5: " in message
    assert str(data_root) in message
    assert not list((tmp_path / "small").rglob("*.ckpt"))


def test_not_at_the_end_either(data_root, tmp_path, faulty_steps) -> None:
    faulty_steps({4}, float("nan"))
    with pytest.raises(UserError, match=r"not finite in 1 consecutive steps"):
        main(arguments(data_root, tmp_path, **FIVE_STEPS))


def test_a_rate_that_breaks_the_weights(data_root, tmp_path) -> None:
    with pytest.raises(UserError, match=r"not finite in 3 consecutive steps, from step \d .*`model\.lr`"):
        main(arguments(data_root, tmp_path, model__lr=1e30, model__corner_loss="mse", **FIVE_STEPS))
    for path in (tmp_path / "small").rglob("*.ckpt"):
        assert finite(read_checkpoint(tmp_path / "small", path.stem)["state_dict"])
    assert not (tmp_path / "small" / "checkpoints" / "best.ckpt").exists()
    assert read_metrics(tmp_path / "small")


@pytest.mark.parametrize("group", ["state_dict", "live_state_dict"])
def test_non_finite_weights_are_not_written(tmp_path: Path, group) -> None:
    path = tmp_path / "last.ckpt"
    good = {"state_dict": {"a": torch.ones(2)}, "global_step": 1}
    WholeCheckpointIO().save_checkpoint(good, path)
    bad = good | {group: {"a": torch.tensor([1.0, float("nan")])}, "global_step": 7}
    with pytest.raises(UserError, match=r"last\.ckpt: not written, because the weights `a` are not finite at step 7"):
        WholeCheckpointIO().save_checkpoint(bad, path)
    assert torch.load(path, weights_only=True)["global_step"] == 1


def test_the_number_of_steps() -> None:
    with pytest.raises(UserError, match=r"`--max_nonfinite_steps` must be at least 1, got 0"):
        NonFiniteSteps(0)
