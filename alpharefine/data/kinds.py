"""Readers of training data by the name of their layout, and detection of layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from alpharefine.data.coco import COCO
from alpharefine.data.frames import list_folders
from alpharefine.data.got10k import GOT10k
from alpharefine.data.imagenet import ImageNetDET, ImageNetVID
from alpharefine.data.lasot import LaSOT
from alpharefine.data.mask_video import MaskVideo, Saliency
from alpharefine.data.reader import Reader
from alpharefine.data.trackingnet import TrackingNet

Kind = Literal["got10k", "lasot", "coco", "mask_video", "saliency", "trackingnet", "imagenet_vid", "imagenet_det"]

READERS: dict[str, type[Reader]] = {
    "got10k": GOT10k,
    "lasot": LaSOT,
    "coco": COCO,
    "mask_video": MaskVideo,
    "saliency": Saliency,
    "trackingnet": TrackingNet,
    "imagenet_vid": ImageNetVID,
    "imagenet_det": ImageNetDET,
}
"""Class of each reader by its kind."""


def detect_kinds(root: Path) -> list[tuple[str, Path]]:
    """Return the kinds of the data sets in a folder, with the folder of each.

    Args:
        root: Folder of a data set, or of several.
    """
    found = [(kind, root) for kind, reader in READERS.items() if reader.fits(root)]
    if found:
        return found
    below = [root / name for name in list_folders(root)]
    return [(kind, folder) for folder in below for kind, reader in READERS.items() if reader.fits(folder)]
