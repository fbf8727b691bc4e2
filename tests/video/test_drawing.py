"""Boxes, masks and legends on frames."""

from __future__ import annotations

import numpy as np
import pytest

from alpharefine.video.drawing import BASE, MASK_COLOR, REFINED, TRUTH, BoxStyle, draw_box, draw_legend, draw_mask

STYLES = [BASE, REFINED, TRUTH]  # on one frame


def blank(size: tuple[int, int] = (240, 320)) -> np.ndarray:
    return np.full((*size, 3), 128, np.uint8)


def share_of_color(frame: np.ndarray, style: BoxStyle, row: int, columns: slice) -> float:
    """Share of the pixels of a part of a row with the color of a style."""
    return float((np.abs(frame[row, columns].astype(int) - style.color).max(-1) < 40).mean())


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.label)
def test_a_box_is_drawn_on_its_edges_alone(style: BoxStyle) -> None:
    frame = blank()
    draw_box(frame, np.array([60.0, 50, 200, 120]), style)
    for row in (50, 170):
        share = share_of_color(frame, style, row, slice(64, 256))
        assert share > 0.9 if style.dash == 0 else 0.3 < share < 0.7
    assert (frame[60:160, 70:250] == 128).all()
    assert (frame[:45] == 128).all()
    assert (frame[175:] == 128).all()


def test_styles_differ_in_color_and_line() -> None:
    assert len({style.color for style in STYLES}) == len({style.dash for style in STYLES}) == len(STYLES)
    colors = np.array([*(style.color for style in STYLES), MASK_COLOR], dtype=float)
    gray = colors @ [0.299, 0.587, 0.114]
    distances = np.abs(colors[:, None] - colors[None]).sum(-1) + 1e3 * np.eye(len(colors))
    assert distances.min() > 150
    assert np.diff(np.sort(gray[:3])).min() > 20, "boxes can be told apart without color"


@pytest.mark.parametrize("size", [(240, 320), (360, 640)], ids=str)
def test_the_dashes_of_the_base_box_are_seen_on_small_frames(size: tuple[int, int]) -> None:
    frame = blank(size)
    for style in (REFINED, BASE):  # both are the same
        draw_box(frame, np.array([60.0, 50, 200, 120]), style)
    band = frame[47:54, 64:256].astype(int)
    num_base, num_refined, num_dark = (
        (np.abs(band - color).max(-1) < 40).sum() for color in (BASE.color, REFINED.color, (0, 0, 0))
    )
    assert num_base >= 2 * 0.3 * band.shape[1], "two rows of pixels"
    assert num_refined >= 2 * 0.3 * band.shape[1]
    assert num_dark <= 1.2 * (num_base + num_refined)


@pytest.mark.parametrize(
    "box_xywh",
    [[np.nan, 0, 10, 10], [5, 5, 0, 10], [5, 5, 10, -3], [np.inf, 0, 1, 1]],
    ids=str,
)
def test_a_box_that_is_none_is_not_drawn(box_xywh: list[float]) -> None:
    frame = blank()
    draw_box(frame, np.array(box_xywh, dtype=float), REFINED)
    assert (frame == 128).all()


def test_boxes_outside_of_the_frame() -> None:
    frame = blank()
    draw_box(frame, np.array([-1e12, -1e12, 2e12, 2e12]), BASE)
    assert (frame == 128).all()
    draw_box(frame, np.array([300.0, 100, 1e9, 50]), REFINED)
    assert share_of_color(frame, REFINED, 100, slice(304, 320)) == 1


def test_a_mask_is_tinted_and_lets_the_frame_through() -> None:
    frame = blank()
    frame[:, ::2] = 60
    before, mask = frame.copy(), np.zeros((240, 320), bool)
    mask[80:160, 100:200] = True
    draw_mask(frame, mask)
    inside = frame[90:150, 110:190].astype(int)
    assert (np.abs(inside - before[90:150, 110:190]).max(-1) > 10).all()
    assert (np.abs(inside[:, ::2] - inside[:, 1::2]) > 20).all(), "the pattern is visible"
    assert (inside[..., 2] > inside[..., 0]).all(), "bluish"
    assert (frame[:75] == before[:75]).all()
    draw_mask(frame, np.zeros((240, 320), bool))


@pytest.mark.parametrize("size", [(16, 16), (90, 160), (240, 320), (1080, 1920)], ids=str)
def test_a_legend_names_the_lines(size: tuple[int, int]) -> None:
    frame = blank(size)
    draw_legend(frame, (BASE, REFINED), has_mask=True)
    assert (frame[0, 0] == 128 // 3).all()
    if size[0] >= 240:
        for color in (BASE.color, REFINED.color, MASK_COLOR):
            assert (np.abs(frame.astype(int) - color).max(-1) < 40).any()
        assert (frame[size[0] // 2 :] == 128).all()
