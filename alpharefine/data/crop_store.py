"""Crop store: the surroundings of every target, cut out once and stored in a few files.

Training pairs need the target and its surroundings only. The store keeps these at the resolution that a crop of
256 pixels can show, as WebP pictures and PNG masks in ``.safetensors`` parts. A whole store of small data sets fits
into the memory of a device, where `alpharefine.data.device_pairs` makes the pairs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from alpharefine.boxes import xywh_to_xyxy
from alpharefine.data.bad_samples import BadSamples
from alpharefine.data.images import read_image
from alpharefine.data.index import open_index
from alpharefine.data.pairs import read_mask
from alpharefine.data.reader import Reader
from alpharefine.errors import UserError

SURROUNDINGS = 4.0
"""Ratio of the sides of the stored region to those of the box. The search region of a jittered box fits into it."""

STORED_BOX_SIZE = 144.0
"""Largest geometric mean of the sides of a stored box in pixels; a crop of 256 pixels shows a box at 128."""

MAX_SIDE = 448
"""Longest side of a stored crop in pixels."""

MIN_BOX_SIZE = 8.0
"""Minimum geometric mean of the sides of a box, in image pixels. Smaller targets are left out."""

PART_BYTES = 44 * 2**20
"""Size limit of a part in bytes."""

WEBP_QUALITY = 88

_FORMAT = 1
_KEY = "crop_store"
_ALPHA_SIGMA = 1.0
_ARRAYS = ("images", "image_ends", "masks", "mask_ends", "boxes_xyxy", "times", "sequences")


@dataclass(frozen=True)
class StoredCrop:
    """Surroundings of a target in one frame.

    Attributes:
        sequence: Name of the source, the sequence and the object, separated by ``/``.
        time: Frame number.
        box_xyxy: Box of shape ``(4,)``, float32, in pixels of the crop.
        image: Image in WebP format.
        mask: Binary mask in PNG format, or empty without a mask.
    """

    sequence: str
    time: int
    box_xyxy: np.ndarray
    image: bytes
    mask: bytes


@dataclass(frozen=True)
class CropStore:
    """Crop store in memory, with one padded picture per stored crop.

    The crops of a sequence are adjacent and in temporal order.

    Attributes:
        pixels: RGB images and softened masks of shape ``(N, 4, S, S)``, uint8, in the top-left corner; 0 elsewhere.
        sizes: Heights and widths of the crops, shape ``(N, 2)``, float32.
        boxes_xyxy: Boxes of shape ``(N, 4)``, float32, in pixels of the crop.
        has_mask: Boolean tensor of shape ``(N,)``, True for crops with a mask.
        starts: Index of the first crop of each sequence, and N at the end, shape ``(M + 1,)``, int64.
        names: Names of the M sequences, ``<source>/<sequence>`` or ``<source>/<sequence>/<object>``.
    """

    pixels: Tensor
    sizes: Tensor
    boxes_xyxy: Tensor
    has_mask: Tensor
    starts: Tensor
    names: tuple[str, ...]

    def to(self, device: torch.device | str) -> CropStore:
        """Copy the store to a device.

        Args:
            device: Device such as ``cuda``.
        """
        return CropStore(
            self.pixels.to(device),
            self.sizes.to(device),
            self.boxes_xyxy.to(device),
            self.has_mask.to(device),
            self.starts.to(device),
            self.names,
        )

    def source_of(self, sequence: int) -> str:
        """Return the name of the source of a sequence.

        Args:
            sequence: Index of the sequence.
        """
        return self.names[sequence].partition("/")[0]

    def sequence_name(self, sequence: int) -> str:
        """Return the name of a sequence in its source, without the object.

        Args:
            sequence: Index of the sequence.
        """
        return self.names[sequence].split("/")[1]


def stored_crop(
    image: np.ndarray, box_xywh: np.ndarray, mask: np.ndarray | None, sequence: str, time: int
) -> StoredCrop:
    """Cut the surroundings of a target out of its frame.

    Args:
        image: RGB image of shape ``(H, W, 3)``, uint8.
        box_xywh: Box of shape ``(4,)``, in image pixels, with positive size.
        mask: Mask of shape ``(H, W)``, uint8, with values 0 and 1, or None.
        sequence: Name of the sequence.
        time: Frame number.
    """
    x, y, w, h = (float(v) for v in box_xywh)
    reach = SURROUNDINGS / 2
    left, right = max(0, int(x + w / 2 - reach * w)), min(image.shape[1], int(np.ceil(x + w / 2 + reach * w)))
    top, bottom = max(0, int(y + h / 2 - reach * h)), min(image.shape[0], int(np.ceil(y + h / 2 + reach * h)))
    region = image[top:bottom, left:right]
    scale = min(1.0, STORED_BOX_SIZE / np.sqrt(w * h), MAX_SIDE / max(region.shape[:2]))
    width, height = (max(1, round(scale * n)) for n in region.shape[1::-1])
    factor = np.array([width / region.shape[1], height / region.shape[0]] * 2)
    box_xyxy = (xywh_to_xyxy(np.array([x - left, y - top, w, h])) * factor).astype(np.float32)
    small = cv2.resize(region, (width, height), interpolation=cv2.INTER_AREA)
    options = [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY]
    encoded = cv2.imencode(".webp", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), options)[1].tobytes()
    encoded_mask = b""
    if mask is not None:
        part = mask[top:bottom, left:right] * np.uint8(255)
        binary = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA) > 127
        encoded_mask = cv2.imencode(".png", binary * np.uint8(255), [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes()
    return StoredCrop(sequence, time, box_xyxy, encoded, encoded_mask)


def read_crops(
    source: str,
    reader: Reader,
    max_frames: int,
    min_area: float,
    cache_dir: Path | None = None,
    bad_samples: BadSamples | None = None,
) -> Iterator[StoredCrop]:
    """Cut out all targets of a data set, sequence by sequence.

    Args:
        source: Name of the data set in the store.
        reader: Reader of the data set.
        max_frames: Maximum number of frames per sequence. Evenly spaced frames are kept of longer sequences.
        min_area: Minimum area of a mask in pixels.
        cache_dir: Folder of the indexes. None selects the user's cache folder.
        bad_samples: Count of the frames that cannot be read. None stops at the first one.

    Raises:
        UserError: If an image or a mask cannot be read, or too many if `bad_samples` skips them.
    """
    bad_samples = bad_samples or BadSamples()
    index = open_index(reader, cache_dir)
    for number, name in enumerate(index.names):
        span = index.frames(number)
        sizes = np.sqrt(index.boxes_xywh[span, 2:].clip(0).prod(-1))
        usable = span.start + np.flatnonzero(np.asarray(index.visible[span]) & (sizes >= MIN_BOX_SIZE))
        if len(usable) > max_frames:
            usable = usable[np.linspace(0, len(usable) - 1, max_frames).round().astype(int)]
        object_id = int(index.object_ids[number])
        label = f"{source}/{name}" + (f"/{object_id}" if object_id else "")
        for frame in usable:
            try:
                image = read_image(reader.frame_path(str(name), str(index.frame_names[frame])))
                mask = read_mask(reader, index, number, int(frame), image.shape[:2]) if reader.has_masks else None
            except UserError as error:
                if not bad_samples.skips:
                    raise
                bad_samples.add(1, [str(error)])
                continue
            bad_samples.add(1, [])
            if mask is None or mask.sum() >= min_area:
                yield stored_crop(
                    image, index.boxes_xywh[frame].astype(np.float64), mask, label, int(index.times[frame])
                )


def write_store(folder: Path, crops: Iterable[StoredCrop], part_bytes: int = PART_BYTES) -> list[Path]:
    """Write a crop store.

    Args:
        folder: Folder of the store, created if missing.
        crops: Crops, adjacent if they are of the same sequence.
        part_bytes: Size limit of a part in bytes.

    Returns:
        Paths of the parts.

    Raises:
        UserError: If the folder contains a store.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob("part-*.safetensors")):
        raise UserError(f"{folder} contains a crop store; remove it, or give another folder.")
    paths: list[Path] = []
    pending: list[StoredCrop] = []
    size = 0

    def close() -> None:
        paths.append(folder / f"part-{len(paths):03d}.safetensors")
        _write_part(paths[-1], pending)
        pending.clear()

    for crop in crops:
        length = len(crop.image) + len(crop.mask)
        if pending and size + length > part_bytes:
            close()
            size = 0
        pending.append(crop)
        size += length
    if pending:
        close()
    return paths


