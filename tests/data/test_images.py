"""Damaged pictures are refused, and mask images are read as the labels that they unambiguously hold."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from alpharefine.data.images import read_image, read_label_image, read_labels
from alpharefine.data.picture_files import damage
from alpharefine.errors import UserError

NOISE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def encoded(suffix: str, image: np.ndarray = NOISE, *options: int) -> bytes:
    return bytes(cv2.imencode(suffix, image, options)[1])


def with_thumbnail(content: bytes) -> bytes:
    thumbnail = encoded(".jpg", NOISE[:8, :8])
    return content[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2) + thumbnail + content[2:]


PICTURES = {
    "jpeg": encoded(".jpg"),
    "progressive jpeg": encoded(".jpg", NOISE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restart markers": encoded(".jpg", NOISE, cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
    "thumbnail": with_thumbnail(encoded(".jpg")),
    "png": encoded(".png"),
    "bmp": encoded(".bmp"),
}


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("appended", [b"", b"\0" * 999, b"\r\n", b"SEFH camera data \xff\x00"], ids=len)
def test_a_whole_picture_may_be_followed_by_anything(tmp_path: Path, name: str, appended: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(PICTURES[name] + appended)
    assert read_image(tmp_path / "a.jpg").shape == (60, 80, 3)


@pytest.mark.parametrize(
    ("name", "filled"),
    [
        (name, filled) for name in PICTURES for filled in (False, True) if not (filled and name == "bmp")
    ],  # no end marker
)
@pytest.mark.parametrize("share", [0.002, 0.1, 1 / 3, 0.5, 0.97])
@pytest.mark.parametrize("read", [read_image, read_label_image])
def test_a_cut_picture_is_refused(tmp_path: Path, name: str, filled: bool, share: float, read: object) -> None:
    content = PICTURES[name]
    kept = content[: int(share * len(content))]
    (tmp_path / "a.png").write_bytes(kept + bytes(filled * (len(content) - len(kept))))
    with pytest.raises(UserError, match=r"a\.png: .*restore it") as raised:
        read(tmp_path / "a.png")  # type: ignore[operator]
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("read", [read_image, read_label_image])
def test_a_changed_byte_in_a_png_is_found(tmp_path: Path, read: object) -> None:
    content = bytearray(encoded(".png", NOISE[..., 0]))
    content[len(content) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match="the checksum of a PNG chunk is wrong"):
        read(tmp_path / "a.png")  # type: ignore[operator]


def test_the_fault_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(PICTURES["jpeg"][:-2])
    with pytest.raises(UserError, match=r"a\.jpg: this image is damaged \(the JPEG end marker is missing, so the"):
        read_image(tmp_path / "a.jpg")
    assert damage(PICTURES["bmp"][:-1]).endswith("bytes, the file has 14453")


def test_a_picture_of_too_many_pixels_is_one_line(tmp_path: Path) -> None:
    content = bytearray(PICTURES["bmp"])
    content[18:26] = (2**15).to_bytes(4, "little") * 2
    content[30:34] = (1).to_bytes(4, "little")
    (tmp_path / "a.bmp").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.bmp: cannot decode this image"):
        read_image(tmp_path / "a.bmp")


RING = np.zeros((40, 50), np.uint8)
RING[8:20, 10:30] = 1
TWO = RING.copy()
TWO[25:36, 20:44] = 2


def save(path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:
    Image.fromarray(pixels, mode).save(path) if mode is None else Image.fromarray(pixels).convert(mode).save(path)
    return path


def painted(labels: np.ndarray, *colors: tuple[int, ...]) -> np.ndarray:
    return np.array(colors, np.uint8)[labels]


def smoothed(labels: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur((labels > 0).astype(np.uint8) * 255, (5, 5), 1.5)


BLACK, WHITE = (0, 0, 0), (255, 255, 255)

ONE_TARGET = {
    "gray": painted(RING, (0,), (255,))[..., 0],
    "gray 0 and 1": RING,
    "gray 0 and 200": RING * np.uint8(200),
    "RGB": painted(RING, BLACK, WHITE),
    "RGB red": painted(RING, BLACK, (255, 0, 0)),
    "RGB of the palette": painted(RING, BLACK, (128, 0, 0)),
    "RGBA opaque": painted(RING, (*BLACK, 255), (*WHITE, 255)),
    "RGBA with clear background": painted(RING, (0, 0, 0, 0), (10, 200, 30, 255)),
    "alpha of white": painted(RING, (*WHITE, 0), (*WHITE, 255)),
    "alpha of black": painted(RING, (*BLACK, 0), (*BLACK, 255)),
    "LA": painted(RING, (0, 255), (255, 255)),
    "16 bits": RING.astype(np.uint16) * np.uint16(65535),
    "16 bits 0 and 255": RING.astype(np.uint16) * np.uint16(255),
    "16 bits 0 and 1": RING.astype(np.uint16),
    "binary": RING.astype(bool),
}


@pytest.mark.parametrize("name", ONE_TARGET)
def test_masks_of_one_target(tmp_path: Path, name: str) -> None:
    assert np.array_equal(read_label_image(save(tmp_path / "a.png", ONE_TARGET[name])), RING)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_smoothed_edges_are_cut_at_mid_gray(tmp_path: Path, suffix: str, mode: str) -> None:
    gray = smoothed(TWO)
    found = read_label_image(save(tmp_path / f"a.{suffix}", gray, mode))
    assert found.max() == 1
    assert (found != (gray > 127)).sum() <= (20 if suffix == "jpg" else 0)


LABELS = {
    "16 bits": TWO.astype(np.uint16),
    "RGB of the palette": painted(TWO, BLACK, (128, 0, 0), (0, 128, 0)),
    "RGBA of the palette": painted(TWO, (*BLACK, 255), (128, 0, 0, 255), (0, 128, 0, 255)),
}


@pytest.mark.parametrize("name", LABELS)
def test_objects_are_kept_apart(tmp_path: Path, name: str) -> None:
    assert np.array_equal(read_label_image(save(tmp_path / "a.png", LABELS[name])), TWO)


def inverted_palette() -> Image.Image:
    picture = Image.fromarray(1 - RING).convert("P")
    picture.putdata((1 - RING).ravel().tolist())
    picture.putpalette([255, 255, 255, 0, 0, 0])
    return picture


AMBIGUOUS = {
    "gray levels": (painted(TWO, (0,), (128,), (255,))[..., 0], r"areas of middle gray \(128\)"),
    "three gray levels": (painted(TWO, (0,), (85,), (170,))[..., 0], r"areas of middle gray \(85, 170\)"),
    "RGB gray levels": (painted(TWO, BLACK, (128, 128, 128), WHITE), r"areas of middle gray \(128\)"),
    "gray labels": (TWO, "a grayscale mask must be brighter than 127 on the target, but its maximum is 2"),
    "RGB": (painted(TWO, BLACK, (255, 0, 0), (0, 255, 0)), "this color mask has 3 colors"),
    "RGB without black": (painted(RING, WHITE, (255, 0, 0)), "this color mask has 2 colors"),
    "RGBA": (painted(TWO, (9, 9, 90, 0), (255, 0, 0, 255), (90, 0, 0, 128)), "both the colors and the transparency"),
    "16 bits": (TWO.astype(np.uint16) * np.uint16(1000), "must have labels up to 255, got 2000"),
    "white background in a palette": (inverted_palette(), "index 0 is the background, but its color is 255,255,255"),
    "CMYK": (Image.new("CMYK", (9, 9)), "a mask of mode CMYK is not supported"),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_ambiguous_masks_are_refused_by_name(tmp_path: Path, name: str) -> None:
    pixels, message = AMBIGUOUS[name]
    path = tmp_path / ("a.jpg" if name == "CMYK" else "a.png")
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path)
    with pytest.raises(UserError, match=rf"{path.name}: .*{message}.*; save") as raised:
        read_label_image(path)
    assert "\n" not in str(raised.value)


def test_the_color_of_the_only_target(tmp_path: Path) -> None:
    assert read_labels(save(tmp_path / "a.png", ONE_TARGET["RGB red"])).target_color == (255, 0, 0)
    assert read_labels(save(tmp_path / "b.png", smoothed(RING))).target_color is None
    assert read_labels(save(tmp_path / "c.png", LABELS["RGB of the palette"])).target_color is None
