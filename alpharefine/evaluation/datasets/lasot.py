"""LaSOT (arXiv 1809.07845) and its extension subset (arXiv 2009.03465)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from alpharefine.data.lasot import LaSOT, official_extension_subset, official_testing_set
from alpharefine.data.text import read_flags, read_rows
from alpharefine.errors import UserError
from alpharefine.evaluation.config import DatasetConfig
from alpharefine.evaluation.datasets.base import (
    EvaluationDataset,
    EvaluationSequence,
    FramePaths,
    GroundTruth,
    annotated_sequence,
    existing_folder,
)
from alpharefine.evaluation.published import LASOT, PublishedScores

ATTRIBUTES = ("IV", "POC", "DEF", "MB", "CM", "ROT", "BC", "VC", "SV", "FOC", "FM", "OV", "LR", "ARC")
"""LaSOT's 14 attributes in the order of the official toolkit's flags: illumination variation, partial occlusion,
deformation, motion blur, camera motion, rotation, background clutter, viewpoint change, scale variation, full
occlusion, fast motion, out-of-view, low resolution, aspect-ratio change."""


class AnnotationFolder:
    """Annotations in the layout of the official LaSOT toolkit.

    A sequence has ``<folder>/<sequence>.txt``, ``<folder>/absent/<sequence>.txt`` and, where the folder ``att`` exists,
    ``<folder>/att/<sequence>.txt``.

    Args:
        path: Folder of the annotations, or the folder that holds it under the name ``annos``.

    Raises:
        UserError: If there is no folder ``absent`` in it.
    """

    def __init__(self, path: Path) -> None:
        self.folder = path / "annos" if (path / "annos").is_dir() else path
        if not (self.folder / "absent").is_dir():
            raise UserError(
                f"`--annotations_dir`: {path} is not a folder of LaSOT annotations: it holds neither `absent/` nor "
                "`annos/absent/`; give the `annos` folder of the official toolkit."
            )

    def path(self, name: str) -> Path:
        """Return the path of the boxes of a sequence.

        Args:
            name: Name of the sequence.
        """
        return self.folder / f"{name}.txt"

    def truth(self, name: str) -> GroundTruth:
        """Read the boxes and absent flags of one sequence.

        Args:
            name: Name of the sequence.

        Raises:
            UserError: If a file is missing or malformed, or boxes and flags differ in number.
        """
        path, absent_path = self.path(name), self.folder / "absent" / f"{name}.txt"
        for file in (path, absent_path):
            if not file.is_file():
                raise UserError(
                    f"Sequence {name} has no annotation {file}; restore it from the official toolkit, or choose the "
                    "sequences to score by a file for `--split`, or by `--sequences`."
                )
        boxes_xywh, absent = read_rows(path), read_flags(absent_path)
        if len(boxes_xywh) != len(absent):
            raise UserError(
                f"{path} has {len(boxes_xywh)} boxes and {absent_path} has {len(absent)} flags; both must have one for "
                "each frame: restore the annotations from the official toolkit."
            )
        return GroundTruth(boxes_xywh, absent)

    def attributes(self, name: str) -> tuple[str, ...]:
        """Read the short names of the attributes of one sequence; empty if the folder has no ``att``.

        Args:
            name: Name of the sequence.

        Raises:
            UserError: If the file is missing or does not hold 14 flags.
        """
        if not (self.folder / "att").is_dir():
            return ()
        path = self.folder / "att" / f"{name}.txt"
        flags = read_flags(path)
        if len(flags) != len(ATTRIBUTES):
            raise UserError(
                f"{path} must hold {len(ATTRIBUTES)} flags, got {len(flags)}; restore it from the official toolkit."
            )
        return tuple(attribute for attribute, flag in zip(ATTRIBUTES, flags, strict=True) if flag)


class LaSOTDataset(EvaluationDataset):
    """LaSOT: 280 test sequences of 70 classes.

    The data root holds ``<class>/<class>-<n>/`` or ``<class>-<n>/``, as `alpharefine.data.lasot.LaSOT` describes. The
    file ``testing_set.txt`` in it replaces the official list. `annotations_dir` is the ``annos`` folder of the official
    toolkit: where it is given, the ground truth is read from it, the frames are optional, and attributes are available.

    Args:
        config: Folders, split and sequences.
    """

    splits: ClassVar[tuple[str, ...]] = ("test", "train")
    attribute_names: ClassVar[tuple[str, ...]] = ATTRIBUTES
    published: ClassVar[PublishedScores | None] = LASOT
    extra_options = ("annotations_dir",)

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        root, annotations_dir = config.root, config.annotations_dir
        if root is None and annotations_dir is None:
            raise UserError(
                "Give `--data_root`, the folder of LaSOT's sequences, or `--annotations_dir`, to score results."
            )
        self._reader = self._annotations = None
        if root is not None:
            folder = existing_folder("--data_root", root)
            self._reader = LaSOT(folder, "train" if config.split == "train" else "test")
        if annotations_dir is not None:
            self._annotations = AnnotationFolder(existing_folder("--annotations_dir", annotations_dir))
        self.names = self.chosen_names()

    @classmethod
    def fits(cls, root: Path) -> bool:
        """Return True if a folder is in the layout of LaSOT.

        Args:
            root: Path of an existing folder.
        """
        return LaSOT.fits(root)

    def official_names(self) -> list[str]:
        """Return the names in the split file of the data root, else the official ones."""
        if self._reader is not None:
            return self._reader.names
        if self.config.split == "train":
            raise UserError("`--split train` needs `--data_root`: the official annotations are of the test sequences.")
        return official_testing_set()

    def read(self, name: str) -> EvaluationSequence:
        """Read one sequence from the data root, the annotation folder, or both.

        Args:
            name: One of `names`.

        Raises:
            UserError: If a file is missing or malformed, or there are more rows than frames.
        """
        if self._annotations is None:
            assert self._reader is not None
            frame_names, boxes_xywh, absent = self._reader.read(name)
            frames = self._frames(self._reader, name, frame_names)
            path = self._reader.folder(name) / "groundtruth.txt"
            return annotated_sequence(name, frames, path, GroundTruth(boxes_xywh, absent))
        truth, attributes = self._annotations.truth(name), self._annotations.attributes(name)
        if self._reader is None:
            return EvaluationSequence(name, truth, None, attributes)
        frames = self._frames(self._reader, name, self._reader.frame_names(name))
        return annotated_sequence(name, frames, self._annotations.path(name), truth, attributes)

    @staticmethod
    def _frames(reader: LaSOT, name: str, frame_names: list[str]) -> FramePaths:
        return FramePaths(reader.folder(name) / "img", frame_names)


class LaSOTExtension(LaSOTDataset):
    """LaSOT extension subset: 150 test sequences of 15 classes that are not in LaSOT.

    The layout is LaSOT's. ``testing_set.txt`` in the data root replaces the official list.

    Args:
        config: Folders, split and sequences.
    """

    splits: ClassVar[tuple[str, ...]] = ("test",)
    published: ClassVar[PublishedScores | None] = None

    def official_names(self) -> list[str]:
        """Return the names in the split file of the data root, else the official ones."""
        if self._reader is not None and self._reader.split_file.is_file():
            return self._reader.names
        return official_extension_subset()
