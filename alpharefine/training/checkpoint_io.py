"""Writing of checkpoints during training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a file next to the target and renames it once it is complete.

    Lightning writes to the folder of temporary files. If that is on another disk, the file is then copied. A copy
    that is interrupted by a full disk or the end of the process would replace the last good checkpoint by a broken one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a complete checkpoint, or none.

        Args:
            checkpoint: Content of the checkpoint.
            path: Path of the file.
            storage_options: Options of Lightning's file system.
        """
        path = Path(path)
        part = path.with_name(f".{path.name}.part")
        try:
            super().save_checkpoint(checkpoint, part, storage_options)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
