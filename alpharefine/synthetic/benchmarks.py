"""Synthetic evaluation data sets on disk, in the official layouts of the benchmarks.

They share no sequence with the data sets of `alpharefine.synthetic.layouts` of the same seed. Every writer takes

- ``root``: folder to write, absent or empty; it appears when it is complete;
- ``num_frames``: frames of each sequence;
- ``frame_size``: height and width in pixels, at least 48 each;
- ``seed``: seed of the data set;

and raises a `UserError` if one of them is out of range or the folder is not empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from alpharefine.boxes import xywh_to_xyxy
from alpharefine.synthetic.layouts import _complete_folder, _write_frames, _write_lines, _write_rows
from alpharefine.synthetic.scenes import FRAME_SIZE, SyntheticSequence, generate_sequence, require_at_least

_FIRST_GOT10K, _FIRST_TRACKINGNET, _FIRST_OTB100, _FIRST_UAV123 = 4_000_000, 5_000_000, 6_000_000, 7_000_000
_FIRST_NFS30, _FIRST_TNL2K, _FIRST_FOLDER = 8_000_000, 9_000_000, 10_000_000
"""Index of the first sequence of each data set, which keeps the data sets of one seed apart."""

_OTB_SEPARATORS = (",", "\t", " ")
"""Separators of numbers in OTB's annotations, used in turn."""

_OTB_FIRST_FRAMES = {"David": 300, "BlurCar1": 247, "BlurCar3": 3, "BlurCar4": 18}
"""Number of the first frame of OTB sequences that do not start at 1."""

_NFS_ROWS_PER_FRAME = 8


def write_got10k_benchmark(
    root: str | Path,
    num_val: int = 2,
    num_test: int = 2,
    num_frames: int = 12,
    frame_size: tuple[int, int] = FRAME_SIZE,
    seed: int = 0,
) -> None:
    """Write sequences in the layout of GOT-10k's validation and test splits.

    Args:
        root: Folder to write.
        num_val: Number of validation sequences.
        num_test: Number of test sequences, with the first box alone.
        num_frames: Frames of each sequence.
        frame_size: Height and width in pixels.
        seed: Seed of the data set.
    """
    with _complete_folder(Path(root)) as folder:
        sequences = _sequences(_FIRST_GOT10K, num_val + num_test, num_frames, frame_size, seed)
        for split, prefix, count in (("val", "GOT-10k_Val_", num_val), ("test", "GOT-10k_Test_", num_test)):
            names = [f"{prefix}{number + 1:06d}" for number in range(count)]
            (folder / split).mkdir()
            _write_lines(folder / split / "list.txt", names)
            for name in names:
                _write_got10k_sequence(folder / split / name, next(sequences), only_first=split == "test")


def _write_got10k_sequence(folder: Path, sequence: SyntheticSequence, only_first: bool) -> None:
    height, width = sequence.frames[0].shape[:2]
    _write_frames(folder, "{:08d}", sequence.frames, first=1)
    _write_lines(folder / "meta_info.ini", ["[METAINFO]", f"resolution: {(width, height)}"])
    if only_first:
        _write_rows(folder / "groundtruth.txt", sequence.boxes_xywh[:1], decimals=4)
        return
    _write_rows(folder / "groundtruth.txt", sequence.boxes_xywh, decimals=4)
    _write_lines(folder / "absence.label", sequence.out_of_view.astype(int))
    _write_lines(folder / "cover.label", np.rint(8 * sequence.visible_ratio).astype(int))


def write_trackingnet_benchmark(
    root: str | Path,
    num_sequences: int = 2,
    num_frames: int = 12,
    frame_size: tuple[int, int] = FRAME_SIZE,
    seed: int = 0,
) -> None:
    """Write sequences in the layout of TrackingNet's test split.

    Args:
        root: Folder to write.
        num_sequences: Number of sequences.
        num_frames: Frames of each sequence.
        frame_size: Height and width in pixels.
        seed: Seed of the data set.
    """
    with _complete_folder(Path(root)) as folder:
        (folder / "TEST" / "anno").mkdir(parents=True)
        for sequence in _sequences(_FIRST_TRACKINGNET, num_sequences, num_frames, frame_size, seed):
            _write_frames(folder / "TEST" / "frames" / sequence.name, "{}", sequence.frames)
            _write_rows(folder / "TEST" / "anno" / f"{sequence.name}.txt", sequence.boxes_xywh[:1], decimals=2)


def write_otb100(
    root: str | Path,
    names: Sequence[str] = ("Basketball", "David", "Jogging-1", "Jogging-2"),
    num_frames: int = 12,
    frame_size: tuple[int, int] = FRAME_SIZE,
    seed: int = 0,
) -> None:
    """Write sequences in the layout of OTB-100; the numbers are separated by commas, tabs and spaces in turn.

    Args:
        root: Folder to write.
        names: Official names of the sequences; those of one folder (``Jogging-1``, ``Jogging-2``) share their frames.
        num_frames: Frames of each sequence.
        frame_size: Height and width in pixels.
        seed: Seed of the data set.
    """
    with _complete_folder(Path(root)) as parent:
        folders = list(dict.fromkeys(name.partition("-")[0] for name in names))
        sequences = dict(
            zip(folders, _sequences(_FIRST_OTB100, len(folders), num_frames, frame_size, seed), strict=True)
        )
        for folder, sequence in sequences.items():
            _write_frames(parent / folder / "img", "{:04d}", sequence.frames, first=_OTB_FIRST_FRAMES.get(folder, 1))
        for index, name in enumerate(names):
            folder, dash, target = name.partition("-")
            path = parent / folder / (f"groundtruth_rect.{target}.txt" if dash else "groundtruth_rect.txt")
            separator = _OTB_SEPARATORS[index % len(_OTB_SEPARATORS)]
            np.savetxt(path, sequences[folder].boxes_xywh, fmt="%d", delimiter=separator)


