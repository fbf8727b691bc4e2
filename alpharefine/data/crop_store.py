"""Crop store: the surroundings of every target, cut out once and stored in a few files.

Training pairs need the target and its surroundings only. The store keeps these at the resolution that a crop of
256 pixels can show, as JPEG or uncompressed pictures and PNG masks in ``.safetensors`` parts. Workers read the crops
one by one, see `StoredFrames`. A whole store of small data sets fits into the memory of a device, where
`alpharefine.data.device_pairs` makes the pairs.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor
from tqdm import tqdm

from alpharefine.boxes import xywh_to_xyxy
from alpharefine.data.bad_samples import BadSamples
from alpharefine.data.index import Index, open_index
from alpharefine.data.pairs import FrameFile
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

JPEG_QUALITY = 90
"""Quality of the stored pictures. A JPEG decodes in a quarter of the time of a WebP picture of half its size."""

_FORMAT = 1
_KEY = "crop_store"
_ALPHA_SIGMA = 1.0
_PARTS = "part-*.safetensors"
_ARRAYS = ("images", "masks", "image_ends", "mask_ends", "boxes_xyxy", "times", "sequences")

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class StoredCrop:
    """Surroundings of a target in one frame.

    Attributes:
        sequence: Name of the source, the sequence and the object, separated by ``/``.
        time: Frame number.
        box_xyxy: Box of shape ``(4,)``, float32, in pixels of the crop.
        image: Image in JPEG or PPM format, or WebP in older stores.
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
    image: np.ndarray,
    box_xywh: np.ndarray,
    mask: np.ndarray | None,
    sequence: str,
    time: int,
    compressed: bool = True,
) -> StoredCrop:
    """Cut the surroundings of a target out of its frame.

    Args:
        image: RGB image of shape ``(H, W, 3)``, uint8.
        box_xywh: Box of shape ``(4,)``, in image pixels, with positive size.
        mask: Mask of shape ``(H, W)``, uint8, with values 0 and 1, or None.
        sequence: Name of the sequence.
        time: Frame number.
        compressed: Store the image as JPEG. Otherwise as PPM, which is exact, quick to read, and much larger.
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
    suffix, options = (".jpg", [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]) if compressed else (".ppm", [])
    encoded = cv2.imencode(suffix, cv2.cvtColor(small, cv2.COLOR_RGB2BGR), options)[1].tobytes()
    encoded_mask = b""
    if mask is not None:
        part = mask[top:bottom, left:right] * np.uint8(255)
        binary = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA) > 127
        encoded_mask = cv2.imencode(".png", binary * np.uint8(255), [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes()
    return StoredCrop(sequence, time, box_xyxy, encoded, encoded_mask)


def read_crops(
    source: str,
    reader: Reader,
    max_frames: int | None,
    min_area: float,
    cache_dir: Path | None = None,
    bad_samples: BadSamples | None = None,
    sequences: Iterable[int] | None = None,
    num_threads: int = 1,
    compressed: bool = True,
) -> Iterator[StoredCrop]:
    """Cut out all targets of a data set, sequence by sequence, and show the progress.

    Args:
        source: Name of the data set in the store.
        reader: Reader of the data set.
        max_frames: Maximum number of frames per sequence. Evenly spaced frames are kept of longer sequences. None
            keeps all frames.
        min_area: Minimum area of a mask in pixels.
        cache_dir: Folder of the indexes. None selects the user's cache folder.
        bad_samples: Count of the frames that cannot be read. None stops at the first one.
        sequences: Positions of the sequences in the index. None selects all.
        num_threads: Number of threads that decode and encode.
        compressed: Store images as JPEG, otherwise as PPM; see `stored_crop`.

    Raises:
        UserError: If an image or a mask cannot be read, or too many if `bad_samples` skips them.
    """
    bad_samples = bad_samples or BadSamples()
    index = open_index(reader, cache_dir)
    frames = list(_frames_to_store(index, range(len(index)) if sequences is None else sequences, max_frames))

    def stored(place: tuple[int, int]) -> StoredCrop | UserError | None:
        number, frame = place
        try:
            whole = FrameFile(reader, index, number, frame, reader.has_masks).load()
        except UserError as error:
            return error
        if whole.mask is not None and whole.mask.sum() < min_area:
            return None
        object_id = int(index.object_ids[number])
        label = f"{source}/{index.names[number]}" + (f"/{object_id}" if object_id else "")
        return stored_crop(whole.image, whole.box_xywh, whole.mask, label, int(index.times[frame]), compressed)

    for crop in tqdm(_in_order(stored, frames, num_threads), source, len(frames), unit=" frames", leave=False):
        if isinstance(crop, UserError) and not bad_samples.skips:
            raise crop
        bad_samples.add(1, [str(crop)] if isinstance(crop, UserError) else [])
        if isinstance(crop, StoredCrop):
            yield crop


def _frames_to_store(index: Index, sequences: Iterable[int], max_frames: int | None) -> Iterator[tuple[int, int]]:
    """Yield the sequence and the position of each frame to store."""
    for number in sequences:
        span = index.frames(number)
        sizes = np.sqrt(index.boxes_xywh[span, 2:].clip(0).prod(-1))
        usable = span.start + np.flatnonzero(np.asarray(index.visible[span]) & (sizes >= MIN_BOX_SIZE))
        if max_frames is not None and len(usable) > max_frames:
            usable = usable[np.linspace(0, len(usable) - 1, max_frames).round().astype(int)]
        yield from ((int(number), int(frame)) for frame in usable)


def _in_order(function: Callable[[T], R], items: Iterable[T], num_threads: int) -> Iterator[R]:
    """Call a function in threads that are a few items ahead, and yield the results in order."""
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > 2 * num_threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def write_store(folder: Path, crops: Iterable[StoredCrop], part_bytes: int = PART_BYTES) -> list[Path]:
    """Write a crop store. The folder appears when the store is complete.

    Args:
        folder: Folder of the store, missing or empty.
        crops: Crops, adjacent if they are of the same sequence.
        part_bytes: Size limit of a part in bytes.

    Returns:
        Paths of the parts.

    Raises:
        UserError: If the folder is not empty, there are no crops, or the disk is full.
    """
    require_new_store(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
            fresh = Path(temporary) / "store"
            fresh.mkdir()
            names = _write_parts(fresh, crops, part_bytes)
            if folder.is_dir():
                folder.rmdir()
            fresh.rename(folder)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot write the crop store ({error}); free disk space, or choose another."
        ) from error
    return [folder / name for name in names]


def require_new_store(folder: Path) -> None:
    """Check that a folder is missing or empty.

    Args:
        folder: Folder of the store.

    Raises:
        UserError: If it is not.
    """
    if any(folder.glob(_PARTS)):
        raise UserError(f"{folder} contains a crop store; remove it, or give another folder.")
    if folder.exists() and not (folder.is_dir() and next(folder.iterdir(), None) is None):
        raise UserError(f"{folder} exists and is not an empty folder; give a new folder for the crop store.")


def _write_parts(folder: Path, crops: Iterable[StoredCrop], part_bytes: int) -> list[str]:
    names: list[str] = []
    pending: list[StoredCrop] = []
    size = 0

    def close() -> None:
        names.append(f"part-{len(names):05d}.safetensors")
        _write_part(folder / names[-1], pending)
        pending.clear()

    for crop in crops:
        length = len(crop.image) + len(crop.mask)
        if pending and size + length > part_bytes:
            close()
            size = 0
        pending.append(crop)
        size += length
    if not pending:
        raise UserError(f"A crop store needs a visible target of at least {MIN_BOX_SIZE:.0f} pixels, found none.")
    close()
    return names


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
    # `save_file` lets nobody else read the file.
    path.write_bytes(save(arrays, {_KEY: json.dumps({"format": _FORMAT, "names": names})}))


def read_parts(paths: Iterable[Path]) -> list[StoredCrop]:
    """Read the encoded crops of parts.

    Args:
        paths: Paths of the parts.

    Raises:
        UserError: If a part is missing, damaged or of another format.
    """
    return [crop for path in paths for crop in _read_part(path)]


def _read_part(path: Path) -> Iterator[StoredCrop]:
    part = Part(path)
    for i, time in enumerate(part.times):
        yield StoredCrop(part.labels[i], int(time), part.boxes_xyxy[i], part.image(i), part.mask(i))


class Part:
    """Part of a crop store, of which single crops are read.

    Attributes:
        labels: Sequence of each of the N crops, see `StoredCrop`.
        times: Frame numbers, shape ``(N,)``, int32.
        boxes_xyxy: Boxes of shape ``(N, 4)``, float32, in pixels of the crops.
        has_mask: Boolean array of shape ``(N,)``.

    Args:
        path: Path of the part.

    Raises:
        UserError: If the part is missing, damaged or of another format.
    """

    def __init__(self, path: Path) -> None:
        try:
            file: Any = safe_open(path, framework="pt")  # whose arrays are mapped; those of "np" are copied
            header = json.loads((file.metadata() or {}).get(_KEY, "{}"))
            arrays: dict[str, np.ndarray] = {name: file.get_tensor(name).numpy() for name in _ARRAYS if header}
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(
                f"{path}: this part of a crop store does not read ({error}); write the store again."
            ) from error
        if header.get("format") != _FORMAT:
            raise UserError(f"{path}: not a part of a crop store of format {_FORMAT}; write the store again.")
        self._images, self._masks = arrays["images"], arrays["masks"]
        self.labels: list[str] = [header["names"][number] for number in arrays["sequences"]]
        self.times, self.boxes_xyxy = arrays["times"], arrays["boxes_xyxy"]
        self._image_ends, self._mask_ends = (np.r_[0, arrays[name]] for name in ("image_ends", "mask_ends"))
        self.has_mask = np.diff(self._mask_ends) > 0

    def image(self, number: int) -> bytes:
        """Return the encoded picture of a crop.

        Args:
            number: Number of the crop in the part.
        """
        start, end = (int(value) for value in self._image_ends[number : number + 2])
        return self._images[start:end].tobytes()

    def mask(self, number: int) -> bytes:
        """Return the encoded mask of a crop, empty without a mask.

        Args:
            number: Number of the crop in the part.
        """
        start, end = (int(value) for value in self._mask_ends[number : number + 2])
        return self._masks[start:end].tobytes()


def find_parts(folder: Path) -> list[Path]:
    """Return the paths of the parts of a store.

    Args:
        folder: Folder of the store.

    Raises:
        UserError: If the folder contains no store.
    """
    paths = sorted(folder.glob(_PARTS))
    if not paths:
        raise UserError(
            f"{folder} contains no crop store (files {_PARTS}); write it with `alpharefine crops`, or check "
            "`data.store`."
        )
    return paths


def require_stored(folder: Path, source: str, stored: Collection[str]) -> None:
    """Check that a store holds a data set.

    Args:
        folder: Folder of the store.
        source: Name of the data set.
        stored: Names of the data sets in the store.

    Raises:
        UserError: If it does not.
    """
    if source not in stored:
        raise UserError(
            f"`data.store`: {folder} has no data set {source}, only {', '.join(sorted(stored))}; write the store with "
            "this configuration."
        )


def load_store(folder: Path, num_threads: int = 1) -> CropStore:
    """Decode a crop store into memory.

    Args:
        folder: Folder of the parts.
        num_threads: Number of decoding threads.

    Raises:
        UserError: If the folder contains no store, or a part cannot be read.
    """
    crops = read_parts(find_parts(folder))
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
