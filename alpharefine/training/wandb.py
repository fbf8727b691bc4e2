"""Lightning's wandb logger for a training run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning.loggers import WandbLogger

from alpharefine.options import WandbMode
from alpharefine.tracking import PROJECT, refusals_in_one_line, resolve_mode


class RunLogger(WandbLogger):
    """Logger of wandb whose errors at the start of a run name the option to change.

    Args:
        mode: Mode of wandb.
        options: Further arguments of `WandbLogger`.
    """

    def __init__(self, mode: Literal["online", "offline"], **options: Any) -> None:
        super().__init__(mode=mode, **options)
        self._mode = mode

    @property
    def experiment(self) -> Any:
        """Run of wandb, which starts at first access.

        Raises:
            UserError: If wandb refuses the run.
        """
        with refusals_in_one_line(self._mode):
            return super().experiment

    def finalize(self, status: str) -> None:
        """Log the checkpoint, and end the run, so that its file is complete before this process ends.

        Args:
            status: ``success``, or how the training ended.
        """
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(status != "success"))


def wandb_logger(
    name: str, folder: Path, mode: WandbMode, config: Mapping[str, Any], log_checkpoints: bool = False
) -> RunLogger:
    """Build Lightning's wandb logger for a run.

    Args:
        name: Name of the run.
        folder: Folder of wandb's files.
        mode: Mode of wandb, see `alpharefine.tracking.resolve_mode`.
        config: Configuration of the run, shown by wandb.
        log_checkpoints: Log the best checkpoint as an artifact when the training is complete.

    Raises:
        UserError: If the mode is ``online`` and there is no key or no answer of the server.
    """
    resolved = resolve_mode(mode, is_quiet=getattr(rank_zero_only, "rank", 0) != 0)
    folder.mkdir(parents=True, exist_ok=True)
    return RunLogger(
        name=name,
        project=PROJECT,
        save_dir=folder,
        # In place of Lightning's `offline`, which refuses artifacts; wandb keeps them until the run is synchronized.
        mode=resolved,
        log_model=log_checkpoints,
        config=dict(config),
    )
