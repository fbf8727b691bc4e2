"""Messages of the TraX protocol, one line each.

Sources: the public specification (trax.readthedocs.io, "TraX protocol specification") and, for version 4, which it does
not describe yet, the messages of the reference implementation. A message is ``@@TRAX:<name>`` with arguments in double
quotes, followed by named arguments, ``"key=value"``. A backslash precedes quotes, backslashes and the ``n`` of a line
break.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PREFIX = "@@TRAX:"

_ARGUMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s"]+)')
_NAMED = re.compile(r"([A-Za-z0-9._]{1,64})=(.*)", re.DOTALL)
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        name: Name: ``hello``, ``initialize``, ``frame``, ``state`` or ``quit``.
        arguments: Mandatory arguments, in order.
        properties: Named arguments.
    """

    name: str
    arguments: tuple[str, ...]
    properties: dict[str, str]


def format_message(name: str, *arguments: str) -> str:
    r"""Return the line of a message, with its line break.

    Args:
        name: Name of the message.
        *arguments: Mandatory arguments.

    >>> format_message("frame", 'file:///a "b".jpg')
    '@@TRAX:frame "file:///a \\"b\\".jpg"\n'
    """
    return " ".join([f"{PREFIX}{name}", *(f'"{_escaped(argument)}"' for argument in arguments)]) + "\n"


def parse_message(line: str) -> Message:
    """Parse a line that starts with the prefix.

    Args:
        line: Line of a message.

    >>> parse_message('@@TRAX:state "1,2,3,4" "confidence=0.5"')
    Message(name='state', arguments=('1,2,3,4',), properties={'confidence': '0.5'})
    """
    name, _, rest = line.removeprefix(PREFIX).strip().partition(" ")
    arguments, properties = [], {}
    for quoted, bare in _ARGUMENT.findall(rest):
        text = bare or re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], quoted)
        named = _NAMED.fullmatch(text)
        if named is None:
            arguments.append(text)
        else:
            properties[named[1]] = named[2]
    return Message(name, tuple(arguments), properties)


def format_rectangle(box_xywh: np.ndarray) -> str:
    """Return a box as a rectangle region, with full precision.

    Args:
        box_xywh: Box, ``(4,)`` in image pixels.

    >>> format_rectangle(np.array([1, 2.5, 30, 40]))
    '1.0,2.5,30.0,40.0'
    """
    return ",".join(map(repr, np.asarray(box_xywh, dtype=np.float64).tolist()))


def format_polygon(box_xywh: np.ndarray) -> str:
    """Return a box as a polygon region of its corners, clockwise from the top left.

    Args:
        box_xywh: Box, ``(4,)`` in image pixels.
    """
    x, y, w, h = np.asarray(box_xywh, dtype=np.float64).tolist()
    return ",".join(map(repr, (x, y, x + w, y, x + w, y + h, x, y + h)))


def parse_region(region: str) -> np.ndarray | None:
    """Return the box of a rectangle region, or the bounding box of a polygon region.

    Args:
        region: Region of a message.

    Returns:
        Box, ``(4,)`` float64 xywh in image pixels; None for a special region, which reports that the target is not
        found.

    Raises:
        ValueError: If the region is of another kind.

    >>> parse_region("0,1,4,1,4,3").tolist()
    [0.0, 1.0, 4.0, 2.0]
    """
    values = np.array(region.split(","), dtype=np.float64)
    if len(values) == 1:
        return None
    if len(values) == 4:
        return values
    if len(values) < 6 or len(values) % 2:
        raise ValueError(f"a region must be 4 numbers, or 6 and more in pairs, got {region[:80]!r}")
    points = values.reshape(-1, 2)
    corner = points.min(0)
    return np.concatenate([corner, points.max(0) - corner])


def image_of_path(path: Path) -> str:
    """Return an image as the URL of its file. Like the reference implementation, it does not escape spaces.

    Args:
        path: Path of the file.
    """
    return f"file://{path.resolve().as_posix()}"


def image_of_file(path: Path) -> str:
    """Return an image as the content of its JPEG or PNG file.

    Args:
        path: Path of the file.
    """
    kind = "png" if path.suffix.lower() == ".png" else "jpeg"
    return f"data:image/{kind};base64;{base64.b64encode(path.read_bytes()).decode()}"


def image_of_pixels(frame: np.ndarray) -> str:
    """Return an image as its pixels.

    Args:
        frame: Frame, ``(H, W, 3)`` RGB uint8.

    >>> image_of_pixels(np.zeros((1, 2, 3), np.uint8))
    'image:2;1;rgb;AAAAAAAA'
    """
    height, width = frame.shape[:2]
    return f"image:{width};{height};rgb;{base64.b64encode(np.ascontiguousarray(frame).tobytes()).decode()}"


def _escaped(text: str) -> str:
    return re.sub(r'[\\"\n]', lambda found: _ESCAPES[found[0]], text)
