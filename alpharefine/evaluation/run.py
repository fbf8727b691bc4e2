"""Boxes to files: a base tracker, with or without refinement, over sequences in one pass."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Literal

import cv2
import numpy as np
import torch

from alpharefine.boxes import is_valid
from alpharefine.crops import GeometryName
from alpharefine.data.images import read_image
from alpharefine.data.text import read_rows
from alpharefine.errors import SequenceError, UserError
from alpharefine.evaluation.sequences import EvaluationSequence
from alpharefine.masks import MASK_THRESHOLD
from alpharefine.refiner import BoxFrom, Precision, Refinement, Refiner
from alpharefine.trackers import SELF_TRACKERS, Tracker, TrackerSource, load_tracker
from alpharefine.trackers.base import Track, TrackState
from alpharefine.trackers.custom import code_file
from alpharefine.trackers.registry import is_import_path
from alpharefine.trackers.replay import ReplayTracker
from alpharefine.trackers.trax import SCHEME, TimeLimits, TraxTracker, command_files
from alpharefine.trackers.weights import official_file

WhenLost = Literal["refine", "report", "keep"]

MIN_FEEDBACK_SCORE = 0.2
"""Chosen with NanoTrack on five short test sequences, where an unsure refiner made the closed loop drift."""

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
        min_feedback_score: hand the refined box back only where the refiner's own score is at least this; None for
            `MIN_FEEDBACK_SCORE`, or 0 in the geometry ``original`` and for the refiner fed its own box.
        when_lost: in frames where the tracker says that it has not found its target, refine its box as always, only
            report the refined box and hand nothing back, or keep the tracker's box.
        min_score: refine only where the tracker's score is at least this; None refines every frame.
        data_root: folder of the frames.
        annotations_dir: folder of the ground truth, where that is not read from the data root.
        geometry: of the refiner, in place of the one that its checkpoint records.
        precision: of the refiner.
        box_from: which head the refined box is taken from.
        mask_threshold: probability above which a pixel belongs to the target.
        save_masks: whether to keep the mask of every frame.
        limits: how long a program of ``cmd:`` may take. The boxes of one that is in time do not depend on it.
    """

    tracker: str
    tracker_weights: tuple[str, ...] = ()
    results_dir: str | None = None
    ckpt: str | None = None
    feedback: bool | None = None
    min_feedback_score: float | None = None
    when_lost: WhenLost = "refine"
    min_score: float | None = None
    data_root: str | None = None
    annotations_dir: str | None = None
    geometry: GeometryName | None = None
    precision: Precision = "auto"
    box_from: BoxFrom = "auto"
    mask_threshold: float = MASK_THRESHOLD
    save_masks: bool = False
    limits: TimeLimits = field(default_factory=TimeLimits)


@dataclass(frozen=True)
class SequenceResult:
    """Boxes and times of one sequence.

    Attributes:
        boxes_xywh: ``(N, 4)`` float64; the first row is the ground truth's, or the published one in a replay.
        times_ms: ``(N, 3)``, milliseconds spent on decoding, in the base tracker and on refinement.
        masks: binary pictures in PNG's format, one for each frame after the first; None if they are not kept.
    """

    boxes_xywh: np.ndarray
    times_ms: np.ndarray
    masks: list[bytes] | None = None


def choose_min_feedback_score(settings: RunSettings, geometry: GeometryName | None) -> float:
    """The least score that a box is handed back with, chosen by the refiner's geometry where the settings leave it."""
    if settings.min_feedback_score is not None:
        return settings.min_feedback_score
    return MIN_FEEDBACK_SCORE if geometry == "exact" and settings.tracker not in SELF_TRACKERS else 0.0


