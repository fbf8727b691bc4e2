"""Numbers that a training reads on the host without waiting for the GPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class HostCopy:
    """Copy of numbers on the host. That from a GPU is made while the host goes on, and best read one step later.

    Args:
        numbers: Numbers, on any device.

    Attributes:
        is_late: True if the numbers come from a GPU.
    """

    def __init__(self, numbers: Tensor) -> None:
        self.is_late = numbers.device.type == "cuda"
        self._numbers = torch.empty_like(numbers, device="cpu", pin_memory=self.is_late)
        self._numbers.copy_(numbers, non_blocking=self.is_late)
        if self.is_late:
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record()

    def tolist(self) -> Any:
        """Return the numbers, and wait for them if necessary."""
        if self.is_late:
            self._copied.synchronize()
        return self._numbers.tolist()
