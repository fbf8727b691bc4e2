"""Windows on the screen: live view, and a box drawn with the mouse."""

from __future__ import annotations

import os
import re
import sys
from types import TracebackType

import cv2
import numpy as np

from alpharefine.errors import UserError

_TITLE = "alpharefine"
_END_KEYS = (27, ord("q"))
_MAX_WINDOW_WIDTH = 1280


def require_screen(remedy: str) -> None:
    """Check that windows can be opened.

    Args:
        remedy: What to do if they cannot.

    Raises:
        UserError: If there is no screen, or the installed OpenCV has no windows.
    """
    if re.search(r"GUI:\s+NONE", cv2.getBuildInformation()):
        raise UserError(f"The installed OpenCV is `opencv-python-headless`, which opens no windows; {remedy}.")
    # Without a screen, OpenCV on Linux would end the process.
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UserError(f"There is no screen (DISPLAY is not set); {remedy}.")


def select_box(frame: np.ndarray) -> np.ndarray:
    """Let the user draw a box with the mouse.

    Args:
        frame: ``(H, W, 3)`` RGB uint8.

    Returns:
        Box ``(4,)`` xywh in image pixels.

    Raises:
        UserError: If there is no screen, or no box was drawn.
    """
    require_screen("give the box of the first frame by `--box x,y,w,h`")
    _open(frame)
    box_xywh = np.array(cv2.selectROI(_TITLE, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)), dtype=np.float64)
    cv2.destroyWindow(_TITLE)
    if box_xywh[2:].min() <= 0:
        raise UserError("No box was drawn; draw one around the target and press Enter, or give `--box x,y,w,h`.")
    return box_xywh


class LiveView:
    """Window that shows frames, as a context that closes it. The user ends it by Escape, Q or its button."""

    def __init__(self) -> None:
        self._is_open = False

    def show(self, frame: np.ndarray) -> bool:
        """Show a frame. Return False if the user has ended the view.

        Args:
            frame: ``(H, W, 3)`` RGB uint8.
        """
        if not self._is_open:
            _open(frame)
            self._is_open = True
        cv2.imshow(_TITLE, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        key = cv2.waitKey(1) & 0xFF
        self._is_open = cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) > 0  # not if its button was pressed
        return self._is_open and key not in _END_KEYS

    def __enter__(self) -> LiveView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_open:
            cv2.destroyWindow(_TITLE)


def _open(frame: np.ndarray) -> None:
    """Open a window that the user can resize; frames larger than the screen fit into it."""
    cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
    scale = min(1.0, _MAX_WINDOW_WIDTH / frame.shape[1])
    cv2.resizeWindow(_TITLE, round(scale * frame.shape[1]), round(scale * frame.shape[0]))