class Pipeline:
    """A base tracker and a refiner, loaded once, run over any number of sequences.

    Args:
        settings: what to run.
        device: of the refiner, and of trackers in PyTorch.

    Raises:
        UserError: if a file is missing or unfit, or settings do not go together.
    """

    def __init__(self, settings: RunSettings, device: str = "auto") -> None:
        self.settings = settings
        self.refiner = None
        if settings.ckpt is not None:
            self.refiner = self._make_refiner(settings.ckpt, device)
        self.source: TrackerSource = load_tracker(
            settings.tracker,
            weights=[Path(path) for path in settings.tracker_weights],
            results_dir=None if settings.results_dir is None else Path(settings.results_dir),
            refiner=self.refiner,
            device=device,
            limits=settings.limits,
        )
        self.feedback = self.source.accepts_feedback if settings.feedback is None else settings.feedback
        if self.feedback and not self.source.accepts_feedback:
            raise UserError(f"`--feedback`: {settings.tracker} cannot take the refined box; use `--no-feedback`.")
        if settings.tracker in SELF_TRACKERS and not self.feedback:
            raise UserError(f"`--no-feedback`: {settings.tracker} moves by the refined box alone; leave it out.")
        self._draws_from_masks = settings.save_masks and self.refiner is not None and self.refiner.box_head == "mask"
        geometry = None if self.refiner is None else self.refiner.network.geometry
        self.min_feedback_score = choose_min_feedback_score(settings, geometry)
        if settings.min_score is not None and not self.source.gives_score:
            raise UserError(f"`--min_score`: {settings.tracker} does not tell how sure it is; leave it out.")

    def _make_refiner(self, ckpt: str, device: str) -> Refiner:
        settings = self.settings
        try:
            refiner = Refiner.from_checkpoint(
                ckpt,
                device,
                settings.precision,
                geometry=settings.geometry,
                box_from=settings.box_from,
                mask_threshold=settings.mask_threshold,
            )
        except ValueError as error:
            raise UserError(f"{error} Give another checkpoint, or leave `--box_from` out.") from error
        if settings.save_masks and "mask" not in refiner.network.heads:
            raise UserError("`--save_masks`: the network has no mask head; leave it out.")
        return refiner

    def frame_paths(self, sequence: EvaluationSequence) -> list[Path] | None:
        """The frames to read of a sequence; None if nobody looks at them.

        Raises:
            UserError: if frames are looked at and there are none.
        """
        if self.refiner is None and not self.source.needs_frames:
            return None
        if sequence.frame_paths is None:
            raise UserError(
                f"`--tracker {self.settings.tracker}`{' with `--ckpt`' if self.refiner else ''} looks at the frames of "
                f"{sequence.name}: give `--data_root`."
            )
        return sequence.frame_paths

    def __call__(self, sequence: EvaluationSequence) -> SequenceResult:
        """Run one sequence from its first box to its last frame.

        Raises:
            UserError: if a frame does not decode, the first box lies outside of its frame, or the tracker objects.
        """
        tracker = self.source.open(sequence.name, sequence.truth.boxes_xywh)
        if not isinstance(tracker, TraxTracker):
            return self._run(tracker, sequence)
        tracker.frame_paths = sequence.frame_paths
        with contextlib.closing(tracker):
            return self._run(tracker, sequence)

    def _run(self, tracker: Tracker, sequence: EvaluationSequence) -> SequenceResult:
        frame_paths, truth = self.frame_paths(sequence), sequence.truth.boxes_xywh
        boxes_xywh, times_ms = np.empty((len(truth), 4)), np.zeros((len(truth), len(TIME_COLUMNS)))
        boxes_xywh[0] = tracker.first_xywh if isinstance(tracker, ReplayTracker) else truth[0]
        masks: list[bytes] = []
        mask: np.ndarray | None = None
        watch = _Stopwatch()
        for t in range(len(truth)):
            looked_at = t == 0 or self.refiner is not None or not self.source.opens_files
            frame = read_image(frame_paths[t]) if frame_paths is not None and looked_at else _NO_FRAME
            decode_ms = watch.lap()
            if t == 0:
                if frame_paths is not None:
                    _require_inside(sequence.name, truth[0], frame)
                tracker.initialize(frame, truth[0])
                base_ms = watch.lap()
                if self.refiner is not None:
                    self.refiner.initialize(frame, truth[0])
            else:
                track = tracker.track(frame)
                boxes_xywh[t], base_ms = track.box_xywh, watch.lap()
                mask = None
                if self.refiner is not None and self._is_sure(track) and is_valid(track.box_xywh):
                    refinement = self.refiner.refine(frame, track.box_xywh, mask=self._draws_from_masks)
                    if refinement.refined:
                        boxes_xywh[t] = refinement.box_xywh
                        mask = self._mask(self.refiner, frame, refinement)
                        if self._hands_back(track, refinement):
                            tracker.set_box(refinement.box_xywh)
            times_ms[t] = decode_ms, base_ms, watch.lap()
            if self.settings.save_masks and t > 0:
                masks.append(self._encoded(mask, frame.shape[:2]))
                watch.lap()
        return SequenceResult(boxes_xywh, times_ms, masks if self.settings.save_masks else None)

    def _mask(self, refiner: Refiner, frame: np.ndarray, refinement: Refinement) -> np.ndarray | None:
        """The mask to keep: that which the box was drawn around, else one of the window about the refined box."""
        if not self.settings.save_masks or self._draws_from_masks:
            return refinement.mask
        raw_xywh = refinement.raw_box_xywh  # not clipped, as in the original
        return refiner.segment(frame, raw_xywh if is_valid(raw_xywh) else refinement.box_xywh)

    def _encoded(self, mask: np.ndarray | None, image_size: tuple[int, int]) -> bytes:
        inside = np.zeros(image_size, bool) if mask is None else mask > self.settings.mask_threshold
        return cv2.imencode(".png", inside.astype(np.uint8) * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes()

    def _is_sure(self, track: Track) -> bool:
        if self.settings.when_lost == "keep" and track.state is TrackState.NOT_FOUND:
            return False
        if self.settings.min_score is None:
            return True
        if np.isnan(track.score):
            raise UserError(f"`--min_score`: {self.settings.tracker} gave no number as its score; leave it out.")
        return track.score >= self.settings.min_score

    def _hands_back(self, track: Track, refinement: Refinement) -> bool:
        is_lost = self.settings.when_lost != "refine" and track.state is TrackState.NOT_FOUND
        return self.feedback and not is_lost and refinement.score >= self.min_feedback_score


_NO_FRAME = np.empty((0, 0, 3), dtype=np.uint8)


def _require_inside(name: str, box_xywh: np.ndarray, frame: np.ndarray) -> None:
    (x, y, w, h), (height, width) = box_xywh.tolist(), frame.shape[:2]
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise UserError(
            f"Sequence {name}: its first box {[x, y, w, h]} lies outside of its first frame of {width}x{height} px; a "
            "tracker starts from that box: correct the ground truth, or leave the sequence out."
        )


def check_run(settings: RunSettings, sequences: Iterable[EvaluationSequence]) -> None:
    """Find what is wrong with the settings before the first frame is read.

    Raises:
        UserError: if a file is missing or unfit, or settings do not go together or not with the sequences.
    """
    pipeline = Pipeline(settings, device="cpu")
    for sequence in sequences:
        pipeline.frame_paths(sequence)
        pipeline.source.open(sequence.name, sequence.truth.boxes_xywh)


class _Stopwatch:
    def __init__(self) -> None:
        self._last = perf_counter()

    def lap(self) -> float:
        """Milliseconds since the last lap."""
        now = perf_counter()
        elapsed, self._last = now - self._last, now
        return 1e3 * elapsed


class RunFolder:
    """The files of a run: ``<sequence>.txt``, ``times/<sequence>.txt``, ``masks/<sequence>/``, ``settings.json``.

    A sequence's boxes are written whole or not at all, and stand for the sequence being done. Nothing is made or
    discarded before there is a first result.

    Args:
        path: the folder; made if it is not there.
        settings: what the run's boxes depend on.
        overwrite: whether to discard what a run with other settings, or with the same, has left there.

    Raises:
        UserError: if the folder holds a run with other settings or something else, or cannot be made.
    """

    def __init__(self, path: Path, settings: RunSettings, overwrite: bool = False) -> None:
        self.path = path
        self._settings = _stamp(settings)
        theirs = _settings_in(path)
        self._goes_on = theirs is not None and not overwrite
        if theirs is not None and not overwrite:
            _refuse_other_settings(path, theirs, self._settings)

    def boxes_path(self, name: str) -> Path:
        """Where the boxes of a sequence lie."""
        return self.path / f"{name}.txt"

    def is_done(self, name: str) -> bool:
        """Whether a sequence has its boxes."""
        return self._goes_on and self.boxes_path(name).is_file()

    def read_times(self, name: str) -> np.ndarray:
        """Milliseconds ``(N, 3)`` of a sequence that is done, columns as `TIME_COLUMNS`."""
        return read_rows(self.path / "times" / f"{name}.txt", len(TIME_COLUMNS))

    def write(self, name: str, result: SequenceResult) -> None:
        """Write the masks, the times, then the boxes of a sequence."""
        if not self._goes_on:
            self._begin()
        if result.masks is not None:
            self._write_masks(self.path / "masks" / name, result.masks)
        times = "".join(",".join(f"{ms:.3f}" for ms in row) + "\n" for row in result.times_ms.tolist())
        write_whole(self.path / "times" / f"{name}.txt", times)
        boxes = "".join(",".join(map(repr, row)) + "\n" for row in result.boxes_xywh.tolist())
        write_whole(self.boxes_path(name), boxes)

    @staticmethod
    def _write_masks(folder: Path, masks: list[bytes]) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for frame, png in enumerate(masks, start=2):
                (folder / f"{frame:08d}.png").write_bytes(png)
        except OSError as error:
            raise UserError(
                f"{folder} cannot be written ({error.strerror}); make room, or give another place."
            ) from error

    def _begin(self) -> None:
        try:
            if self.path.is_dir():
                shutil.rmtree(self.path)
            (self.path / "times").mkdir(parents=True)
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be made anew ({error.strerror}); give another `--output_dir`."
            ) from error
        write_whole(self.path / "settings.json", json.dumps(self._settings, indent=1))
        self._goes_on = True


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        UserError: if it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(text)
        part.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); make room, or give another place.") from error
    finally:
        part.unlink(missing_ok=True)


