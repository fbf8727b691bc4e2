"""Training pairs per second of one core, with augmentation and collation: from frames and from a crop store.

The reference decodes both frames whole. The frames are JPEG files of 4:2:0 and quality 85, made of the pictures in
`docs/images` with noise of a camera. The geometric means of the sides of the boxes are 0.1 to 0.5 of those of the
frame, evenly in the logarithm, with aspect ratios up to 2, anywhere in the frame. Times are processor times.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import cv2
import numpy as np
import torch
from torch.utils.data import default_collate

from alpharefine.data.augmentation import PairAugmentation
from alpharefine.data.crop_store import read_crops, write_store
from alpharefine.data.lasot import LaSOT
from alpharefine.data.pairs import Frame, PairDataset, PairSource
from alpharefine.data.stored_frames import StoredFrames
from benchmarks.rows import Row, alternate, medians

SIZES = ((720, 405), (1280, 720), (1920, 1080))
"""Widths and heights of the frames: GOT-10k as usually reduced, LaSOT and TrackingNet, GOT-10k as published."""

NUM_FRAMES, QUALITY, NOISE = 24, 85, 2.0
BATCH_SIZE, ROUNDS = 16, 9

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "example.png"


class PlainSource(PairSource):
    """The reference: whole frames, decoded by OpenCV."""

    def draw(self, rng: np.random.Generator) -> tuple[Frame, Frame]:  # type: ignore[override]
        """Draw a template frame and a search frame, and read them."""
        template, search = super().draw(rng)
        return template.load(), search.load()


def measure(quick: bool) -> list[Row]:
    """Measure frames of each size.

    Args:
        quick: Take a single small batch of the smallest frames only.
    """
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    rows = []
    for width, height in SIZES[: 1 if quick else None]:
        with TemporaryDirectory() as folder:
            rows += _measure(Path(folder), width, height, quick)
    return rows


def _measure(folder: Path, width: int, height: int, quick: bool) -> list[Row]:
    num_bytes = write_clips(folder / "clips", width, height, num_clips=1 if quick else 4)
    reader, cache = LaSOT(folder / "clips"), folder / "cache"
    write_store(folder / "store", read_crops("clips", reader, None, 0.0, cache))
    stored = StoredFrames(folder / "store", "clips", is_video=True, has_masks=False)
    paths = {
        "plain": _batches(PlainSource(reader, cache)),
        "frames": _batches(PairSource(reader, cache)),
        "crop store": _batches(PairSource(stored, cache, min_frames=2)),
    }
    times = medians(alternate(paths, rounds=1 if quick else ROUNDS, clock=process_time))
    rates = {name: BATCH_SIZE / seconds for name, seconds in times.items()}
    return [
        Row(
            f"pairs of one core from {source}, {width} x {height}",
            "pairs/s",
            rates[source],
            rates["plain"],
            f"whole frames of {num_bytes / 1024:.0f} KiB",
        )
        for source in ("frames", "crop store")
    ]


def _batches(source: PairSource) -> Callable[[], object]:
    pairs, starts = PairDataset([source], [1.0], PairAugmentation(), num_pairs=BATCH_SIZE), count(0, BATCH_SIZE)

    def batch() -> object:
        start = next(starts)
        return default_collate([pairs[index] for index in range(start, start + BATCH_SIZE)])

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
    half = strip.shape[1] // 2
    picture = cv2.resize(np.vstack([strip[:, :half], strip[:, half:]]), (width, height), interpolation=cv2.INTER_CUBIC)
    sizes: list[int] = []
    for clip in range(1, num_clips + 1):
        images = root / f"clip-{clip}" / "img"
        images.mkdir(parents=True)
        rows = []
        for number in range(1, NUM_FRAMES + 1):
            shifted = np.roll(picture, rng.integers(0, [height, width]), (0, 1))
            frame = (shifted + NOISE * rng.standard_normal(shifted.shape)).clip(0, 255).astype(np.uint8)
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
