"""The sequences of a one-pass evaluation: frames and ground truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alpharefine.boxes import is_valid
from alpharefine.data.lasot import LaSOT, official_testing_set
from alpharefine.data.reader import require_equal_counts
from alpharefine.data.text import read_names
from alpharefine.errors import UserError
from alpharefine.evaluation.score import AnnotationFolder, GroundTruth


@dataclass(frozen=True)
class EvaluationSequence:
    """One video with its ground truth.

    Attributes:
        truth: name, boxes and absent flags.
        frame_paths: the N frames in order; None where only the annotations are at hand.
    """

    truth: GroundTruth
    frame_paths: list[Path] | None

    @property
    def name(self) -> str:
        """The sequence's name."""
        return self.truth.name


class SequenceSet:
    """LaSOT sequences from a data root, an annotation folder of the official toolkit, or both.

    Args:
        data_root: folder of the LaSOT sequences; without it there are no frames.
        annotations_dir: annotation folder of the official toolkit; the ground truth is read from it where it is given.
        split: ``test``, ``train``, or the path of a text file with one name a line.
        sequences: names to take in place of a split.

    Raises:
        UserError: if neither folder is given, one is missing, or there is no sequence.
    """

    def __init__(
        self, data_root: Path | None, annotations_dir: Path | None, split: str = "test", sequences: Sequence[str] = ()
    ) -> None:
        if data_root is None and annotations_dir is None:
            raise UserError(
                "Give `--data_root`, a folder of LaSOT sequences, or `--annotations_dir`, to score results."
            )
        for argument, folder in (("--data_root", data_root), ("--annotations_dir", annotations_dir)):
            if folder is not None and not folder.is_dir():
                raise UserError(f"`{argument}`: {folder} is not a folder; give one that is there.")
        if split not in ("train", "test") and not Path(split).is_file():
            raise UserError(f"`--split` must be 'test', 'train' or a file with one name a line, got '{split}'.")
        self._data = None if data_root is None else LaSOT(data_root, "train" if split == "train" else "test")
        self._annotations = None if annotations_dir is None else AnnotationFolder(annotations_dir)
        self.names = _unique(list(sequences) or self._split_names(split))

    def _split_names(self, split: str) -> list[str]:
        if split not in ("train", "test"):
            return read_names(Path(split))
        if self._data is not None:
            return self._data.names
        if split == "train":
            raise UserError("`--split train` needs `--data_root`: the official annotations are of the test sequences.")
        return official_testing_set()

    def load(self, name: str) -> EvaluationSequence:
        """Read a sequence.

        Raises:
            UserError: if something is missing or malformed, or its first frame has no target.
        """
        frame_paths = truth = None
        if self._data is not None:
            frame_paths = [self._data.frame_path(name, frame) for frame in self._data.frame_names(name)]
        if self._annotations is not None:
            truth = self._annotations.load(name)
            if self._data is not None and frame_paths is not None:
                require_equal_counts(
                    self._data.folder(name), frames=len(frame_paths), annotation_rows=len(truth.boxes_xywh)
                )
        elif self._data is not None:
            _, boxes_xywh, absent = self._data.read(name)
            truth = GroundTruth(name, boxes_xywh, absent)
        assert truth is not None
        if not len(truth.boxes_xywh):
            raise UserError(f"Sequence {name} has no frames; restore it, or leave it out.")
        if not is_valid(truth.boxes_xywh[0]):
            first = ",".join(f"{value:g}" for value in truth.boxes_xywh[0])
            raise UserError(
                f"Sequence {name}: its first frame has no target (its ground truth there is {first}); a tracker starts "
                "from that box, so its width and height must be positive: correct it, or leave the sequence out."
            )
        return EvaluationSequence(truth, frame_paths)

    def attributes(self) -> dict[str, tuple[str, ...]] | None:
        """Attributes of each sequence, where the annotation folder has them."""
        if self._annotations is None or not (self._annotations.folder / "att").is_dir():
            return None
        return {name: self._annotations.attributes(name) for name in self.names}


def _unique(names: list[str]) -> list[str]:
    for name, count in Counter(names).items():
        if count > 1 or Path(name).name != name:
            fault = "stands there more than once" if count > 1 else "is a path"
            raise UserError(f"`--sequences` and `--split` take names of sequences, each once; {name} {fault}.")
    return names
