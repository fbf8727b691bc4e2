"""Exported networks: the pair of files of one export, their inputs and outputs, and the header in both."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from alpharefine.errors import UserError
from alpharefine.inference.backend import CropPredictions
from alpharefine.models.config import SLIDING_NECKS, HeadName, NetworkConfig

HEADER_KEY = "alpharefine"
"""Key of the header among the metadata of a file."""

FORMAT = 1
"""Version of the header and of the inputs and outputs."""

KERNELS = "kernels"
"""Output of the template encoder and input of the search network: ``(B, C, 8, 8)`` float32."""

CROPS = "crops"
"""Input of both networks: ``(B, 256, 256, 3)`` uint8 RGB."""

TARGETS = "targets_xyxy"
"""Input of the template encoder of a sliding neck: ``(B, 4)`` float32, in crop pixels."""

OUTPUTS: dict[HeadName, tuple[str, ...]] = {"corner": ("crop_xyxy", "score"), "mask": ("mask",)}
"""Outputs of the search network by head, float32: ``(B, 4)`` in crop pixels; ``(B,)`` and ``(B, 256, 256)`` in 0..1."""

ExportPrecision = Literal["32", "16", "8"]
PartName = Literal["template", "search"]


def template_path(path: Path) -> Path:
    """Return the path of the template encoder that belongs to a search network.

    Args:
        path: Path of the search network.

    >>> template_path(Path("weights/ar18.onnx")).as_posix()
    'weights/ar18_template.onnx'
    """
    return path.with_name(f"{path.stem}_template{path.suffix}")


@dataclass(frozen=True)
class ExportHeader:
    """Description of an export, the same in both files.

    Attributes:
        config: Configuration of the network; `heads` are the exported ones.
        precision: Bits of the layers: floating-point numbers of 32 or 16, or integers of 8 in the convolutions of the
            search network. Inputs and outputs are float32 in all.
        weights: SHA-256 digest of the weights.
    """

    config: NetworkConfig
    precision: ExportPrecision
    weights: str

    @property
    def takes_targets(self) -> bool:
        """True if the template encoder has the input `TARGETS`."""
        return self.config.neck in SLIDING_NECKS

    def to_json(self, part: PartName) -> str:
        """Return the text of the header of one file.

        Args:
            part: Network in the file.
        """
        values = {"format": FORMAT, "part": part, "precision": self.precision, "weights": self.weights}
        return json.dumps({**values, "network": self.config.to_dict()})

    @classmethod
    def from_json(cls, text: str, part: PartName, place: str) -> ExportHeader:
        """Parse the header of one file.

        Args:
            text: Text of the header.
            part: Expected network.
            place: Option and path of the file, for messages.

        Raises:
            UserError: If the header is damaged, of another format, or describes the other network.
        """
        try:
            values = json.loads(text)
            found = (values["format"], values["part"])
            if found != (FORMAT, part):
                raise UserError(
                    f"{place} must hold the {part} network in format {FORMAT}, got the {found[1]} network in format "
                    f"{found[0]}; give the file that `--output` of `alpharefine export` named."
                )
            header = cls(NetworkConfig.from_mapping(values["network"]), values["precision"], str(values["weights"]))
            if header.precision not in get_args(ExportPrecision):
                raise ValueError(header.precision)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{place} has a damaged header; export the checkpoint again.") from error
        return header


def output_names(heads: Collection[HeadName]) -> list[str]:
    """Return the names of the outputs of a search network, in their order.

    Args:
        heads: Heads of the network.

    >>> output_names(["mask", "corner"])
    ['crop_xyxy', 'score', 'mask']
    """
    return [name for head, names in OUTPUTS.items() if head in heads for name in names]


def predictions_of(outputs: Mapping[str, np.ndarray]) -> CropPredictions:
    """Return the outputs of a search network as predictions.

    Args:
        outputs: Outputs by name; those of heads that were not run are absent.
    """
    return CropPredictions(*(outputs.get(name) for names in OUTPUTS.values() for name in names))
