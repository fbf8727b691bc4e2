"""Subcommand ``vot``: speaks TraX as a tracker does, so that the VOT toolkit runs base tracker and refiner."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from alpharefine.cli.command import UserErrorParser
from alpharefine.cli.live import LivePair, add_live_arguments, check_live_files, load_live, resolve_live
from alpharefine.errors import UserError, describe_exception, naming

if TYPE_CHECKING:
    import numpy as np

    from alpharefine.evaluation.refined_tracker import Step

RegionKind = Literal["auto", "rectangle", "mask"]
"""Kind of region that targets are taken and reported as."""


def make_parser() -> UserErrorParser:
    """Build the parser of the command."""
    parser = UserErrorParser(
        prog="alpharefine vot",
        description="Run a base tracker with the refiner as a TraX program, which the VOT toolkit starts.",
    )
    parser.add_argument(
        "--region",
        choices=get_args(RegionKind),
        default="auto",
        help="kind of region in which targets are taken and reported; auto: masks if the target is given as a mask, "
        "else rectangles (default: %(default)s)",
    )
    add_live_arguments(parser)
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Serve a base tracker and the refiner over TraX, the protocol of the VOT toolkit.

    Args:
        args: Arguments; those of the process by default.

    Raises:
        UserError: If an argument is invalid, a request cannot be read, or the tracker fails. A client whose
            session has started is told the reason.
    """
    options = make_parser().parse_args(args)
    try:
        import trax
    except ImportError as error:
        raise UserError('`alpharefine vot` requires TraX; run `pip install "alpharefine[trax]"`.') from error
    if check_live_files(options).opens_files:
        raise UserError(f"--tracker {options.tracker} is a TraX program itself; name it in trackers.ini.")
    pair = load_live(resolve_live(options), options.device)
    if options.region == "mask" and not pair.settings.save_masks:
        raise UserError(f"`--region mask`: the network of {options.ckpt} has no mask head; give another checkpoint.")
    # Encoded files (`trax.Image.BUFFER`) arrive damaged in vot-trax 4.0.2.
    formats = _region_formats(options.region, pair)
    server = trax.Server(formats, [trax.Image.PATH, trax.Image.MEMORY], ["color"])
    reason = None
    try:
        _serve(server, pair, formats)
    except BaseException as error:
        reason = describe_exception(error)
        raise
    finally:
        server.quit(reason)


def _region_formats(region: RegionKind, pair: LivePair) -> list[str]:
    from trax import Region

    boxes = [Region.RECTANGLE, Region.POLYGON]
    if region == "auto":
        return [*boxes, Region.MASK] if pair.settings.save_masks else boxes
    return [Region.MASK] if region == "mask" else boxes


def _serve(server: Any, pair: LivePair, formats: list[str]) -> None:
    """Answer requests. A session has one target."""
    from trax import Region

    from alpharefine.boxes import is_valid
    from alpharefine.evaluation.refined_tracker import RefinedTracker

    request = _next(server)
    if request is None:
        return
    if len(request.objects or ()) != 1:
        raise UserError(f"`alpharefine vot` follows one target, got {len(request.objects or ())}; give one.")
    target = request.objects[0][0]
    if target.type not in formats:
        raise UserError(f"`--region`: the target must be given as {' or '.join(formats)}, got a {target.type}.")
    gives_masks, box_xywh = target.type == Region.MASK, _box_of(target)
    with closing(pair.base.open("TraX client", box_xywh[None])) as base:
        tracker = RefinedTracker(base, pair.entry, pair.refiner, replace(pair.settings, save_masks=gives_masks))
        with naming("Frame 1"):
            tracker.initialize(_read(request), box_xywh)
        server.status([(target, {})])
        for number in count(2):
            request = _next(server)
            if request is None:
                return
            if request.objects:
                raise UserError("`alpharefine vot` follows one target, got another one later; start it once a target.")
            frame = _read(request)
            with naming(f"Frame {number}"):
                step = tracker.track(frame)
            if not is_valid(step.box_xywh):
                raise UserError(
                    f"Frame {number}: the tracker gave the invalid box {step.box_xywh.tolist()}; use another."
                )
            region = _region_of(step, frame.shape[:2], pair.settings.mask_threshold if gives_masks else None)
            server.status([(region, {"confidence": _confidence(step)})])


def _next(server: Any) -> Any:
    """Return the next request, or None if the client ends the session."""
    import trax

    try:
        request = server.wait()
    except trax.TraxException as error:
        raise UserError(
            f"The TraX client broke off the session ({error}); this command is started by a client such as the VOT "
            "toolkit."
        ) from error
    return None if request.type == trax.TraxStatus.QUIT else request


def _read(request: Any) -> np.ndarray:
    """Return the image of a request, ``(H, W, 3)`` RGB uint8."""
    import numpy as np
    from trax import Image

    from alpharefine.data.images import read_image

    image = request.image["color"]
    if image.type() == Image.PATH:
        return read_image(Path(image.path()))
    pixels = np.asarray(image.array())
    if pixels.dtype != np.uint8 or pixels.shape[2] not in (1, 3):
        raise UserError(f"The TraX client sent an image of {pixels.dtype} {pixels.shape}; send RGB or gray of 8 bits.")
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _box_of(region: Any) -> np.ndarray:
    """Return the bounding box of a rectangle, polygon or mask, ``(4,)`` xywh in image pixels."""
    import numpy as np
    from trax import Region

    from alpharefine.data.images import box_of_mask

    if region.type == Region.MASK:
        return box_of_mask(region.array(True))
    if region.type == Region.POLYGON:
        points = np.array(list(region))
        return np.concatenate([points.min(0), np.ptp(points, axis=0)])
    return np.array(region.bounds())


def _region_of(step: Step, image_size: tuple[int, int], mask_threshold: float | None) -> Any:
    """Return the box of a frame as a rectangle or, with a threshold, the mask. A frame without mask gives its box."""
    import numpy as np
    from trax import Mask, Rectangle

    from alpharefine.boxes import clip_to_image, xywh_to_xyxy

    if mask_threshold is None:
        return Rectangle.create(*step.box_xywh.tolist())
    mask = None if step.refinement is None or step.refinement.mask is None else step.refinement.mask > mask_threshold
    if mask is None or not mask.any():
        x1, y1, x2, y2 = clip_to_image(xywh_to_xyxy(step.box_xywh), image_size).round().astype(int)
        mask = np.zeros(image_size, dtype=bool)
        mask[y1:y2, x1:x2] = True
    return Mask.create(mask.astype(np.uint8))


def _confidence(step: Step) -> float:
    """Return the score of the tracker, or that of the refinement if the tracker gives none."""
    if not math.isnan(step.track.score):
        return step.track.score
    return 0.0 if step.refinement is None else step.refinement.score