def _settings_in(path: Path) -> dict[str, object] | None:
    """The settings of the run that a folder holds; None if it is not there or empty."""
    nearest = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise UserError(f"`--output_dir`: {nearest} is no folder that can be written to; give another one.")
    if nearest != path or not any(path.iterdir()):
        return None
    stamp = path / "settings.json"
    try:
        settings = json.loads(stamp.read_text()) if stamp.is_file() else None
    except ValueError:
        settings = None
    if not isinstance(settings, dict) or "tracker" not in settings:
        raise UserError(f"{path} is not empty and holds no run of evaluate.py; give another `--output_dir`.")
    return settings


def _stamp(settings: RunSettings) -> dict[str, object]:
    """What the boxes depend on, with the content of files in place of their names."""
    weights = [_digest(Path(path)) for path in settings.tracker_weights]
    in_torch = settings.ckpt is not None or official_file(settings.tracker) is not None
    code = _code_of(settings.tracker)
    results = None if settings.results_dir is None else sorted(Path(settings.results_dir).glob("*.txt"))
    stamp = {name: value for name, value in asdict(settings).items() if name != "limits"}  # decide no box
    return stamp | {
        "ckpt": None if settings.ckpt is None else _digest(Path(settings.ckpt)),
        "tracker_weights": weights,
        "results_dir": None if results is None else _digest(*results),
        "code": _digest(*code) if code else None,
        "device": None if not in_torch else "cuda" if torch.cuda.is_available() else "cpu",
    }


