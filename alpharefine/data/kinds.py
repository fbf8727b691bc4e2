"""Readers of training data by the name of their layout, and detection of layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from alpharefine.data.coco import COCO, coco_files
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


def open_all(kind: str, root: Path) -> list[Reader]:
    """Return readers of all sequences in a folder, whatever split they belong to.

    Args:
        kind: Layout of the data set.
        root: Folder of the data set.

    Raises:
        UserError: If the folder is not in this layout.
    """
    reader = READERS[kind]
    if issubclass(reader, GOT10k):
        splits = [split for split in ("train", "val") if (root / split).is_dir()]
        return [GOT10k(root, split) for split in splits or ("train",)]  # type: ignore[arg-type]
    if issubclass(reader, LaSOT):
        lasot = LaSOT(root)
        listed = lasot.names if lasot.split_file.is_file() else []
        lasot.names = list(dict.fromkeys([*listed, *lasot.present_names()]))
        return [lasot]
    if issubclass(reader, COCO):
        return [COCO(root, annotations=file, images=images) for file, images in coco_files(root)] or [COCO(root)]
    return [reader(root)]