def _write_part(path: Path, crops: list[StoredCrop]) -> None:
    names = list(dict.fromkeys(crop.sequence for crop in crops))
    number = {name: n for n, name in enumerate(names)}
    arrays: dict[str, np.ndarray] = {
        "images": np.frombuffer(b"".join(crop.image for crop in crops), np.uint8),
        "image_ends": np.cumsum([len(crop.image) for crop in crops]).astype(np.int64),
        "masks": np.frombuffer(b"".join(crop.mask for crop in crops), np.uint8),
        "mask_ends": np.cumsum([len(crop.mask) for crop in crops]).astype(np.int64),
        "boxes_xyxy": np.stack([crop.box_xyxy for crop in crops]),
        "times": np.array([crop.time for crop in crops], np.int32),
        "sequences": np.array([number[crop.sequence] for crop in crops], np.int32),
    }
    save_file(arrays, path, {_KEY: json.dumps({"format": _FORMAT, "names": names})})


def read_parts(paths: Iterable[Path]) -> list[StoredCrop]:
    """Read the encoded crops of parts.

    Args:
        paths: Paths of the parts.

    Raises:
        UserError: If a part is missing, damaged or of another format.
    """
    return [crop for path in paths for crop in _read_part(path)]


def _read_part(path: Path) -> Iterator[StoredCrop]:
    try:
        with safe_open(path, framework="np") as file:
            header = json.loads((file.metadata() or {}).get(_KEY, "{}"))
            arrays: Mapping[str, np.ndarray] = {name: file.get_tensor(name) for name in _ARRAYS if header}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: this part of a crop store does not read ({error}); write the store again.") from error
    if header.get("format") != _FORMAT:
        raise UserError(f"{path}: not a part of a crop store of format {_FORMAT}; write the store again.")
    images, masks = arrays["images"].tobytes(), arrays["masks"].tobytes()
    image_start = mask_start = 0
    for i, (image_end, mask_end) in enumerate(zip(arrays["image_ends"], arrays["mask_ends"], strict=True)):
        yield StoredCrop(
            sequence=header["names"][arrays["sequences"][i]],
            time=int(arrays["times"][i]),
            box_xyxy=arrays["boxes_xyxy"][i],
            image=images[image_start:image_end],
            mask=masks[mask_start:mask_end],
        )
        image_start, mask_start = image_end, mask_end


