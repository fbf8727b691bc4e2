"""Where the network computes in more than half precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Widen half precision to float32; float64 stays, so that the network as a whole can run in it.

    >>> at_least_float32(torch.ones(1, dtype=torch.bfloat16)).dtype, at_least_float32(torch.ones(1).double()).dtype
    (torch.float32, torch.float64)
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


@contextmanager
def full_float32() -> Iterator[None]:
    """Compute float32 in 32 bits: without TF32, which graphics cards round to 10 bits of mantissa by default."""
    cudnn, cublas = torch.backends.cudnn.conv, torch.backends.cuda.matmul  # type: ignore[attr-defined] # set later
    before = cudnn.fp32_precision, cublas.fp32_precision
    cudnn.fp32_precision = cublas.fp32_precision = "ieee"
    try:
        yield
    finally:
        cudnn.fp32_precision, cublas.fp32_precision = before
