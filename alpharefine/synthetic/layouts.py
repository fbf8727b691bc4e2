"""Synthetic data sets on disk, in the layouts of the real ones.

The data sets of one seed, and the splits of each, have no sequence or image in common. A data set is written to a
temporary folder, which is renamed when the data set is complete.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack

import cv2
import numpy as np
from tqdm import tqdm

from alpharefine.data.images import box_of_mask
from alpharefine.errors import UserError
from alpharefine.synthetic.looks import LookName
from alpharefine.synthetic.scenes import FRAME_SIZE, generate_image, generate_sequence, require_at_least

Result = TypeVar("Result")

JPEG_QUALITY = 95

_FIRST_GOT10K, _FIRST_MASK_VIDEO, _FIRST_SALIENCY = 1_000_000, 2_000_000, 3_000_000
"""Index of the first sequence of each data set, which separates the data sets of one seed. LaSOT starts at 0."""

_CROWDED = 5
"""In images with at least this number of objects, the last two are annotated as a crowd."""

_CONTOUR_SCALE = 4
"""Scale of the masks before contours are extracted, so that contours follow pixel edges instead of centers."""


class WriteOptions(TypedDict, total=False):
    """Options of all data sets.

    Attributes:
        frame_size: Height and width in pixels. The default is `FRAME_SIZE`.
        seed: Random seed of the data set. The default is 0.
        num_workers: Number of worker processes. The default, 1, writes in the calling process. The files do not depend
            on this option.
        progress: Show a progress bar. The default is False.
    """

    frame_size: tuple[int, int]
    seed: int
    num_workers: int
    progress: bool


def write_lasot(
    root: str | Path,
    num_train: int = 24,
    num_test: int = 6,
    num_frames: int = 60,
    flat: bool = False,
    look: LookName = "drawn",
    **options: Unpack[WriteOptions],
) -> None:
    """Write sequences in the layout of LaSOT, with ``training_set.txt`` and ``testing_set.txt``.

    Args:
        root: Folder of the data set. It must be empty or not exist.
        num_train: Number of training sequences.
        num_test: Number of test sequences.
        num_frames: Number of frames per sequence.
        flat: Write sequences to ``<root>/<sequence>/`` instead of ``<root>/<class>/<sequence>/``.
        look: What the videos are made of, see `generate_sequence`.
        options: Options of all data sets, see `WriteOptions`.

    Raises:
        UserError: If an argument is out of range, the folder is not empty, or an image cannot be written.
    """
    require_at_least("num_train", num_train, 0)
    require_at_least("num_test", num_test, 0)
    with _complete_folder(Path(root)) as folder:
        work = partial(_write_lasot_sequence, folder, num_frames, flat, look)
        names = _map(work, range(num_train + num_test), "LaSOT", **options)
        _write_lines(folder / "training_set.txt", names[:num_train])
        _write_lines(folder / "testing_set.txt", names[num_train:])


def _write_lasot_sequence(
    root: Path, num_frames: int, flat: bool, look: LookName, index: int, seed: int, frame_size: tuple[int, int]
) -> str:
    sequence = generate_sequence(seed, index, num_frames, frame_size, look)
    folder = root / sequence.name if flat else root / sequence.shape / sequence.name
    _write_frames(folder / "img", "{:08d}", sequence.frames, first=1)
    _write_rows(folder / "groundtruth.txt", sequence.boxes_xywh, decimals=2)
    _write_lines(folder / "full_occlusion.txt", [",".join(map(str, sequence.full_occlusion.astype(int)))])
    _write_lines(folder / "out_of_view.txt", [",".join(map(str, sequence.out_of_view.astype(int)))])
    _write_lines(folder / "nlp.txt", [f"{sequence.shape} moving over a background"])
    return sequence.name


def write_got10k(
    root: str | Path, num_sequences: int = 30, num_frames: int = 60, **options: Unpack[WriteOptions]
) -> None:
    """Write sequences in the layout of the GOT-10k training set, ``<root>/train/``.

    Args:
        root: Folder of the data set. It must be empty or not exist.
        num_sequences: Number of sequences.
        num_frames: Number of frames per sequence.
        options: Options of all data sets, see `WriteOptions`.

    Raises:
        UserError: If an argument is out of range, the folder is not empty, or an image cannot be written.
    """
    require_at_least("num_sequences", num_sequences, 1)
    with _complete_folder(Path(root)) as folder:
        work = partial(_write_got10k_sequence, folder / "train", num_frames)
        names = _map(work, range(num_sequences), "GOT-10k", **options)
        _write_lines(folder / "train" / "list.txt", names)


def _write_got10k_sequence(root: Path, num_frames: int, index: int, seed: int, frame_size: tuple[int, int]) -> str:
    sequence = generate_sequence(seed, _FIRST_GOT10K + index, num_frames, frame_size)
    name = f"GOT-10k_Train_{index + 1:06d}"
    folder = root / name
    _write_frames(folder, "{:08d}", sequence.frames, first=1)
    _write_rows(folder / "groundtruth.txt", sequence.boxes_xywh, decimals=4)
    _write_lines(folder / "absence.label", (sequence.full_occlusion | sequence.out_of_view).astype(int))
    _write_lines(folder / "cover.label", np.rint(8 * sequence.visible_ratio).astype(int))
    _write_lines(folder / "cut_by_image.label", sequence.cut_by_image.astype(int))
    meta = {
        "url": "unknown",
        "begin": "00:00:00",
        "end": "00:00:00",
        "anno_fps": "10Hz",
        "object_class": sequence.shape,
        "motion_class": "unknown",
        "major_class": "unknown",
        "root_class": "unknown",
        "motion_adverb": "unknown",
        "resolution": (frame_size[1], frame_size[0]),
    }
    _write_lines(folder / "meta_info.ini", ["[METAINFO]", *(f"{key}: {value}" for key, value in meta.items())])
    return name


def write_mask_video(
    root: str | Path,
    num_sequences: int = 6,
    num_frames: int = 60,
    look: LookName = "drawn",
    **options: Unpack[WriteOptions],
) -> None:
    """Write sequences with masks in the layout of DAVIS 2016 at 480p. The masks contain the visible part of the target.

    Args:
        root: Folder of the data set. It must be empty or not exist.
        num_sequences: Number of sequences.
        num_frames: Number of frames per sequence.
        look: What the videos are made of, see `generate_sequence`.
        options: Options of all data sets, see `WriteOptions`.

    Raises:
        UserError: If an argument is out of range, the folder is not empty, or an image cannot be written.
    """
    require_at_least("num_sequences", num_sequences, 1)
    with _complete_folder(Path(root)) as folder:
        _map(partial(_write_mask_sequence, folder, num_frames, look), range(num_sequences), "DAVIS 2016", **options)


def _write_mask_sequence(
    root: Path, num_frames: int, look: LookName, index: int, seed: int, frame_size: tuple[int, int]
) -> None:
    sequence = generate_sequence(seed, _FIRST_MASK_VIDEO + index, num_frames, frame_size, look)
    name = f"{sequence.shape}-{index + 1}"
    _write_frames(root / "JPEGImages" / "480p" / name, "{:05d}", sequence.frames)
    _write_masks(root / "Annotations" / "480p" / name, "{:05d}", sequence.masks)


def write_saliency(root: str | Path, num_images: int = 40, **options: Unpack[WriteOptions]) -> None:
    """Write images of one object with masks in the layout of ECSSD.

    Args:
        root: Folder of the data set. It must be empty or not exist.
        num_images: Number of images.
        options: Options of all data sets, see `WriteOptions`.

    Raises:
        UserError: If an argument is out of range, the folder is not empty, or an image cannot be written.
    """
    require_at_least("num_images", num_images, 1)
    with _complete_folder(Path(root)) as folder:
        _map(partial(_write_saliency_image, folder), range(num_images), "ECSSD", **options)


def _write_saliency_image(root: Path, index: int, seed: int, frame_size: tuple[int, int]) -> None:
    sequence = generate_sequence(seed, _FIRST_SALIENCY + index, 1, frame_size)
    _write_frames(root / "images", "{:04d}", sequence.frames, first=index + 1)
    _write_masks(root / "ground_truth_mask", "{:04d}", sequence.masks, first=index + 1)


def write_coco(root: str | Path, num_train: int = 100, num_val: int = 20, **options: Unpack[WriteOptions]) -> None:
    """Write images in the layout of COCO 2017, with polygons, run-length masks and crowds.

    Args:
        root: Folder of the data set. It must be empty or not exist.
        num_train: Number of images in ``train2017``.
        num_val: Number of images in ``val2017``.
        options: Options of all data sets, see `WriteOptions`.

    Raises:
        UserError: If an argument is out of range, the folder is not empty, or an image cannot be written.
    """
    require_at_least("num_train", num_train, 0)
    require_at_least("num_val", num_val, 0)
    with _complete_folder(Path(root)) as folder:
        (folder / "annotations").mkdir()
        for split, indices in (
            ("train2017", range(num_train)),
            ("val2017", range(num_train, num_train + num_val)),
        ):
            (folder / split).mkdir()
            annotations = _map(partial(_write_coco_image, folder / split), indices, f"COCO {split}", **options)
            content = _coco_content(indices, annotations, options.get("frame_size", FRAME_SIZE))
            (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def _write_coco_image(root: Path, index: int, seed: int, frame_size: tuple[int, int]) -> list[dict[str, Any]]:
    """Write one image and return its annotations."""
    image, masks = generate_image(seed, index, frame_size)
    _write_frames(root, "{:012d}", [image], first=index + 1)
    crowd = []
    if len(masks) >= _CROWDED:
        crowd = [_annotation(np.maximum(masks[-2], masks[-1]), index, as_crowd=True)]
        masks = masks[:-2]
    # In COCO, few objects other than crowds have run-length masks. Here, the rearmost object of every third image has.
    objects = [_annotation(mask, index, in_runs=index % 3 == 0 and k == 0) for k, mask in enumerate(masks)]
    return [{"id": 100 * (index + 1) + k, **each} for k, each in enumerate(objects + crowd)]


def _annotation(mask: np.ndarray, index: int, in_runs: bool = False, as_crowd: bool = False) -> dict[str, Any]:
    from pycocotools import mask as run_length

    segmentation: list[list[float]] | dict[str, Any]
    size = list(mask.shape)
    if as_crowd:
        segmentation = {"counts": _run_lengths(mask), "size": size}
    else:
        segmentation = [] if in_runs else _polygons(mask)
        if not segmentation:
            counts = run_length.encode(np.asfortranarray(mask))["counts"].decode("ascii")
            segmentation = {"counts": counts, "size": size}
    return {
        "segmentation": segmentation,
        "area": float(mask.sum()),
        "iscrowd": int(as_crowd),
        "image_id": index + 1,
        "bbox": box_of_mask(mask).tolist(),
        "category_id": 1,
    }


def _run_lengths(mask: np.ndarray) -> list[int]:
    """Encode a mask as uncompressed COCO run lengths: alternating runs of 0 and 1 in column order, starting with 0."""
    flat = np.concatenate([[0], mask.ravel(order="F"), [1 - mask[-1, -1]]])
    edges = np.flatnonzero(np.diff(flat))
    return [int(count) for count in np.diff(edges, prepend=0)]


def _polygons(mask: np.ndarray) -> list[list[float]]:
    """Convert a mask to polygons of alternating x and y in continuous pixels. Masks with holes give no polygon."""
    enlarged = cv2.resize(mask * 255, None, fx=_CONTOUR_SCALE, fy=_CONTOUR_SCALE, interpolation=cv2.INTER_LINEAR)
    contours, hierarchy = cv2.findContours((enlarged > 127).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    has_hole = bool((hierarchy[0, :, 3] >= 0).any())
    outlines = [cv2.approxPolyDP(contour, 1.0, closed=True) for contour in contours]
    points = [(outline.reshape(-1) + 0.5) / _CONTOUR_SCALE for outline in outlines if len(outline) >= 3]
    return [] if has_hole else [outline.round(2).tolist() for outline in points]


def _coco_content(
    indices: range, annotations: list[list[dict[str, Any]]], frame_size: tuple[int, int]
) -> dict[str, Any]:
    height, width = frame_size
    return {
        "info": {"description": "Synthetic images in the layout of COCO 2017"},
        "licenses": [],
        "images": [
            {"id": index + 1, "file_name": f"{index + 1:012d}.jpg", "height": height, "width": width}
            for index in indices
        ],
        "annotations": [annotation for of_image in annotations for annotation in of_image],
        "categories": [{"id": 1, "name": "object", "supercategory": "object"}],
    }


def require_free(root: Path) -> None:
    """Check that a folder does not exist or is empty.

    Args:
        root: Path of the folder.

    Raises:
        UserError: If the folder is not empty or the path is a file.
    """
    if root.is_dir() and not any(root.iterdir()):
        return
    if root.exists():
        raise UserError(
            f"Synthetic data: {root} must be an empty folder or not exist; remove it or choose another folder."
        )


@contextmanager
def _complete_folder(root: Path) -> Iterator[Path]:
    """Create a temporary folder that is renamed to `root` on success and removed on error."""
    require_free(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as temporary:
        folder = Path(temporary) / root.name
        folder.mkdir()
        yield folder
        if root.exists():
            root.rmdir()
        folder.rename(root)


def _map(
    work: Callable[..., Result],
    indices: range,
    description: str,
    frame_size: tuple[int, int] = FRAME_SIZE,
    seed: int = 0,
    num_workers: int = 1,
    progress: bool = False,
) -> list[Result]:
    """Call `work` for each index, with the options of `WriteOptions`, and return the results in order."""
    require_at_least("num_workers", num_workers, 1)
    work = partial(work, seed=seed, frame_size=frame_size)
    bar = partial(tqdm, total=len(indices), desc=description, disable=not progress)
    if num_workers == 1:
        return list(bar(map(work, indices)))
    spawn = get_context("spawn")
    with ProcessPoolExecutor(num_workers, spawn, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        return list(bar(pool.map(work, indices)))


def _write_frames(folder: Path, stem: str, frames: list[np.ndarray], first: int = 0) -> None:
    for number, frame in enumerate(frames, start=first):
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        _write_image(folder / f"{stem.format(number)}.jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def _write_masks(folder: Path, stem: str, masks: np.ndarray, first: int = 0) -> None:
    for number, mask in enumerate(masks, start=first):
        _write_image(folder / f"{stem.format(number)}.png", 255 * mask, [])


def _write_image(path: Path, image: np.ndarray, options: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image, options):
        raise UserError(
            f"{path}: cannot write this image; check the free disk space and the permissions of the folder."
        )


def _write_rows(path: Path, rows: np.ndarray, decimals: int) -> None:
    np.savetxt(path, rows, fmt=f"%.{decimals}f", delimiter=",")


def _write_lines(path: Path, lines: Iterable[object]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))
