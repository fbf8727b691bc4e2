"""Subcommand ``track``: follows a target through a video, and draws its boxes and masks."""

from __future__ import annotations

import argparse
import sys
from array import array
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from alpharefine.cli.command import UserErrorParser
from alpharefine.cli.live import add_live_arguments, check_live_files, load_live, resolve_live
from alpharefine.errors import UserError, naming

if TYPE_CHECKING:
    import numpy as np

    from alpharefine.evaluation.refined_tracker import RefinedTracker, Step
    from alpharefine.evaluation.settings import RefinementSettings, ResolvedRuns
    from alpharefine.video.frames import FrameSource


class _Files(NamedTuple):
    """Files that are written: the video, and the boxes as rows x,y,w,h."""

    video: Path
    refined: Path
    base: Path


class _GivenBox(NamedTuple):
    """Box of the first frame, and where it was given."""

    owner: str
    xywh: np.ndarray


def make_parser() -> UserErrorParser:
    """Build the parser of the command."""
    parser = UserErrorParser(
        prog="alpharefine track",
        description="Follow a target through a video with a base tracker and the refiner. Write a video with both "
        "boxes and the mask, and text files of the boxes.",
    )
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="video file, folder of images, pattern of images such as 'clip/*.png', or number of a camera",
    )
    parser.add_argument(
        "--box",
        help="box of the target in the first frame: x,y,width,height in pixels, or a text file with them in its first "
        "row (default: groundtruth.txt in a folder of images, else drawn with the mouse)",
    )
    parser.add_argument(
        "--output", type=Path, help="video to write: .mp4, .mov, .mkv or .webm (default: <INPUT>_refined.mp4)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the files of --output if they exist")
    parser.add_argument("--fps", type=float, help="frames a second of images (default: 30)")
    parser.add_argument("--max_frames", type=int, help="number of frames after which to end (default: all)")
    parser.add_argument("--show", action="store_true", help="show the frames in a window; Escape or Q ends")
    parser.add_argument("--no-mask", dest="mask", action="store_false", help="do not predict masks")
    add_live_arguments(parser)
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Follow a target through a video.

    Args:
        args: Arguments; those of the process by default.

    Raises:
        UserError: If an argument is invalid, a frame cannot be read or tracked, or no frame was refined because the
            predictions are not finite. What was tracked before is written.
    """
    options = make_parser().parse_args(_joined(sys.argv[1:] if args is None else args))
    for name in ("fps", "max_frames"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"`--{name}` must be a positive number, got {value}.")
    # Imported here, so that `--help` is quick. torch comes last: it takes seconds, and most checks do not need it.
    from alpharefine.video.frames import DEFAULT_RATE, ImageSource, open_source
    from alpharefine.video.window import require_screen

    source = open_source(options.input, options.fps or DEFAULT_RATE)
    if options.fps is not None and not isinstance(source, ImageSource):
        raise UserError("`--fps` applies to images; videos and cameras have times of their own: leave it out.")
    box = _given_box(options.box, source)
    inputs = [*source.files, *(path for path in (source.box_file, Path(options.box or "")) if path and path.is_file())]
    files = _output_files(options.output or Path(f"{source.stem}_refined.mp4"), options.overwrite, inputs)
    if check_live_files(options).opens_files and source.paths is None:
        raise UserError(
            f"--tracker {options.tracker} reads image files, and {source.name} has none; extract its frames into a "
            "folder, and give the folder."
        )
    if options.show:
        require_screen("leave `--show` out")
    if not source.is_live:  # a camera starts when all is ready
        with closing(source.frames()) as frames:
            box = _first_box(box, next(frames).pixels)
    _track(options, source, resolve_live(options), box, files)


def _joined(args: Sequence[str]) -> list[str]:
    """Join `--box` and its value by ``=``, because argparse takes a value such as ``-10,5,20,20`` for an option."""
    joined = list(args)
    if "--box" in joined[:-1]:
        place = joined.index("--box")
        joined[place : place + 2] = [f"--box={joined[place + 1]}"]
    return joined


def _given_box(given: str | None, source: FrameSource) -> _GivenBox | None:
    """Return the given box or that of the folder. None if the user is to draw it, which the screen must allow."""
    from alpharefine.data.text import parse_rows, read_text
    from alpharefine.trackers.entry import require_first_box
    from alpharefine.video.window import require_screen

    path = source.box_file if given is None else Path(given)
    if path is not None and (given is None or path.is_file()):
        owner, first_row = str(path), read_text(path).lstrip().partition("\n")[0]  # the other rows are not used
        boxes_xywh = parse_rows(first_row, owner, codes=False)
    elif given is not None:
        owner = "`--box`"
        try:
            boxes_xywh = parse_rows(given, owner, codes=False)
        except UserError as error:
            raise UserError(
                f"`--box`: no file {given}, and not x,y,width,height in pixels (4 numbers); correct it."
            ) from error
    else:
        require_screen("give the box of the first frame by `--box x,y,w,h`")
        return None
    if len(boxes_xywh) != 1:
        raise UserError(f"{owner} must hold one box x,y,w,h in pixels, got {len(boxes_xywh)}; correct it.")
    require_first_box(owner, boxes_xywh[0], "correct it")
    return _GivenBox(owner, boxes_xywh[0])


def _first_box(given: _GivenBox | None, frame: np.ndarray) -> _GivenBox:
    """Return the given box, or let the user draw it. It must be in the frame."""
    from alpharefine.data.frame_checks import require_in_frame
    from alpharefine.video.window import select_box

    box = given or _GivenBox("The drawn box", select_box(frame))
    require_in_frame(box.owner, box.xywh[None], frame)
    return box


def _output_files(video: Path, overwrite: bool, inputs: Iterable[Path]) -> _Files:
    """Return the files to write. They never replace an input, and others only on request."""
    from alpharefine.video.writer import require_format

    require_format(video)
    files = _Files(video, video.with_suffix(".txt"), video.with_name(f"{video.stem}_base.txt"))
    if not video.parent.is_dir():
        raise UserError(f"`--output`: there is no folder {video.parent}; create it.")
    present = [path for path in files if path.exists()]
    read = next((path for path in present if any(path.samefile(each) for each in inputs)), None)
    if read is not None:
        raise UserError(f"`--output`: {read} is an input, which would be lost; give another name.")
    if present and not overwrite:
        raise UserError(f"{present[0]} exists; give another `--output`, or `--overwrite`.")
    folder = next((path for path in present if path.is_dir()), None)
    if folder is not None:
        raise UserError(f"`--output`: {folder} is a folder; give another name.")
    return files


def _track(
    options: argparse.Namespace, source: FrameSource, runs: ResolvedRuns, box: _GivenBox | None, files: _Files
) -> None:
    """Run over the frames. The files hold what was done before an error or an interruption."""
    import numpy as np
    from tqdm import tqdm

    from alpharefine.data.text import format_rows
    from alpharefine.evaluation.failures import require_finite_predictions
    from alpharefine.evaluation.refined_tracker import RefinedTracker
    from alpharefine.evaluation.results import write_whole
    from alpharefine.notes import note
    from alpharefine.video.window import LiveView
    from alpharefine.video.writer import VideoWriter

    pair = load_live(runs, options.device)
    if options.mask and not pair.settings.save_masks:
        note(f"{options.ckpt} has no mask head: no mask is drawn.")
    settings = replace(pair.settings, save_masks=options.mask and pair.settings.save_masks)
    num_frames = min((n for n in (source.num_frames, options.max_frames) if n is not None), default=None)
    boxes_xywh = array("d")  # refined and base box of each frame, in little memory
    with ExitStack() as stack:
        frames = islice(stack.enter_context(closing(source.frames())), options.max_frames)
        first = next(frames)
        first_xywh = _first_box(box, first.pixels).xywh
        base = stack.enter_context(closing(pair.base.open(source.name, first_xywh[None], source.paths)))
        tracker = RefinedTracker(base, pair.entry, pair.refiner, settings)
        with naming(f"{source.name}, frame 1"):
            tracker.initialize(first.pixels.copy(), first_xywh)  # a tracker may draw on its frame
        video = VideoWriter(files.video)
        start = perf_counter()
        stack.callback(lambda: _report(files, len(boxes_xywh) // 8, perf_counter() - start, options.tracker, tracker))
        writer = stack.enter_context(video)
        progress = stack.enter_context(tqdm(total=num_frames, unit=" frames", desc=source.name))
        view = stack.enter_context(LiveView()) if options.show else None
        try:
            boxes_xywh.extend([*first_xywh, *first_xywh])
            _draw(first.pixels, first_xywh, None, settings)
            writer.write(first.pixels, first.time_s)
            progress.update()
            goes_on = view is None or view.show(first.pixels)
            for number, frame in enumerate(frames if goes_on else (), start=2):
                with naming(f"{source.name}, frame {number}"):
                    step = tracker.track(frame.pixels.copy())
                boxes_xywh.extend([*step.box_xywh, *step.track.box_xywh])
                _draw(frame.pixels, step.track.box_xywh, step, settings)
                writer.write(frame.pixels, frame.time_s)
                progress.update()
                if view is not None and not view.show(frame.pixels):
                    break
        finally:
            rows = np.array(boxes_xywh).reshape(-1, 8)
            write_whole(files.refined, format_rows(rows[:, :4]))
            write_whole(files.base, format_rows(rows[:, 4:]))
    require_finite_predictions(options.tracker, tracker.counts)


def _report(files: _Files, num_frames: int, seconds: float, name: str, tracker: RefinedTracker) -> None:
    """Print what was written, and how many frames were not refined."""
    from alpharefine.evaluation.failures import describe_counts

    counts = describe_counts({**tracker.counts, "frames": num_frames - 1})
    what = ("video", "refined boxes", "boxes of the tracker")
    lines = [
        f"{num_frames} frames in {seconds:.1f} s, {num_frames / seconds:.1f} frames a second",
        *([f"{name}, refined: {counts}"] if counts else []),
        *(f"{label}: {path}" for label, path in zip(what, files, strict=True) if path.exists()),
    ]
    sys.stdout.write("\n".join([*lines, ""]))


def _draw(frame: np.ndarray, base_xywh: np.ndarray, step: Step | None, settings: RefinementSettings) -> None:
    """Draw the boxes and the mask of a frame, in place. The first frame has only the given box."""
    from alpharefine.video.drawing import BASE, GIVEN, REFINED, draw_box, draw_legend, draw_mask

    if step is None:
        draw_box(frame, base_xywh, GIVEN)
        draw_legend(frame, [GIVEN])
        return
    refinement = step.refinement
    if refinement is not None and refinement.mask is not None:
        draw_mask(frame, refinement.mask > settings.mask_threshold)
    if refinement is not None:
        draw_box(frame, refinement.box_xywh, REFINED)
    draw_box(frame, base_xywh, BASE)  # its gaps show the refined box where both are the same
    draw_legend(frame, [BASE, REFINED], has_mask=settings.save_masks)
