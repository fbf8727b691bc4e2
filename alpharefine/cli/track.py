"""Subcommand ``track``: follows a target through a video, and draws its boxes and masks."""

from __future__ import annotations

import argparse
from array import array
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from alpharefine.cli.command import UserErrorParser
from alpharefine.cli.live import load_live, naming, resolve_live
from alpharefine.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from alpharefine.evaluation.refined_tracker import Step
    from alpharefine.evaluation.settings import ResolvedRuns
    from alpharefine.video.frames import FrameSource


class _Files(NamedTuple):
    """Files that are written: the video, and the boxes as rows x,y,w,h."""

    video: Path
    refined: Path
    base: Path


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
    parser.add_argument("--tracker", default="mil", help="base tracker (default: %(default)s)")
    parser.add_argument("--tracker_weights", default="", help="weight files of the tracker, separated by commas")
    parser.add_argument(
        "--ckpt",
        default="ar18_cm",
        help="checkpoint or .onnx export of the refiner, or name of shipped weights (default: %(default)s)",
    )
    parser.add_argument(
        "--output", type=Path, help="video to write: .mp4, .mov, .mkv or .webm (default: <INPUT>_refined.mp4)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the files of --output if they exist")
    parser.add_argument("--fps", type=float, help="frames a second of images (default: 30)")
    parser.add_argument("--max_frames", type=int, help="number of frames after which to end (default: all)")
    parser.add_argument("--show", action="store_true", help="show the frames in a window; Escape or Q ends")
    parser.add_argument("--no-mask", dest="mask", action="store_false", help="do not predict masks")
    parser.add_argument(
        "--feedback",
        action=argparse.BooleanOptionalAction,
        help="pass the refined box back to the tracker (default: if the tracker accepts it)",
    )
    parser.add_argument("--device", default="auto", help="torch device (default: the GPU if there is one)")
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Follow a target through a video.

    Args:
        args: Arguments; those of the process by default.

    Raises:
        UserError: If an argument is invalid, or a frame cannot be read or tracked. What was tracked before is written.
    """
    options = make_parser().parse_args(args)
    for name in ("fps", "max_frames"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"`--{name}` must be a positive number, got {value}.")
    # Imported here, so that `--help` is quick.
    from alpharefine.video.frames import DEFAULT_RATE, ImageSource, open_source
    from alpharefine.video.window import require_screen

    source = open_source(options.input, options.fps or DEFAULT_RATE)
    if options.fps is not None and not isinstance(source, ImageSource):
        raise UserError("`--fps` applies to images; videos and cameras have times of their own: leave it out.")
    files = _output_files(options.output or Path(f"{Path(source.name).stem}_refined.mp4"), options.overwrite)
    if options.show:
        require_screen("leave `--show` out")
    _track(options, source, _resolve(options, source), files)


def _output_files(video: Path, overwrite: bool) -> _Files:
    from alpharefine.video.writer import require_format

    require_format(video)
    files = _Files(video, video.with_suffix(".txt"), video.with_name(f"{video.stem}_base.txt"))
    if not video.parent.is_dir():
        raise UserError(f"`--output`: there is no folder {video.parent}; create it.")
    present = [path for path in files if path.exists()]
    if present and not overwrite:
        raise UserError(f"{present[0]} exists; give another `--output`, or `--overwrite`.")
    return files


def _resolve(options: argparse.Namespace, source: FrameSource) -> ResolvedRuns:
    """Check the options of tracker and refiner, and load the checkpoint."""
    runs = resolve_live(options)
    if runs.entry.opens_files and source.paths is None:
        raise UserError(
            f"--tracker {options.tracker} reads image files, and {source.name} has none; extract its frames into a "
            "folder, and give the folder."
        )
    return runs


def _track(options: argparse.Namespace, source: FrameSource, runs: ResolvedRuns, files: _Files) -> None:
    """Run over the frames. The files hold what was done before an error or an interruption."""
    import numpy as np
    from tqdm import tqdm

    from alpharefine.data.text import format_rows
    from alpharefine.evaluation.refined_tracker import RefinedTracker
    from alpharefine.evaluation.results import write_whole
    from alpharefine.video.window import show
    from alpharefine.video.writer import VideoWriter

    pair = load_live(runs, options.device)
    settings = replace(pair.settings, save_masks=pair.settings.save_masks and options.mask)
    num_frames = min((n for n in (source.num_frames, options.max_frames) if n is not None), default=None)
    boxes_xywh = array("d")  # refined and base box of each frame, in little memory
    with ExitStack() as stack:
        frames = islice(stack.enter_context(closing(source.frames())), options.max_frames)
        first = next(frames)
        first_xywh = _first_box(options.box, source, first.pixels)
        base = stack.enter_context(closing(pair.base.open(source.name, first_xywh[None], source.paths)))
        tracker = RefinedTracker(base, pair.entry, pair.refiner, settings)
        with naming(f"{source.name}, frame 1"):
            tracker.initialize(first.pixels.copy(), first_xywh)  # a tracker may draw on its frame
        writer = stack.enter_context(VideoWriter(files.video))
        progress = stack.enter_context(tqdm(total=num_frames, unit=" frames", desc=source.name))
        try:
            boxes_xywh.extend([*first_xywh, *first_xywh])
            picture = _drawn(first.pixels, first_xywh, None, settings.mask_threshold)
            writer.write(picture, first.time_s)
            progress.update()
            for number, frame in enumerate(frames, start=2):
                if options.show and not show(picture):
                    break
                with naming(f"{source.name}, frame {number}"):
                    step = tracker.track(frame.pixels.copy())
                boxes_xywh.extend([*step.box_xywh, *step.track.box_xywh])
                picture = _drawn(frame.pixels, step.track.box_xywh, step, settings.mask_threshold)
                writer.write(picture, frame.time_s)
                progress.update()
        finally:
            rows = np.array(boxes_xywh).reshape(-1, 8)
            write_whole(files.refined, format_rows(rows[:, :4]))
            write_whole(files.base, format_rows(rows[:, 4:]))


def _first_box(given: str | None, source: FrameSource, frame: np.ndarray) -> np.ndarray:
    """Return the box of the first frame, ``(4,)``: the given one, that of the folder, or one drawn with the mouse."""
    from alpharefine.data.text import parse_rows, read_rows
    from alpharefine.evaluation.run import require_in_frame
    from alpharefine.video.window import select_box

    path = source.box_file if given is None else Path(given)
    if path is not None and (given is None or path.is_file()):
        boxes_xywh, owner = read_rows(path)[:1], str(path)
    elif given is not None:
        boxes_xywh, owner = parse_rows(given, f"`--box {given}`"), "`--box`"
    else:
        boxes_xywh, owner = select_box(frame)[None], "The drawn box"
    if len(boxes_xywh) != 1:
        raise UserError(f"{owner} must hold one box x,y,w,h in pixels, got {len(boxes_xywh)}; correct it.")
    require_in_frame(owner, boxes_xywh, frame)
    box_xywh: np.ndarray = boxes_xywh[0]
    return box_xywh


def _drawn(frame: np.ndarray, base_xywh: np.ndarray, step: Step | None, threshold: float) -> np.ndarray:
    """Return a copy of a frame with its boxes and mask. The first frame has only the given box."""
    from alpharefine.video.drawing import BASE, REFINED, draw_box, draw_legend, draw_mask

    picture = frame.copy()
    refinement = None if step is None else step.refinement
    if refinement is not None and refinement.mask is not None:
        draw_mask(picture, refinement.mask > threshold)
    if refinement is not None:
        draw_box(picture, refinement.box_xywh, REFINED)
    draw_box(picture, base_xywh, BASE)  # its gaps show the refined box where both are the same
    draw_legend(picture, (BASE, REFINED))
    return picture