def _code_of(tracker: str) -> list[Path]:
    """The files of a tracker that is no part of this project, as far as its name tells."""
    if tracker.startswith(SCHEME):
        return command_files(tracker)
    code = code_file(tracker) if is_import_path(tracker) else None
    return [] if code is None else [code]


def _digest(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        if not path.is_file():
            raise UserError(f"No file {path}; check `--ckpt` and `--tracker_weights`.")
        digest.update(f"{path.name}|{path.stat().st_size}|".encode() if len(paths) > 1 else b"")
        digest.update(path.read_bytes())
    return digest.hexdigest()


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
) -> Iterator[tuple[str, SequenceResult | SequenceError]]:
    """Run sequences and yield each as it is done, or what went wrong in it alone.

    Args:
        settings: what to run.
        sequences: which.
        num_processes: 1 runs in this process, more each take whole sequences; process i uses graphics card i modulo
            their number, where there are any. The boxes do not depend on it.

    Raises:
        UserError: of the first sequence whose fault may be that of others too, after those being run have been yielded.
    """
    if num_processes == 1:
        pipeline = Pipeline(settings)
        for sequence in sequences:
            yield sequence.name, _result(pipeline, sequence)
        return
    context = multiprocessing.get_context("spawn")
    ranks = context.Queue()
    for rank in range(num_processes):
        ranks.put(rank)
    threads = max(1, (os.cpu_count() or 1) // num_processes)
    with ProcessPoolExecutor(num_processes, context, _start_worker, (ranks, threads)) as pool:
        try:
            yield from _completed([pool.submit(_run_in_worker, settings, sequence) for sequence in sequences])
        finally:
            pool.shutdown(cancel_futures=True)


def _result(pipeline: Pipeline, sequence: EvaluationSequence) -> SequenceResult | SequenceError:
    try:
        return pipeline(sequence)
    except SequenceError as error:
        return error


def _completed(
    futures: list[Future[tuple[str, SequenceResult | SequenceError]]],
) -> Iterator[tuple[str, SequenceResult | SequenceError]]:
    failure: BaseException | None = None
    for future in as_completed(futures):
        if future.cancelled():
            continue
        error = future.exception()
        if error is None:
            yield future.result()
        elif failure is None:
            failure = error
            for other in futures:
                other.cancel()
    if failure is not None:
        raise failure


_worker_device: list[str] = []


def _start_worker(ranks: multiprocessing.Queue[int], threads: int) -> None:
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    num_cards = torch.cuda.device_count()
    _worker_device.append(f"cuda:{ranks.get() % num_cards}" if num_cards else "cpu")


@functools.cache
def _worker_pipeline(settings: RunSettings) -> Pipeline:
    return Pipeline(settings, _worker_device[0])


def _run_in_worker(settings: RunSettings, sequence: EvaluationSequence) -> tuple[str, SequenceResult | SequenceError]:
    return sequence.name, _result(_worker_pipeline(settings), sequence)
