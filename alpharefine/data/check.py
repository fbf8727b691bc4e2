"""Check of a data set: every picture is decoded, every row parsed, and every defect described."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from alpharefine.boxes import LEAVING_SHARE, MARGIN, are_corners, is_valid
from alpharefine.data.images import read_image, read_label_image
from alpharefine.data.reader import PartFiles, Reader, SequenceRecord
from alpharefine.data.text import read_flags, read_text, row_faults
from alpharefine.errors import UserError

_MIN_LEAVING = 3

_CHUNKS_PER_PROCESS = 16

_MAX_CHUNK = 64


class PartReport(NamedTuple):
    """Result of the check of one part of a data set.

    Attributes:
        num_pictures: Number of pictures that were decoded.
        defects: Descriptions of the defects, one line each, with file and row.
        num_parts: 1, or 0 if a defect prevents that the parts are listed.
    """

    num_pictures: int
    defects: list[str]
    num_parts: int = 1


@contextmanager
def process_pool(num_processes: int) -> Iterator[ProcessPoolExecutor | None]:
    """Start processes for `check_reader`, and end them at the end of the block.

    Args:
        num_processes: Number of processes. 1 gives None, so that the check runs in this process.

    Raises:
        UserError: If a process was killed.
    """
    if num_processes == 1:
        yield None
        return
    # A forked process would inherit locked threads of OpenCV.
    pool = ProcessPoolExecutor(num_processes, get_context("spawn"), cv2.setNumThreads, (1,))
    try:
        yield pool
    except BrokenProcessPool as error:
        raise UserError("A process of the check was killed; start it again with fewer `--processes`.") from error
    finally:
        pool.shutdown(cancel_futures=True)


def check_reader(reader: Reader, pool: ProcessPoolExecutor | None, num_processes: int) -> Iterator[PartReport]:
    """Check all parts of a data set, and yield their reports in order.

    Args:
        reader: Reader of the data set.
        pool: Processes that share the work. None checks in this process.
        num_processes: Number of processes.

    Raises:
        UserError: If the parts of the data set cannot be listed.
    """
    parts = reader.parts()
    if pool is None:
        yield from (check_part(reader, part) for part in parts)
        return
    size = max(1, min(_MAX_CHUNK, len(parts) // (num_processes * _CHUNKS_PER_PROCESS)))
    chunks = [parts[start : start + size] for start in range(0, len(parts), size)]
    for reports in pool.map(_check_parts, map(reader.share, chunks), chunks):
        yield from reports


def _check_parts(reader: Reader, parts: list[str]) -> list[PartReport]:
    return [check_part(reader, part) for part in parts]


def check_part(reader: Reader, part: str) -> PartReport:
    """Check one part of a data set.

    Args:
        reader: Reader of the data set.
        part: Name of the part.
    """
    defects: list[str] = []
    try:
        files = reader.part_files(part)
    except UserError as error:
        files = PartFiles()
        defects.append(str(error))
    for path, columns in files.rows.items():
        defects += _row_defects(path, columns)
    for path in files.flags:
        defects += _message_of(read_flags, path)
    frame_sizes = dict(_sizes(files.frames, read_image, defects))
    mask_sizes = dict(_sizes(files.masks, read_label_image, defects))
    defects += _other_sizes(frame_sizes, files.sizes)
    if reader.is_video:
        defects += _changes_of_size(frame_sizes)
    records, faults = reader.inspect(part)
    defects += [fault for fault in faults if not _is_known(fault, defects)]
    for record in records:
        paths = [reader.frame_path(record.name, name) for name in record.frame_names]
        defects += _box_defects(record, paths, frame_sizes, files.boxes)
    if records and mask_sizes:
        defects += _mask_defects(reader, records, frame_sizes, mask_sizes)
    return PartReport(len(files.frames) + len(files.masks), list(dict.fromkeys(defects)))


def _is_known(fault: str, defects: list[str]) -> bool:
    """Return True if a fault of parsing repeats a defect of a file."""
    return any(fault == defect or fault.startswith(defect.partition(": ")[0] + ":") for defect in defects)


def _row_defects(path: Path, columns: int) -> list[str]:
    try:
        return [f"{path}, {fault}" for fault in row_faults(read_text(path), columns).values()]
    except UserError as error:
        return [str(error)]


def _message_of(read: object, path: Path) -> list[str]:
    assert callable(read)
    try:
        read(path)
    except UserError as error:
        return [str(error)]
    return []


def _sizes(paths: list[Path], read: object, defects: list[str]) -> Iterator[tuple[Path, tuple[int, int]]]:
    """Decode pictures, and yield the height and width of those that are whole."""
    assert callable(read)
    for path in paths:
        with _decoder_messages() as messages:
            try:
                size = read(path).shape[:2]
            except UserError as error:
                defects.append(str(error))
                continue
        if messages:
            defects.append(f"{path}: the decoder reports damage ({messages[0]}); restore it.")
        yield path, size


@contextmanager
def _decoder_messages() -> Iterator[list[str]]:
    """Collect the lines that decoders write to the standard error of the process."""
    messages: list[str] = []
    saved = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield messages
        finally:
            os.dup2(saved, 2)
            os.close(saved)
        captured.seek(0)
        messages += captured.read().decode(errors="replace").splitlines()


def _other_sizes(found: dict[Path, tuple[int, int]], stated: dict[Path, tuple[int, int]]) -> list[str]:
    """Compare the sizes of pictures with those in their annotation."""
    defects = []
    for path, (height, width) in stated.items():
        size = found.get(path, (height, width))
        if size != (height, width):
            turned = "it may be stored turned (EXIF), or the annotation has width and height exchanged"
            remedy = turned if size == (width, height) else "restore it"
            defects.append(f"{path}: the annotation is of {width}x{height} pixels, got {size[1]}x{size[0]}; {remedy}.")
    return defects


def _changes_of_size(sizes: dict[Path, tuple[int, int]]) -> list[str]:
    (first, size), *others = sizes.items() or [(Path(), (0, 0))]
    changed = next(((path, other) for path, other in others if other != size), None)
    if changed is None:
        return []
    path, other = changed
    return [
        f"{path}: all frames must have the same size, got {other[1]}x{other[0]} pixels, and {size[1]}x{size[0]} in "
        f"{first.name}."
    ]


def _box_defects(
    record: SequenceRecord, paths: list[Path], sizes: dict[Path, tuple[int, int]], boxes_file: Path | None
) -> list[str]:
    """Compare boxes with their frames."""
    valid = is_valid(record.boxes_xywh)
    boxes_xywh = np.where(valid[:, None], record.boxes_xywh, 0.0)
    place = [f"{boxes_file}, row {row}" if boxes_file else f"{path}" for row, path in enumerate(paths, 1)]
    if valid.any() and boxes_xywh[valid].min() >= 0 and boxes_xywh[valid].max() <= 1:
        return [f"{place[0]}: boxes must be x,y,w,h in pixels, but all values are between 0 and 1."]
    known = np.array([path in sizes for path in paths])
    limits = np.array([sizes.get(path, (0, 0))[::-1] for path in paths], dtype=np.float64).reshape(-1, 2)
    ends = boxes_xywh[:, :2] + boxes_xywh[:, 2:]
    checked = valid & known
    outside = checked & ((ends <= 0).any(1) | (boxes_xywh[:, :2] >= limits).any(1))
    leaving = checked & ((ends > (1 + MARGIN) * limits).any(1) | (boxes_xywh[:, :2] < -MARGIN * limits).any(1))
    defects = [
        f"{place[row]}: the box {_text(record.boxes_xywh[row])} is outside of the frame of "
        f"{limits[row, 0]:g}x{limits[row, 1]:g} pixels."
        for row in np.flatnonzero(outside)
    ]
    leaving &= ~outside
    fits_as_corners = checked.any() and are_corners(boxes_xywh[checked], tuple(limits[checked].max(0)[::-1]))
    if fits_as_corners or leaving.sum() > max(LEAVING_SHARE * checked.sum(), _MIN_LEAVING):
        row = int(np.flatnonzero(leaving)[0])
        defects.append(
            f"{place[row]}: {leaving.sum()} of {checked.sum()} boxes leave the frame, first {_text(boxes_xywh[row])}; "
            "the rows may be x1,y1,x2,y2 or centers instead of x,y,w,h."
        )
    return defects


def _mask_defects(
    reader: Reader,
    records: list[SequenceRecord],
    frame_sizes: dict[Path, tuple[int, int]],
    mask_sizes: dict[Path, tuple[int, int]],
) -> list[str]:
    defects = []
    for record in records:
        for name in record.frame_names:
            frame, mask = reader.frame_path(record.name, name), reader.mask_path(record.name, name)
            one, other = frame_sizes.get(frame), mask_sizes.get(mask)
            if one and other and one != other:
                defects.append(
                    f"{mask}: mask and frame must have the same size, got {other[1]}x{other[0]} and {one[1]}x{one[0]}."
                )
    return defects


def _text(box_xywh: np.ndarray) -> str:
    return ",".join(f"{value:g}" for value in box_xywh)