def load_store(folder: Path, num_threads: int = 1) -> CropStore:
    """Decode a crop store into memory.

    Args:
        folder: Folder of the parts.
        num_threads: Number of decoding threads.

    Raises:
        UserError: If the folder contains no store, or a part cannot be read.
    """
    paths = sorted(folder.glob("part-*.safetensors"))
    if not paths:
        raise UserError(f"{folder} contains no crop store (files part-*.safetensors); check `data.store`.")
    crops = read_parts(paths)
    order = {name: n for n, name in enumerate(dict.fromkeys(crop.sequence for crop in crops))}
    crops.sort(key=lambda crop: (order[crop.sequence], crop.time))
    pixels = torch.zeros(len(crops), 4, MAX_SIDE, MAX_SIDE, dtype=torch.uint8)
    sizes = torch.zeros(len(crops), 2)

    def decode(i: int) -> None:
        image, alpha = _decode(crops[i])
        height, width = image.shape[:2]
        pixels[i, :3, :height, :width] = torch.from_numpy(image).permute(2, 0, 1)
        if alpha is not None:
            pixels[i, 3, :height, :width] = torch.from_numpy(alpha)
        sizes[i] = torch.tensor([height, width])

    with ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(decode, range(len(crops))))
    numbers = np.array([order[crop.sequence] for crop in crops])
    return CropStore(
        pixels=pixels,
        sizes=sizes,
        boxes_xyxy=torch.from_numpy(np.stack([crop.box_xyxy for crop in crops])),
        has_mask=torch.tensor([bool(crop.mask) for crop in crops]),
        starts=torch.from_numpy(np.searchsorted(numbers, np.arange(len(order) + 1))),
        names=tuple(order),
    )


def _decode(crop: StoredCrop) -> tuple[np.ndarray, np.ndarray | None]:
    """Decode a crop to an RGB image and a softened mask, which is above half where the mask is 1."""
    image = np.asarray(cv2.imdecode(np.frombuffer(crop.image, np.uint8), cv2.IMREAD_COLOR_RGB))
    if not crop.mask:
        return image, None
    mask = np.asarray(cv2.imdecode(np.frombuffer(crop.mask, np.uint8), cv2.IMREAD_GRAYSCALE))
    soft = np.asarray(cv2.GaussianBlur(mask, (0, 0), _ALPHA_SIGMA))
    return image, np.where(mask > 127, soft.clip(min=128), soft.clip(max=127)).astype(np.uint8)
