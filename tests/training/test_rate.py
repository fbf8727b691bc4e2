"""Pairs a second, the wait for the loader, the norm of the gradient, and the log for TensorBoard."""

from __future__ import annotations

import pickle
import time
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.callbacks import ProgressBar, RichProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from alpharefine.cli.train import main
from alpharefine.data.loader import EpochLoader
from alpharefine.data.pairs import PairDataset
from alpharefine.errors import UserError
from alpharefine.training import lightning_cli, rate
from alpharefine.training.gradient_norm import GradientNorm
from alpharefine.training.rate import PairRate
from alpharefine.training.task import RefineTask
from tests.training_runs import arguments, quick_forward, read_metrics

QUICK = {"data__pairs_per_epoch": 8, "data__val_pairs": 2, "model__heads": "[corner]", "trainer__max_epochs": 1}


class Recorder:
    """Module that keeps what is logged."""

    def __init__(self) -> None:
        self.logged: list[tuple[str, float]] = []

    def log(self, key: str, value: float | torch.Tensor, **_: object) -> None:
        self.logged.append((key, float(value)))


@pytest.fixture
def quick(monkeypatch) -> None:
    monkeypatch.setattr(RefineTask, "forward", quick_forward)


class TestRate:
    @pytest.fixture
    def clock(self, monkeypatch) -> list[float]:
        now = [100.0]
        monkeypatch.setattr(rate, "perf_counter", lambda: now[0])
        return now

    def step(self, callback: PairRate, trainer: SimpleNamespace, module: Recorder, steps: bool = True) -> None:
        trainer.global_step += steps
        callback.on_train_batch_end(trainer, module, None, SimpleNamespace(search=range(4)), 0)

    def trainer(self, loader: object, log_every_n_steps: int = 2) -> SimpleNamespace:
        return SimpleNamespace(
            global_step=0, log_every_n_steps=log_every_n_steps, world_size=3, train_dataloader=loader
        )

    def test_hand_worked(self, clock) -> None:
        loader = EpochLoader(range(1), sampler=None, num_done=int)
        callback, module, trainer = PairRate(), Recorder(), self.trainer(loader)
        callback.on_train_start(trainer, module)
        clock[0] += 2
        self.step(callback, trainer, module)
        assert not module.logged
        clock[0] += 60
        callback.on_validation_end(trainer, module)
        loader._waited_s = 1.5
        clock[0] += 4
        self.step(callback, trainer, module)
        assert module.logged == [("train/pairs_per_s", 2 * 4 * 3 / 6), ("train/loader_wait", 1.5 / 6)]
        module.logged.clear()
        clock[0] += 60
        callback.on_train_epoch_start(trainer, module)
        for _ in range(2):
            clock[0] += 1
            self.step(callback, trainer, module)
        assert module.logged == [("train/pairs_per_s", 2 * 4 * 3 / 2), ("train/loader_wait", 0)]

    def test_once_in_an_accumulated_step(self, clock) -> None:
        callback, module, trainer = PairRate(), Recorder(), self.trainer(None, 1)
        callback.on_train_start(trainer, module)
        for steps in (False, True, False, True):
            clock[0] += 1
            self.step(callback, trainer, module, steps)
        assert module.logged == [("train/pairs_per_s", 2 * 4 * 3 / 2)] * 2  # another loader tells no wait

    def test_logging_that_is_off(self) -> None:
        callback, module, trainer = PairRate(), Recorder(), self.trainer(None, 0)
        callback.on_train_start(trainer, module)
        self.step(callback, trainer, module)
        assert not module.logged

    @pytest.mark.usefixtures("quick")
    def test_a_slow_loader(self, data_root, tmp_path, monkeypatch) -> None:
        make = PairDataset.__getitem__

        def make_slowly(dataset: PairDataset, index: int) -> object:
            time.sleep(0.3)
            return make(dataset, index)

        monkeypatch.setattr(PairDataset, "__getitem__", make_slowly)
        main(arguments(data_root, tmp_path, **QUICK, trainer__log_every_n_steps=2))
        rows = [row for row in read_metrics(tmp_path / "small", skipped=()) if "train/loader_wait" in row]
        assert [row["step"] for row in rows] == [1, 3]
        for row in rows:
            elapsed_s = 4 / row["train/pairs_per_s"]
            assert 4 * 0.3 <= row["train/loader_wait"] * elapsed_s < elapsed_s
        assert all(row["train/gradient_norm"] > 0 for row in rows)