def write_uav123(
    root: str | Path,
    sequences: Mapping[str, tuple[str, int, int]],
    frame_size: tuple[int, int] = FRAME_SIZE,
    seed: int = 0,
    annotation_folder: str = "UAV123",
) -> None:
    """Write sequences in the layout of UAV123, with NaN rows where the target is not visible.

    Args:
        root: Folder to write.
        sequences: Folder of the frames, first and last frame of each sequence, by name.
        frame_size: Height and width in pixels.
        seed: Seed of the data set.
        annotation_folder: Folder of the annotations in ``anno``: ``UAV123`` or ``UAV20L``.
    """
    lengths: dict[str, int] = {}
    for folder_name, _, last in sequences.values():
        lengths[folder_name] = max(last, lengths.get(folder_name, 0))
    with _complete_folder(Path(root)) as folder:
        annotations = folder / "anno" / annotation_folder
        annotations.mkdir(parents=True)
        for index, (folder_name, length) in enumerate(lengths.items()):
            video = generate_sequence(seed, _FIRST_UAV123 + index, length, frame_size)
            _write_frames(folder / "data_seq" / "UAV123" / folder_name, "{:06d}", video.frames, first=1)
            hidden = (video.full_occlusion | video.out_of_view)[:, None]
            boxes_xywh = np.where(hidden, np.nan, video.boxes_xywh)
            for name, (_, first, last) in sequences.items():
                if sequences[name][0] == folder_name:
                    _write_rows(annotations / f"{name}.txt", boxes_xywh[first - 1 : last], decimals=0)


def write_nfs30(
    root: str | Path,
    num_sequences: int = 2,
    num_frames: int = 12,
    frame_size: tuple[int, int] = FRAME_SIZE,
    seed: int = 0,
) -> None:
    """Write sequences in the layout of NfS at 30 frames a second, annotated at 240.

    Args:
        root: Folder to write.
        num_sequences: Number of sequences.
        num_frames: Frames of each sequence.
        frame_size: Height and width in pixels.
        seed: Seed of the data set.
    """
    with _complete_folder(Path(root)) as folder:
        for sequence in _sequences(_FIRST_NFS30, num_sequences, num_frames, frame_size, seed):
            place = folder / sequence.name / "30"
            _write_frames(place / sequence.name, "{:05d}", sequence.frames, first=1)
            corners = np.repeat(xywh_to_xyxy(sequence.boxes_xywh), _NFS_ROWS_PER_FRAME, axis=0).astype(int)
            rows = (f'0 {x1} {y1} {x2} {y2} {row} 0 0 0 "target"' for row, (x1, y1, x2, y2) in enumerate(corners))
            _write_lines(place / f"{sequence.name}.txt", rows)


def write_tnl2k(
    root: str | Path,
    num_sequences: int = 2,
    num_frames: int = 12,
    frame_size: tuple[int, int] = FRAME_SIZE,
    seed: int = 0,
) -> None:
    """Write sequences in the layout of TNL2K.

    Args:
        root: Folder to write.
        num_sequences: Number of sequences.
        num_frames: Frames of each sequence.
        frame_size: Height and width in pixels.
        seed: Seed of the data set.
    """
    with _complete_folder(Path(root)) as folder:
        for sequence in _sequences(_FIRST_TNL2K, num_sequences, num_frames, frame_size, seed):
            _write_frames(folder / sequence.name / "imgs", "{:05d}", sequence.frames, first=1)
            _write_rows(folder / sequence.name / "groundtruth.txt", sequence.boxes_xywh, decimals=0)
            _write_lines(folder / sequence.name / "language.txt", [f"the {sequence.shape}"])


def write_videos(
    root: str | Path,
    num_sequences: int = 2,
    num_frames: int = 12,
    only_first: bool = False,
    frame_size: tuple[int, int] = FRAME_SIZE,
    seed: int = 0,
) -> None:
    """Write folders of frames with ``groundtruth.txt``, as people keep their own videos.

    Args:
        root: Folder to write.
        num_sequences: Number of sequences.
        num_frames: Frames of each sequence.
        only_first: Write the box of the first frame alone.
        frame_size: Height and width in pixels.
        seed: Seed of the data set.
    """
    with _complete_folder(Path(root)) as folder:
        for sequence in _sequences(_FIRST_FOLDER, num_sequences, num_frames, frame_size, seed):
            boxes_xywh = sequence.boxes_xywh[:1] if only_first else sequence.boxes_xywh
            _write_frames(folder / sequence.name, "{}", sequence.frames, first=1)
            _write_rows(folder / sequence.name / "groundtruth.txt", boxes_xywh, decimals=2)


def _sequences(
    first: int, count: int, num_frames: int, frame_size: tuple[int, int], seed: int
) -> Iterator[SyntheticSequence]:
    require_at_least("num_sequences", count, 1)
    for index in range(count):
        sequence = generate_sequence(seed, first + index, num_frames, frame_size)
        yield replace(sequence, name=f"{sequence.shape}-{index + 1}")
