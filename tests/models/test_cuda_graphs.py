"""Functions recorded as CUDA graphs: what they compute, and that they can be recorded."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from alpharefine.inference.networks import SearchNetwork
from alpharefine.models import AlphaRefineNet, NetworkConfig, roi
from alpharefine.models.cuda_graphs import GraphedFunction, side_by_side
from alpharefine.trackers.dimp.box_search import BoxSearch, _climb
from alpharefine.trackers.dimp.iou_net import IoUNet
from alpharefine.trackers.dimp.network import BoxNet
from alpharefine.trackers.siamrpnpp import VARIANTS as SIAMESE
from alpharefine.trackers.siamrpnpp.network import SiamRPNpp
from tests.models.test_folding import VARIANTS

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

aten = torch.ops.aten
ON_THE_HOST = (aten.lift_fresh.default, aten._local_scalar_dense.default, aten.nonzero.default, aten.index.Tensor)
"""Operations that move values between host and device, which a recording does not allow."""


class HostOperations(TorchDispatchMode):
    """Collects the operations on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Any] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operation in ON_THE_HOST:
            self.found.append(operation)
        return operation(*args, **(kwargs or {}))


def host_operations(function: Callable[..., Any], *arguments: Tensor) -> list[Any]:
    with torch.no_grad(), HostOperations() as mode:
        function(*arguments)
    return mode.found


class TestRecordedFunctionsStayOnTheDevice:
    def test_the_check_finds_what_it_is_to_find(self) -> None:
        x = torch.arange(4.0)
        assert host_operations(lambda x: x + torch.tensor([1.0, 2.0, 3.0, 4.0]), x)
        assert host_operations(lambda x: x[[0, 2]], x)
        assert host_operations(lambda x: x[x > 1], x)
        assert host_operations(lambda x: float(x.sum()), x)
        assert not host_operations(lambda x: x[1:] * 2 + torch.arange(3), x)

    @pytest.mark.parametrize(
        "options",
        [*VARIANTS, *({"corner_head": name} for name in ("towers_256", "extreme", "rpn", "box", "box_relu"))],
        ids=lambda options: "-".join(options.values()),
    )
    def test_networks(self, options: dict[str, Any]) -> None:
        network = AlphaRefineNet(NetworkConfig(**{"backbone": "resnet18", **options})).eval()
        crops = torch.randint(0, 256, (1, 256, 256, 3), dtype=torch.uint8)
        kernels = torch.randn(1, network.backbone.channels[-1], 8, 8)
        assert not host_operations(SearchNetwork(network, network.heads), crops, kernels)

    @pytest.mark.parametrize("space", ["default", "relative"])
    def test_the_search_for_a_box(self, space: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(roi, "_covered_cells", lambda _, num_cells: range(num_cells))  # as on a GPU
        search = BoxSearch(space, 2, (1e-3, 1e-2))
        features = torch.rand(1, 256, 12, 12), torch.rand(1, 256, 6, 6)
        climb = partial(_climb, IoUNet((8, 16)).requires_grad_(False).eval(), search)
        assert not host_operations(climb, *features, torch.tensor([[[20.0, 25, 30, 40]]]))

    def test_backbones_of_trackers(self) -> None:
        assert not host_operations(BoxNet("resnet18").eval().layers, torch.rand(1, 3, 64, 64))

    @pytest.mark.parametrize("name", ["siamrpnpp", "siamrpnpp-alex"])
    def test_siamrpnpp(self, name: str) -> None:
        variant = SIAMESE[name]
        network = SiamRPNpp(variant.backbone, variant.neck_channels, variant.weighted).eval()
        with torch.no_grad():
            template = network.encode_template(torch.rand(1, 3, 127, 127))
        kernels = [kernel for level in template for kernel in level]
        assert not host_operations(network._maps, torch.rand(1, 3, variant.search_size, variant.search_size), *kernels)


class Counted:
    """Slope of a sum, computed by autograd, which counts its calls on the host."""

    def __init__(self) -> None:
        self.num_calls = 0

    def __call__(self, x: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        self.num_calls += 1
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            values = factor * x**2
            (slope,) = torch.autograd.grad(values.sum(), x)
        return values.detach(), slope


def test_on_the_cpu_the_function_is_called() -> None:
    counted = Counted()
    graphed = GraphedFunction(counted, pads=True)
    for size in (2, 2, 3):
        x = torch.arange(float(size))
        values, slope = graphed(x, torch.full((size,), 3.0), device=torch.device("cpu"))
        assert torch.equal(values, 3 * x**2)
        assert torch.equal(slope, 6 * x)
    assert counted.num_calls == 3
    assert [x.item() for x in side_by_side(lambda: torch.tensor(1), lambda: torch.tensor(2))] == [1, 2]


def test_copies_record_their_own_graphs() -> None:
    graphed = GraphedFunction(Counted())
    graphed._graphs["key"] = lambda: None  # type: ignore[assignment,index] # cannot be pickled, as a graph
    for other in (copy.deepcopy(graphed), pickle.loads(pickle.dumps(graphed))):
        assert other._graphs == {}
        assert other._function is not graphed._function
    assert len(graphed._graphs) == 1


def test_a_copy_of_a_network_searches_with_its_own_weights() -> None:
    network = SiamRPNpp("alexnet")
    other = copy.deepcopy(network)
    assert other._search._function.__self__ is other  # type: ignore[attr-defined]
    box_net = BoxNet("resnet18")
    assert copy.deepcopy(box_net)._layers_of_one._function.__self__ is not box_net  # type: ignore[attr-defined]


@pytest.mark.gpu
@needs_gpu
def test_a_graph_follows_its_arguments_without_calls_on_the_host() -> None:
    counted, device = Counted(), torch.device("cuda", 0)
    graphed = GraphedFunction(counted)
    with torch.no_grad():
        for size in (2, 5, 2, 5):
            for offset in (0.0, 1.0):
                x = torch.arange(size) + offset
                values, slope = graphed(x.pin_memory(), torch.full((size,), 3.0, device=device), device=device)
                assert torch.equal(values.cpu(), 3 * x**2)
                assert torch.equal(slope.cpu(), 6 * x)
    assert counted.num_calls == 6, "two warm-ups and a recording for each of two shapes"


@pytest.mark.gpu
@needs_gpu
def test_padded_batches_share_a_graph() -> None:
    counted, device = Counted(), torch.device("cuda", 0)
    graphed = GraphedFunction(counted, pads=True)
    with torch.no_grad():
        for size in (4, 3, 4, 3):
            x = torch.arange(float(size)) + size
            values, slope = graphed(x, torch.full((size,), 3.0), device=device)
            assert len(values) == 4
            assert torch.equal(values[:size].cpu(), 3 * x**2)
            assert torch.equal(slope[:size].cpu(), 6 * x)
    assert counted.num_calls == 3
