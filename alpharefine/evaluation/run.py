"""Boxes to files: a base tracker, with or without refinement, over sequences in one pass."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import torch

from alpharefine.boxes import is_valid
from alpharefine.data.images import read_image
from alpharefine.data.text import read_rows
from alpharefine.errors import UserError
from alpharefine.evaluation.sequences import EvaluationSequence
from alpharefine.refiner import Refiner
from alpharefine.trackers import TrackerSource, load_tracker

TIME_COLUMNS = ("decode", "base", "refine")


@dataclass(frozen=True)
class RunSettings:
    """What decides the boxes of a run.

    Attributes:
        tracker: name of the base tracker.
        tracker_weights: its files.
        results_dir: folder of published results, for ``replay``.
        ckpt: checkpoint of the refiner; None runs the base tracker alone.
        feedback: whether the refined box is handed back to the tracker; None where the tracker can take it.
        min_score: refine only where the tracker's score is at least this; None refines every frame.
        data_root: folder of the frames.
    """

    tracker: str
    tracker_weights: tuple[str, ...] = ()
    results_dir: str | None = None
    ckpt: str | None = None
    feedback: bool | None = None
    min_score: float | None = None
    data_root: str | None = None


@dataclass(frozen=True)
class SequenceResult:
    """Boxes and times of one sequence.

    Attributes:
        boxes_xywh: ``(N, 4)`` float64; the first row is the ground truth's.
        times_ms: ``(N, 3)``, milliseconds spent on decoding, in the base tracker and on refinement.
    """

    boxes_xywh: np.ndarray
    times_ms: np.ndarray


class Pipeline:
    """A base tracker and a refiner, loaded once, run over any number of sequences.

    Args:
        settings: what to run.
        device: of the refiner.

    Raises:
        UserError: if a file is missing or unfit, or settings do not go together.
    """

    def __init__(self, settings: RunSettings, device: str = "auto") -> None:
        self.settings = settings
        self.refiner = None if settings.ckpt is None else Refiner.from_checkpoint(settings.ckpt, device)
        self.source: TrackerSource = load_tracker(
            settings.tracker,
            weights=[Path(path) for path in settings.tracker_weights],
            results_dir=None if settings.results_dir is None else Path(settings.results_dir),
            refiner=self.refiner,
        )
        self.feedback = self.source.accepts_feedback if settings.feedback is None else settings.feedback
        if self.feedback and not self.source.accepts_feedback:
            raise UserError(f"`--feedback`: {settings.tracker} cannot take the refined box; use `--no-feedback`.")

    def __call__(self, sequence: EvaluationSequence) -> SequenceResult:
        """Run one sequence from its first box to its last frame."""
        needs_frames = self.refiner is not None or self.source.needs_frames
        if needs_frames and sequence.frame_paths is None:
            raise UserError(
                f"`--tracker {self.settings.tracker}`{' with `--ckpt`' if self.refiner else ''} looks at the frames of "
                f"{sequence.name}: give `--data_root`."
            )
        truth = sequence.truth.boxes_xywh
        boxes_xywh, times_ms = np.empty((len(truth), 4)), np.zeros((len(truth), len(TIME_COLUMNS)))
        tracker = self.source.open(sequence.name, truth)
        watch = _Stopwatch()
        for t in range(len(truth)):
            frame = read_image(sequence.frame_paths[t]) if needs_frames and sequence.frame_paths else _NO_FRAME
            decode_ms = watch.lap()
            if t == 0:
                tracker.initialize(frame, truth[0])
                boxes_xywh[0], base_ms = truth[0], watch.lap()
                if self.refiner is not None:
                    self.refiner.initialize(frame, truth[0])
            else:
                track = tracker.track(frame)
                boxes_xywh[t], base_ms = track.box_xywh, watch.lap()
                if self.refiner is not None and self._is_sure(track.score) and is_valid(track.box_xywh):
                    refinement = self.refiner.refine(frame, track.box_xywh)
                    if refinement.refined:
                        boxes_xywh[t] = refinement.box_xywh
                        if self.feedback:
                            tracker.set_box(refinement.box_xywh)
            times_ms[t] = decode_ms, base_ms, watch.lap()
        return SequenceResult(boxes_xywh, times_ms)

    def _is_sure(self, score: float) -> bool:
        if self.settings.min_score is None:
            return True
        if np.isnan(score):
            raise UserError(
                f"`--min_score` needs a tracker that tells how sure it is; {self.settings.tracker} does not."
            )
        return score >= self.settings.min_score


_NO_FRAME = np.empty((0, 0, 3), dtype=np.uint8)


class _Stopwatch:
    def __init__(self) -> None:
        self._last = perf_counter()

    def lap(self) -> float:
        """Milliseconds since the last lap."""
        now = perf_counter()
        elapsed, self._last = now - self._last, now
        return 1e3 * elapsed


class RunFolder:
    """The files of a run: ``<sequence>.txt``, ``times/<sequence>.txt`` and ``settings.json``.

    A sequence's boxes are written whole or not at all, and stand for the sequence being done.

    Args:
        path: the folder; made if it is not there.
        settings: what the run's boxes depend on.
        overwrite: whether to discard what a run with other settings, or with the same, has left there.

    Raises:
        UserError: if the folder holds a run with other settings.
    """

    def __init__(self, path: Path, settings: RunSettings, overwrite: bool = False) -> None:
        self.path = path
        stamp = path / "settings.json"
        ours = _fingerprinted(settings)
        if overwrite and stamp.is_file():
            shutil.rmtree(path)
        if stamp.is_file():
            _refuse_other_settings(path, json.loads(stamp.read_text()), ours)
        elif path.is_dir() and any(path.iterdir()):
            raise UserError(f"{path} is not empty and holds no run of evaluate.py; give another `--output_dir`.")
        (path / "times").mkdir(parents=True, exist_ok=True)
        write_whole(stamp, json.dumps(ours, indent=1))

    def boxes_path(self, name: str) -> Path:
        """Where the boxes of a sequence lie."""
        return self.path / f"{name}.txt"

    def is_done(self, name: str) -> bool:
        """Whether a sequence has its boxes."""
        return self.boxes_path(name).is_file()

    def read_times(self, name: str) -> np.ndarray:
        """Milliseconds ``(N, 3)`` of a sequence that is done, columns as `TIME_COLUMNS`."""
        return read_rows(self.path / "times" / f"{name}.txt", len(TIME_COLUMNS))

    def write(self, name: str, result: SequenceResult) -> None:
        """Write the times, then the boxes of a sequence."""
        times = "".join(",".join(f"{ms:.3f}" for ms in row) + "\n" for row in result.times_ms.tolist())
        write_whole(self.path / "times" / f"{name}.txt", times)
        boxes = "".join(",".join(map(repr, row)) + "\n" for row in result.boxes_xywh.tolist())
        write_whole(self.boxes_path(name), boxes)


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(text)
    Path(file.name).replace(path)


def _fingerprinted(settings: RunSettings) -> dict[str, object]:
    """The settings, with the content of the files they name."""
    content = asdict(settings) | {"tracker_weights": list(settings.tracker_weights)}
    files = [Path(path) for path in (settings.ckpt, *settings.tracker_weights) if path is not None]
    return content | {"files": {path.name: _digest(path) for path in files}}


def _digest(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"No file {path}; check `--ckpt` and `--tracker_weights`.")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_other_settings(path: Path, theirs: dict[str, object], ours: dict[str, object]) -> None:
    changed = [
        f"{key}: {theirs.get(key)} there, {value} now" for key, value in ours.items() if theirs.get(key) != value
    ]
    if changed:
        raise UserError(
            f"{path} holds a run with other settings ({'; '.join(changed)}); give another `--output_dir`, or "
            "`--overwrite`."
        )


def run_sequences(
    settings: RunSettings, sequences: Iterable[EvaluationSequence], num_processes: int = 1
) -> Iterator[tuple[str, SequenceResult]]:
    """Run sequences and yield each as it is done.

    Args:
        settings: what to run.
        sequences: which.
        num_processes: 1 runs in this process, more each take whole sequences; process i uses graphics card i modulo
            their number, where there are any. The boxes do not depend on it.

    Raises:
        UserError: of the first sequence that fails.
    """
    if num_processes == 1:
        pipeline = Pipeline(settings)
        for sequence in sequences:
            yield sequence.name, pipeline(sequence)
        return
    context = multiprocessing.get_context("spawn")
    ranks = context.Queue()
    for rank in range(num_processes):
        ranks.put(rank)
    threads = max(1, (os.cpu_count() or 1) // num_processes)
    with ProcessPoolExecutor(num_processes, context, _start_worker, (settings, ranks, threads)) as pool:
        futures = [pool.submit(_run_in_worker, sequence) for sequence in sequences]
        try:
            for future in as_completed(futures):
                yield future.result()
        except UserError:
            pool.shutdown(cancel_futures=True)
            raise


_worker: list[Pipeline] = []


def _start_worker(settings: RunSettings, ranks: multiprocessing.Queue[int], threads: int) -> None:
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    num_cards = torch.cuda.device_count()
    device = f"cuda:{ranks.get() % num_cards}" if num_cards else "cpu"
    _worker.append(Pipeline(settings, device))


def _run_in_worker(sequence: EvaluationSequence) -> tuple[str, SequenceResult]:
    return sequence.name, _worker[0](sequence)
