"""Float32 arithmetic under autocast and on GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Convert half precision to float32 and leave float64 as it is, so that the whole network can run in float64.

    Args:
        x: Floating-point tensor.

    >>> at_least_float32(torch.ones(1, dtype=torch.bfloat16)).dtype, at_least_float32(torch.ones(1).double()).dtype
    (torch.float32, torch.float64)
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


@contextmanager
def full_float32() -> Iterator[None]:
    """Disable TF32, which rounds float32 to 10 bits of mantissa in matrix products and convolutions on GPUs."""
    cudnn, cublas = torch.backends.cudnn.conv, torch.backends.cuda.matmul  # type: ignore[attr-defined] # set later
    before = cudnn.fp32_precision, cublas.fp32_precision
    cudnn.fp32_precision = cublas.fp32_precision = "ieee"
    try:
        yield
    finally:
        cudnn.fp32_precision, cublas.fp32_precision = before
