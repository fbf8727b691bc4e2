"""Networks from files, for any of the inference backends."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

from alpharefine.checkpoints.loading import LoadedCheckpoint, load_checkpoint
from alpharefine.checkpoints.shipped import find_checkpoint
from alpharefine.errors import UserError
from alpharefine.inference.backend import InferenceBackend
from alpharefine.inference.exported import ExportHeader
from alpharefine.inference.onnx_backend import OnnxBackend, read_header
from alpharefine.inference.options import resolve_precision
from alpharefine.inference.torch_backend import TorchBackend
from alpharefine.models import NetworkConfig
from alpharefine.options import ComputePrecision, GeometryName


class LoadedNetwork(Protocol):
    """Network of a file, for which no device is chosen yet."""

    @property
    def config(self) -> NetworkConfig:
        """Configuration of the network."""

    @property
    def description(self) -> str:
        """Format of the file."""

    @property
    def doubts(self) -> str:
        """Assumptions about properties that the file does not determine. Empty if there are none."""

    def resolve_precision(self, precision: ComputePrecision, device_type: str) -> ComputePrecision:
        """Resolve ``auto``.

        Args:
            precision: Floating-point precision, or ``auto``.
            device_type: Type of the device, such as ``cpu`` or ``cuda``.

        Raises:
            UserError: If the file does not allow the precision.
        """

    def make_backend(self, device: str, precision: ComputePrecision) -> InferenceBackend:
        """Build the backend that runs the network.

        Args:
            device: Name of the device such as ``cpu`` or ``cuda:1``; ``auto`` selects the GPU if there is one.
            precision: Floating-point precision, or ``auto``.

        Raises:
            UserError: If the file does not allow the precision.
            ValueError: If an argument is unknown.
        """


def load_network(path: str | Path, geometry: GeometryName | None = None) -> LoadedNetwork:
    """Load a network from a checkpoint or from the ``.onnx`` file of an export.

    Args:
        path: Path of an ``.onnx`` file, or name or path of a checkpoint, see
            `alpharefine.checkpoints.loading.load_checkpoint`.
        geometry: Crop geometry in place of the recorded one.

    Raises:
        UserError: If the file is missing, does not hold a refinement network, or cannot have the geometry.
    """
    suffix = Path(path).suffix
    if suffix == ".pt2":
        raise UserError(f"{path} is a program for `torch.export.load`; give a checkpoint or an .onnx file.")
    if suffix != ".onnx":
        return _TorchNetwork(load_checkpoint(path, geometry))
    path = find_checkpoint(path)
    header = read_header(path)
    if geometry not in (None, header.config.geometry):
        raise UserError(
            f"{path} was exported in the geometry {header.config.geometry}, got `--geometry {geometry}`; export the "
            "checkpoint again with this geometry, or leave the option out."
        )
    return _OnnxNetwork(path, header)


class _TorchNetwork(NamedTuple):
    """Checkpoint, which runs in PyTorch."""

    checkpoint: LoadedCheckpoint

    @property
    def config(self) -> NetworkConfig:
        return self.checkpoint.network.config

    @property
    def description(self) -> str:
        return self.checkpoint.description

    @property
    def doubts(self) -> str:
        return self.checkpoint.doubts

    def resolve_precision(self, precision: ComputePrecision, device_type: str) -> ComputePrecision:
        return resolve_precision(precision, device_type, self.config.geometry)

    def make_backend(self, device: str, precision: ComputePrecision) -> InferenceBackend:
        return TorchBackend(self.checkpoint.network, device, precision)


class _OnnxNetwork(NamedTuple):
    """Export, which runs in ONNX Runtime."""

    path: Path
    header: ExportHeader

    @property
    def config(self) -> NetworkConfig:
        return self.header.config

    @property
    def description(self) -> str:
        return f"ONNX export in {self.header.precision} bits"

    @property
    def doubts(self) -> str:
        return ""

    def resolve_precision(self, precision: ComputePrecision, device_type: str) -> ComputePrecision:  # noqa: ARG002
        if precision not in ("auto", self.header.precision):
            raise UserError(
                f"{self.path} was exported in {self.header.precision} bits, got `--precision {precision}`; export the "
                "checkpoint again with this precision, or leave the option out."
            )
        return self.header.precision

    def make_backend(self, device: str, precision: ComputePrecision) -> InferenceBackend:
        self.resolve_precision(precision, device)
        return OnnxBackend(self.path, device)
