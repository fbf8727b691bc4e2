"""Frames decoded ahead: in order, within the bound, errors in their turn."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from alpharefine.errors import UserError
from alpharefine.evaluation import decoding
from alpharefine.evaluation.decoding import decoded

PATHS = [Path(f"{i}.jpg") for i in range(9)]


class Images:
    """Stands in for `read_image`: an image of the number in the name; the sixth cannot be decoded."""

    def __init__(self) -> None:
        self.read: list[int] = []
        self.lock = threading.Lock()

    def __call__(self, path: Path) -> np.ndarray:
        with self.lock:
            self.read.append(int(path.stem))
        if path.stem == "6":
            raise UserError("6.jpg: cannot decode this image; restore it.")
        return np.full((1, 1, 3), int(path.stem), np.uint8)


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> Images:
    images = Images()
    monkeypatch.setattr(decoding, "read_image", images)
    return images


@pytest.mark.parametrize("num_threads", [1, 4])
def test_frames_come_in_order_and_an_error_in_its_turn(images: Images, num_threads: int) -> None:
    frames = decoded(PATHS, num_threads, num_ahead=3)
    for number in range(6):
        frame, decode_ms = next(frames)
        assert frame[0, 0, 0] == number
        assert decode_ms >= 0
        assert max(images.read) <= number + 3
    with pytest.raises(UserError, match=r"6\.jpg"):
        next(frames)


def test_nothing_more_is_decoded_after_the_end(images: Images) -> None:
    frames = decoded(PATHS, 1, num_ahead=3)
    next(frames)
    frames.close()
    done = len(images.read)
    assert done <= 4
    assert len(images.read) == done


def test_no_frames() -> None:
    assert list(decoded([], 2, 4)) == []