@pytest.mark.parametrize(("done", "logged"), [(0, False), (1, True), (2, False), (3, True)])
def test_the_norm_of_the_gradient_of_all_weights(done, logged) -> None:
    weights = [nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(3))]
    weights[0].grad, weights[1].grad = torch.full((2, 2), 1.5), torch.tensor([-4.0])
    optimizer = torch.optim.AdamW([{"params": weights[:1]}, {"params": weights[1:]}])
    module = Recorder()
    GradientNorm().on_before_optimizer_step(SimpleNamespace(global_step=done, log_every_n_steps=2), module, optimizer)
    assert module.logged == ([("train/gradient_norm", 5.0)] if logged else [])


class TestTensorBoard:
    @pytest.mark.usefixtures("quick")
    def test_the_log_is_that_of_the_table(self, data_root, tmp_path) -> None:
        main(arguments(data_root, tmp_path, "--tensorboard", **QUICK))
        folder = tmp_path / "small" / "logs" / "version_0"
        assert {"metrics.csv", "config.yaml"} <= {path.name for path in folder.iterdir()}
        events = EventAccumulator(str(folder))
        events.Reload()
        rows = read_metrics(tmp_path / "small")
        for key in ("train/loss", "train/gradient_norm", "val/iou"):
            expected = [(row["step"], pytest.approx(row[key])) for row in rows if key in row]
            assert [(event.step, event.value) for event in events.Scalars(key)] == expected
        assert set(events.Tags()["images"]) == {f"{part}/pairs/{n}" for part in ("train", "val") for n in range(2)}

    def test_without_the_package(self, data_root, tmp_path, monkeypatch, not_fitted) -> None:
        def fail(*_: object, **__: object) -> None:
            raise ModuleNotFoundError("neither tensorboard nor tensorboardX")

        monkeypatch.setattr(TensorBoardLogger, "__init__", fail)
        with pytest.raises(UserError, match=r"`--tensorboard` requires TensorBoard; run `pip install"):
            main(arguments(data_root, tmp_path, "--tensorboard"))
        assert not not_fitted
        assert not (tmp_path / "small").exists()


def test_artifacts_require_wandb(data_root, tmp_path, not_fitted) -> None:
    with pytest.raises(UserError, match="`--log_checkpoints` has no effect with `--wandb off`"):
        main(arguments(data_root, tmp_path, "--log_checkpoints"))
    assert not not_fitted


class TestProgressBar:
    @pytest.mark.parametrize(("device", "expected"), [("cuda", [0, 0, 0, 3, 3, 5]), ("cpu", [0, 1, 2, 3, 4, 5])])
    def test_reads_the_loss_of_a_gpu_seldom(self, monkeypatch, device, expected) -> None:
        now, progress = [10.0], SimpleNamespace(is_last_batch=False)
        monkeypatch.setattr(lightning_cli, "perf_counter", lambda: now[0])
        loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
        bar, trainer = ProgressBar(), SimpleNamespace(callback_metrics={}, fit_loop=loop)
        monkeypatch.setattr(bar, "get_metrics", lambda *_: {"val/iou": 0.5})
        get_metrics = lightning_cli._MetricsAndLoss(bar)
        assert get_metrics(trainer, None) == {"val/iou": 0.5}
        shown = []
        for loss in range(6):
            progress.is_last_batch = loss == 5
            trainer.callback_metrics["train/loss"] = SimpleNamespace(
                device=torch.device(device), item=lambda loss=loss: loss
            )
            shown.append(get_metrics(trainer, None)["train/loss"])
            now[0] += 0.2
        assert shown == expected

    def test_of_a_run(self, data_root, tmp_path, monkeypatch, capsys) -> None:
        monkeypatch.setattr(RefineTask, "forward", quick_forward)
        main(arguments(data_root, tmp_path, trainer__enable_progress_bar="true", **QUICK))
        assert "train/loss" in capsys.readouterr().out
        pickle.loads(pickle.dumps(lightning_cli._MetricsAndLoss(RichProgressBar())))  # for processes that are spawned
        main(arguments(data_root, tmp_path, name="quiet", **QUICK))
        assert "train/loss" not in capsys.readouterr().out
