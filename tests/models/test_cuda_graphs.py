"""Functions recorded as CUDA graphs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from alpharefine.models.cuda_graphs import GraphedFunction

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


class Counted:
    """Slope of a sum, computed by autograd, which counts its calls on the host."""

    def __init__(self) -> None:
        self.num_calls = 0

    def __call__(self, x: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        self.num_calls += 1
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            value = (factor * x**2).sum()
            (slope,) = torch.autograd.grad(value, x)
        return value.detach(), slope


def test_on_the_cpu_the_function_is_called() -> None:
    counted = Counted()
    graphed = GraphedFunction(counted)
    for size in (2, 2, 3):
        x = torch.arange(float(size))
        value, slope = graphed(x, torch.tensor(3.0), device=torch.device("cpu"))
        assert value.item() == 3 * (x**2).sum()
        assert torch.equal(slope, 6 * x)
    assert counted.num_calls == 3


@pytest.mark.gpu
@needs_gpu
def test_a_graph_follows_its_arguments_without_calls_on_the_host() -> None:
    counted, device = Counted(), torch.device("cuda")
    graphed = GraphedFunction(counted)
    with torch.no_grad():
        for size in (2, 5, 2, 5):
            for offset in (0.0, 1.0):
                x = torch.arange(size) + offset
                value, slope = graphed(x.pin_memory(), torch.tensor(3.0, device=device), device=device)
                assert value.item() == 3 * (x**2).sum()
                assert torch.equal(slope.cpu(), 6 * x)
            if size == 5:
                recorded = counted.num_calls
    assert counted.num_calls == recorded
    torch.cuda.synchronize()
