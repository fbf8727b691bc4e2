"""Pictures of the glossary: ``python docs/images/draw.py [FOLDER]`` writes them to this folder, or to another one."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from alpharefine import Refiner
from alpharefine.crops import CROP_SIZE, Window
from alpharefine.metrics.functional import (
    PRECISION_INDEX,
    PRECISION_THRESHOLDS,
    SUCCESS_THRESHOLDS,
    one_pass_curves,
)
from alpharefine.synthetic import SyntheticSequence, generate_sequence
from alpharefine.video.drawing import BASE, GIVEN, MASK_COLOR, REFINED, BoxStyle, Color, draw_mask

FRAME = 6
NOISE = 0.12
"""Standard deviation of the errors of the base tracker's box, relative to its sides."""

_LINES = {0: "-", 2: ":", 6: "--"}


def main(folder: Path) -> None:
    """Draw all pictures."""
    video = generate_sequence(seed=5, index=1, num_frames=40, frame_size=(300, 400), look="photos")
    refiner = Refiner.from_checkpoint("ar18_cm", device="cpu")
    refiner.initialize(video.frames[0], video.boxes_xywh[0])
    sides = video.boxes_xywh[:, [2, 3, 2, 3]]
    base_xywh = video.boxes_xywh + np.random.default_rng(1).normal(0, NOISE, sides.shape) * sides
    draw_terms(video, refiner, base_xywh[FRAME]).savefig(folder / "terms.webp", pil_kwargs={"quality": 90})
    draw_scores(video, refiner, base_xywh).savefig(folder / "scores.webp", pil_kwargs={"lossless": True})


def draw_terms(video: SyntheticSequence, refiner: Refiner, base_xywh: np.ndarray) -> Figure:
    """Draw template, search region, boxes and mask.

    Args:
        video: Generated video.
        refiner: Refiner with the target of the first frame.
        base_xywh: Box of the base tracker in frame `FRAME`, ``(4,)`` in pixels.
    """
    frame, window = video.frames[FRAME], Window.around(base_xywh)
    refinement = refiner.refine(frame, base_xywh, mask=True)
    assert refinement.mask is not None
    masked = frame.copy()
    draw_mask(masked, refinement.mask > 0.5)

    figure = Figure(figsize=(11, 3.4), dpi=120, layout="constrained")
    first, later, crop = figure.subplots(1, 3, width_ratios=[4, 4, 3])
    _show(first, video.frames[0], "first frame")
    _draw_box(first, video.boxes_xywh[0], GIVEN, "given box")
    _draw_window(first, Window.around(video.boxes_xywh[0]), "template")
    _show(later, masked, "later frame")
    _draw_window(later, window, "search region")
    _draw_box(later, base_xywh, BASE, "base tracker's box")
    _draw_box(later, refinement.box_xywh, REFINED, "refined box")
    later.add_patch(Rectangle((0, 0), 0, 0, color=_hex(MASK_COLOR), label="mask"))
    _show(crop, window.cut(frame), f"crop, {CROP_SIZE} x {CROP_SIZE} px")
    x1, y1, x2, y2 = window.to_crop(
        np.append(refinement.box_xywh[:2], refinement.box_xywh[:2] + refinement.box_xywh[2:])
    )
    _draw_box(crop, np.array([x1, y1, x2 - x1, y2 - y1]), REFINED, "refined box")
    for axes in (first, later, crop):
        axes.legend(loc="lower left", fontsize="small")
    return figure


def draw_scores(video: SyntheticSequence, refiner: Refiner, base_xywh: np.ndarray) -> Figure:
    """Draw the success and precision curves of one sequence, with AUC and P@20.

    Args:
        video: Generated video.
        refiner: Refiner.
        base_xywh: Boxes of the base tracker, ``(N, 4)`` in pixels.
    """
    template = refiner.encode_template(video.frames[0], video.boxes_xywh[0])
    refinements = refiner.refine_many(video.frames, base_xywh, [template] * len(base_xywh))
    boxes = {"base": base_xywh, "refined": np.stack([each.box_xywh for each in refinements])}
    figure = Figure(figsize=(9, 3.4), dpi=120, layout="constrained")
    success, precision = figure.subplots(1, 2)
    for (run, boxes_xywh), style in zip(boxes.items(), (BASE, REFINED), strict=True):
        curves, color = one_pass_curves(boxes_xywh, video.boxes_xywh), _hex(style.color)
        look = {"color": color, "linestyle": _LINES[style.dash]}
        auc, hits = curves.success.mean(), curves.precision[PRECISION_INDEX]
        success.plot(SUCCESS_THRESHOLDS, 100 * curves.success, label=f"{run}: AUC {100 * auc:.1f}", **look)
        success.fill_between(SUCCESS_THRESHOLDS, 100 * curves.success, color=color, alpha=0.12)
        precision.plot(PRECISION_THRESHOLDS, 100 * curves.precision, label=f"{run}: P@20 {100 * hits:.1f}", **look)
        precision.plot(PRECISION_THRESHOLDS[PRECISION_INDEX], 100 * hits, "o", color=color)
    success.set(title="Success", xlabel="IoU threshold", ylabel="frames [%]", xlim=(0, 1), ylim=(0, 103))
    precision.set(title="Precision", xlabel="threshold of the center error [px]", xlim=(0, 50), ylim=(0, 103))
    precision.axvline(PRECISION_THRESHOLDS[PRECISION_INDEX], color="gray", linewidth=0.8)
    success.legend(loc="lower left")
    precision.legend(loc="lower right")
    return figure


def _show(axes: Axes, picture: np.ndarray, title: str) -> None:
    axes.imshow(picture)
    axes.set(title=title, xticks=[], yticks=[])


def _draw_box(axes: Axes, box_xywh: np.ndarray, style: BoxStyle, label: str) -> None:
    _draw_rectangle(axes, box_xywh, _hex(style.color), _LINES[style.dash], label)


def _draw_window(axes: Axes, window: Window, label: str) -> None:
    _draw_rectangle(axes, np.array([window.x0, window.y0, window.width, window.height]), "yellow", ":", label)


def _draw_rectangle(axes: Axes, box_xywh: np.ndarray, color: str, linestyle: str, label: str) -> None:
    # Pixel i covers [i, i+1) in this library, and [i-0.5, i+0.5) in Matplotlib.
    x, y, width, height = box_xywh - [0.5, 0.5, 0, 0]
    axes.add_patch(
        Rectangle((x, y), width, height, fill=False, color=color, linestyle=linestyle, linewidth=2, label=label)
    )


def _hex(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
