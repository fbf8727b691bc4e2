"""Steps with a non-finite loss or gradient are skipped, and end the training if they continue."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from alpharefine.cli.train import main
from alpharefine.errors import UserError
from alpharefine.training import non_finite
from alpharefine.training.checkpoint_io import WholeCheckpointIO
from alpharefine.training.non_finite import NonFiniteSteps, _HostCopy, gradients_of
from alpharefine.training.task import RefineTask
from tests.models.test_cuda_graphs import HostOperations
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


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_too_many_in_a_row(data_root, tmp_path, faulty_steps, value) -> None:
    faulty_steps({1, 2, 3, 4}, float(value))
    with pytest.raises(UserError, match=rf"not finite in the last 2 steps, from step 1 \(loss {value}\)") as caught:
        main(arguments(data_root, tmp_path, max_nonfinite_steps=2, **FIVE_STEPS))
    message = str(caught.value)
    assert "batch 2 of epoch 0, pairs 4: " in message
    assert "; 5: " in message
    assert str(data_root) in message
    assert not list((tmp_path / "small").rglob("*.ckpt"))


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        (4, {}),
        (4, {"trainer__precision": "bf16-mixed"}),
        (4, {"trainer__max_steps": 5, "trainer__max_epochs": 9}),
        (3, {"trainer__max_steps": 4}),
        (3, {"trainer__max_steps": 4, "trainer__max_epochs": -1}),
    ],
)
def test_not_at_the_end_either(data_root, tmp_path, faulty_steps, fault, options) -> None:
    faulty_steps({fault}, float("nan"))
    command = FIVE_STEPS | {"checkpoint__every_n_train_steps": 2} | options
    expected = rf"not finite in the last step, from step {fault} .* Start another run with a lower `model\.lr`"
    with pytest.raises(UserError, match=expected) as caught:
        main(arguments(data_root, tmp_path, **command))
    assert ("32-true" in str(caught.value)) == ("trainer__precision" in options)
    # The run has not ended: it goes on from the last checkpoint before.
    names = {path.name: torch.load(path)["global_step"] for path in (tmp_path / "small").rglob("*.ckpt")}
    assert names == ({"last.ckpt": 4, "last.previous.ckpt": 2} if fault == 4 else {"last.ckpt": 2})
    if not options:
        main(arguments(data_root, tmp_path, "--resume", **command | {"trainer__max_epochs": 2}))
        assert read_checkpoint(tmp_path / "small")["global_step"] == 10


def test_not_at_an_early_end_either(data_root, tmp_path, faulty_steps, monkeypatch) -> None:
    def stop(task, *_) -> None:
        task.trainer.should_stop = task.global_step == 4

    faulty_steps({3}, float("nan"))
    monkeypatch.setattr(RefineTask, "on_train_batch_end", stop)
    with pytest.raises(UserError, match=r"not finite in the last step, from step 3 "):
        main(arguments(data_root, tmp_path, **FIVE_STEPS))


def test_skipped_steps_are_logged(data_root, tmp_path, faulty_steps) -> None:
    faulty_steps({1, 3}, float("nan"))
    main(arguments(data_root, tmp_path, **FIVE_STEPS))
    rows = read_metrics(tmp_path / "small")
    assert [row["train/skipped_steps"] for row in rows if "train/loss" in row] == [0, 1, 1, 2, 2]


def test_an_optimizer_that_is_not_fused(data_root, tmp_path, faulty_steps, monkeypatch) -> None:
    faulty_steps({1, 2}, float("nan"))
    monkeypatch.setattr(RefineTask, "configure_optimizers", lambda task: torch.optim.SGD(task.parameters(), 1e-9))
    main(arguments(data_root, tmp_path, **FIVE_STEPS))
    assert finite(read_checkpoint(tmp_path / "small")["state_dict"])


def test_a_module_without_statistics_and_a_step_without_gradients() -> None:
    callback, weight = NonFiniteSteps(), torch.nn.Linear(1, 1)
    callback.on_train_start(None, weight)  # type: ignore[arg-type]
    callback.on_before_optimizer_step(None, weight, torch.optim.SGD(weight.parameters()))  # type: ignore[arg-type]
    assert not callback._unread


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped(data_root, tmp_path, monkeypatch, precision) -> None:
    norms = []
    step = RefineTask.on_before_zero_grad

    def record(task, optimizer) -> None:
        norms.append(float(torch.nn.utils.get_total_norm(gradients_of(optimizer))) if gradients_of(optimizer) else 0)
        step(task, optimizer)

    monkeypatch.setattr(RefineTask, "on_before_zero_grad", record)
    monkeypatch.setattr(RefineTask, "forward", quick_forward)
    main(arguments(data_root, tmp_path, trainer__gradient_clip_val=1e-3, trainer__precision=precision, **FIVE_STEPS))
    assert max(norms) == pytest.approx(1e-3, rel=1e-2)


def test_a_rate_that_breaks_the_weights(data_root, tmp_path) -> None:
    with pytest.raises(UserError, match=r"not finite in the last 3 steps, from step \d .*`model\.lr`\. `--max"):
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


class Asynchronous(_HostCopy):
    """Copy of a tensor of the CPU that is said to come from a GPU."""

    def __init__(self, values: torch.Tensor) -> None:
        super().__init__(values)
        self.is_asynchronous, self._copied = True, SimpleNamespace(synchronize=lambda: None)  # type: ignore[assignment]


class TestReadOneStepLater:
    @pytest.fixture(autouse=True)
    def _asynchronous(self, monkeypatch) -> None:
        monkeypatch.setattr(non_finite, "_HostCopy", Asynchronous)

    @pytest.mark.parametrize("batches", [1, 2])
    def test_steps_are_skipped(self, data_root, tmp_path, faulty_steps, batches) -> None:
        faulty_steps({1, 2}, float("nan"))
        steps = FIVE_STEPS | {"data__pairs_per_epoch": 10 * batches, "trainer__accumulate_grad_batches": batches}
        main(arguments(data_root, tmp_path, **steps))
        state = read_checkpoint(tmp_path / "small")
        assert finite(state["state_dict"])
        assert {float(each["step"]) for each in state["optimizer_states"][0]["state"].values()} == {3}

    def test_too_many_in_a_row(self, data_root, tmp_path, faulty_steps) -> None:
        faulty_steps({1, 2, 3, 4}, float("nan"))
        with pytest.raises(UserError, match=r"in the last 2 steps, from step 1 \(loss nan\).* batch 2 of epoch 0"):
            main(arguments(data_root, tmp_path, max_nonfinite_steps=2, **FIVE_STEPS))

    def test_the_last_one_at_the_end(self, data_root, tmp_path, faulty_steps) -> None:
        faulty_steps({4}, float("nan"))
        with pytest.raises(UserError, match=r"in the last step, from step 4 .* batch 4 of epoch 0"):
            main(arguments(data_root, tmp_path, **FIVE_STEPS))


def test_a_copy_is_not_the_original() -> None:
    values = torch.tensor([1.0, 2.0])
    copied = _HostCopy(values)
    values.zero_()
    assert not copied.is_asynchronous
    assert copied.tolist() == [1, 2]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_copy_from_a_gpu() -> None:
    values = torch.tensor([1.0, 2.0], device="cuda")
    copied = _HostCopy(values)
    values.zero_()
    assert copied.is_asynchronous
    assert copied.tolist() == [1, 2]


def test_no_step_converts_a_tensor_to_a_number(data_root, tmp_path, monkeypatch) -> None:
    step, mode = RefineTask.training_step, HostOperations()

    def marked(self, batch, batch_idx):
        mode.found.append(f"step {batch_idx}")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(RefineTask, "training_step", marked)
    monkeypatch.setattr(RefineTask, "forward", quick_forward)
    with mode:
        main(arguments(data_root, tmp_path, trainer__log_every_n_steps=5, **FIVE_STEPS))
    found = [each for each in mode.found if each != torch.ops.aten.lift_fresh.default]  # frames that become tensors
    assert found[found.index("step 0") : found.index("step 4")] == [f"step {i}" for i in range(4)]


def test_the_number_of_steps() -> None:
    with pytest.raises(UserError, match=r"`--max_nonfinite_steps` must be at least 1, got 0"):
        NonFiniteSteps(0)
