"""Training pairs per second of one core, with augmentation and collation: from frames and from a crop store.

The reference decodes both frames whole with OpenCV and augments with a composition of albumentations. The frames are
JPEG files of 4:2:0 and quality 75, made of a picture in `docs/images`. The geometric means of the sides of the boxes
are 0.1 to 0.5 of those of the frame, evenly in the logarithm, with aspect ratios up to 1.4, anywhere in the frame.
Times are processor times.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import process_time

import albumentations as A
import cv2
import numpy as np
import torch
from torch.utils.data import default_collate

from alpharefine.data.augmentation import PairAugmentation
from alpharefine.data.crop_store import read_crops, write_store
from alpharefine.data.images import decode_region
from alpharefine.data.lasot import LaSOT
from alpharefine.data.memory import keep_freed_memory
from alpharefine.data.pairs import Frame, FrameFile, PairDataset, PairSource
from alpharefine.data.stored_frames import StoredFrames
from benchmarks.rows import Row

SIZES = ((720, 405), (1280, 720), (1920, 1080))
"""Widths and heights of the frames: GOT-10k as usually reduced, LaSOT and TrackingNet, GOT-10k as published."""

NUM_FRAMES, QUALITY = 24, 75
BATCH_SIZE, WARM_UP, ROUNDS = 16, 2, 31
PATHS = ("plain", "frames", "crop store", "uncompressed crop store")
DECODING = "decoding of parts of frames"

_batch: Callable[[], object]

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "example.png"


class PlainSource(PairSource):
    """The reference: whole frames, decoded by OpenCV."""

    def draw(self, rng: np.random.Generator) -> tuple[Frame, Frame]:  # type: ignore[override]
        """Draw a template frame and a search frame, and read them."""
        template, search = super().draw(rng)
        return template.load(), search.load()


class Decoding(PairDataset):
    """The limit: only decodes the parts of the frames."""

    def _pair(self, template: FrameFile, search: FrameFile, rng: np.random.Generator) -> None:  # type: ignore[override]
        rng.random(2)  # grayscale and flip
        around = self.geometry.window.around
        for frame, box in ((template, template.box_xywh), (search, self.augmentation.jitter(search.box_xywh, rng))):
            decode_region(frame.content, frame.path, [around(box)], reduced=True)


class ComposedPhotometric:
    """The reference: a composition of albumentations, whose generators are seeded for each crop."""

    def __init__(self, augmentation: PairAugmentation) -> None:
        amount = augmentation.brightness
        jitter = A.ColorJitter(brightness=(1 - amount, 1 + amount), contrast=(1, 1), saturation=(1, 1), hue=(0, 0), p=1)
        self.to_gray, self.compose = A.ToGray(p=1), A.Compose([jitter])

    def __call__(self, crop: np.ndarray, gray: bool, rng: np.random.Generator) -> np.ndarray:
        """Augment a crop, see `Photometric`."""
        if gray:
            crop = self.to_gray(image=crop)["image"]
        self.compose.set_random_seed(int(rng.integers(2**32)))
        return np.asarray(self.compose(image=crop)["image"])


def measure(quick: bool) -> list[Row]:
    """Measure frames of each size.

    Args:
        quick: Take a single small batch of the smallest frames only.
    """
    rows = []
    for width, height in SIZES[: 1 if quick else None]:
        with TemporaryDirectory() as temporary:
            folder = Path(temporary)
            num_bytes = write_clips(folder / "clips", width, height, num_clips=1 if quick else 4)
            for store, compressed in (("crop store", True), ("uncompressed crop store", False)):
                crops = read_crops("clips", LaSOT(folder / "clips"), None, 0.0, folder / "cache", compressed=compressed)
                write_store(folder / store, crops)
            rates = _rates(folder, 1 if quick else ROUNDS)
        rows += _rows(rates, width, height, num_bytes)
    return rows


def _rates(folder: Path, rounds: int) -> dict[str, float]:
    """Return the pairs per second of each path, each measured in a process of its own as a worker of a training."""
    spawn = get_context("spawn")
    seconds: dict[str, list[float]] = {path: [] for path in (*PATHS, DECODING)}
    with ExitStack() as stack:
        workers = {path: spawn.Pool(1, _start, (path, folder)) for path in seconds}
        for worker in workers.values():
            # Unlike the exit of the pool, which kills the worker: its semaphores would be reported as leaked.
            stack.callback(worker.join)
            stack.callback(worker.close)
        for _ in range(WARM_UP + rounds):
            for path, worker in workers.items():
                seconds[path].append(worker.apply(_time_batch))
    return {path: BATCH_SIZE / median(each[WARM_UP:]) for path, each in seconds.items()}


def _start(path: str, folder: Path) -> None:
    """Prepare a worker, and open the data set of its path."""
    global _batch
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    cache = folder / "cache"
    if path == "plain":
        source: PairSource = PlainSource(LaSOT(folder / "clips"), cache)
    else:
        keep_freed_memory()
        if path in ("frames", DECODING):
            source = PairSource(LaSOT(folder / "clips"), cache)
        else:
            source = PairSource(
                StoredFrames(folder / path, "clips", is_video=True, has_masks=False), cache, min_frames=2
            )
    dataset = Decoding if path == DECODING else PairDataset
    pairs = dataset([source], [1.0], PairAugmentation(), num_pairs=BATCH_SIZE)
    if path == "plain":
        pairs.photometric = ComposedPhotometric(pairs.augmentation)  # type: ignore[assignment]
    _batch = _batches(pairs)


def _time_batch() -> float:
    start = process_time()
    _batch()
    return process_time() - start


def _rows(rates: dict[str, float], width: int, height: int, num_bytes: float) -> list[Row]:
    return [
        Row(
            f"pairs of one core from {source}, {width} x {height}",
            "pairs/s",
            rates[source],
            rates["plain"],
            f"whole frames of {num_bytes / 1024:.0f} KiB" + (f"; limit: {DECODING}" if source == "frames" else ""),
            rates[DECODING] if source == "frames" else None,
        )
        for source in PATHS[1:]
    ]


def _batches(pairs: PairDataset) -> Callable[[], object]:
    starts, collate = count(0, BATCH_SIZE), list if isinstance(pairs, Decoding) else default_collate

    def batch() -> object:
        start = next(starts)
        return collate([pairs[index] for index in range(start, start + BATCH_SIZE)])

    return batch


def write_clips(root: Path, width: int, height: int, num_clips: int) -> float:
    """Write clips in LaSOT's layout, each with a target of another size that moves at random.

    Args:
        root: Folder of the clips.
        width: Width of the frames in pixels.
        height: Height of the frames in pixels.
        num_clips: Number of clips.

    Returns:
        Mean size of a frame file in bytes.
    """
    rng = np.random.default_rng(0)
    strip = np.asarray(cv2.imread(str(PICTURE)))
    picture = cv2.resize(strip[:, : strip.shape[1] // 4], (width, height), interpolation=cv2.INTER_CUBIC)
    sizes: list[int] = []
    for clip in range(1, num_clips + 1):
        images = root / f"clip-{clip}" / "img"
        images.mkdir(parents=True)
        rows = []
        for number in range(1, NUM_FRAMES + 1):
            frame = np.roll(picture, rng.integers(0, [height, width]), (0, 1))
            content = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
            (images / f"{number:08d}.jpg").write_bytes(content)
            sizes.append(len(content))
            side = np.sqrt(width * height) * np.exp(rng.uniform(np.log(0.1), np.log(0.5)))
            stretch = np.exp(rng.uniform(-0.5, 0.5) * np.log(2))
            w, h = min(side * stretch, width), min(side / stretch, height)
            x, y = rng.uniform(0, [width - w, height - h])
            rows.append(f"{x:.2f},{y:.2f},{w:.2f},{h:.2f}\n")
        (root / f"clip-{clip}" / "groundtruth.txt").write_text("".join(rows))
    return float(np.mean(sizes))
