"""Crops of partly decoded JPEG frames are those of whole frames."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from alpharefine.crops import GEOMETRIES, Window
from alpharefine.data.augmentation import PairAugmentation
from alpharefine.data.images import decode_image, decode_region
from alpharefine.data.jpeg import jpeg_header
from alpharefine.data.lasot import LaSOT
from alpharefine.data.mask_video import Saliency
from alpharefine.data.pairs import Frame, PairDataset, PairSource
from alpharefine.data.reader import Reader
from alpharefine.errors import UserError
from alpharefine.options import GeometryName

PATH = Path("a.jpg")
SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def scene(height: int, width: int) -> np.ndarray:
    """A picture with smooth areas, edges and fine texture."""
    rng = np.random.default_rng(3)
    rough = cv2.resize(rng.integers(0, 256, (9, 16, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(30):
        x, y, radius = (int(v) for v in rng.integers(0, [width, height, width // 10]))
        cv2.circle(rough, (x, y), radius + 2, [int(v) for v in rng.integers(0, 256, 3)], -1)
    return np.clip(rough + rng.normal(0, 4, rough.shape), 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, *options: int) -> bytes:
    return bytes(cv2.imencode(".jpg", image, options)[1])


FORMATS = {
    f"{name}{', progressive' * progressive}{', restart markers' * (interval > 0)}": (
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor),
        *(cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_RST_INTERVAL, interval),
    )
    for (name, factor), progressive, interval in product(
        {"4:4:4": 0x111111, "4:2:2": 0x211111, "4:2:0": 0x221111, "4:4:0": 0x121111, "4:1:1": 0x411111}.items(),
        (0, 1),
        (0, 5),
    )
}

WINDOWS = [
    Window(50, 40, 300, 100),
    Window(-40, -60, 200, 100),
    Window(0, 100, 90, 31),
    Window(0, 100, 90, 44),  # its last row is the last but one of a block
    Window(300, 100, 90, 45),
    Window(100, 205, 90, 30),
    Window(100, 300, 50, 50),
    Window(10, -99, 50, 60),
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("name", FORMATS)
def test_crops_of_the_upper_rows_are_exact(name: str, geometry: GeometryName) -> None:
    content = jpeg(scene(237, 411), *FORMATS[name])
    image = decode_image(content, PATH)
    for window in WINDOWS:
        box_xywh = np.array([window.x0 + window.width / 4, window.y0 + window.height / 4, *window_size(window) / 2])
        around = GEOMETRIES[geometry].window.around(box_xywh)
        region = decode_region(content, PATH, [around], reduced=True)
        assert np.array_equal(region.cut(around), around.cut(image))
        assert region.image_size == (237, 411)
        assert region.reduction == 1
        bottom = around.y0 + around.height
        assert len(region.pixels) == 237 or 0 < len(region.pixels) <= max(bottom, 0) + 16


def window_size(window: Window) -> np.ndarray:
    return np.array([window.width, window.height], dtype=np.float64)


def test_gray_frames_are_exact() -> None:
    content = jpeg(scene(120, 160)[..., 1])
    window = Window(20, 10, 60, 50)
    region = decode_region(content, PATH, [window], reduced=True)
    assert len(region.pixels) < 120
    assert np.array_equal(region.cut(window), window.cut(decode_image(content, PATH)))


@pytest.mark.parametrize("mode", ["CMYK", "png"])
def test_other_formats_are_decoded_whole(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(scene(120, 160))
    path = tmp_path / ("a.png" if mode == "png" else "a.jpg")
    (picture if mode == "png" else picture.convert(mode)).save(path)
    content = path.read_bytes()
    assert jpeg_header(content) is None
    region = decode_region(content, path, [Window(0, 0, 60, 20)], reduced=True)
    assert np.array_equal(region.pixels, decode_image(content, path))


def test_orientation_is_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(scene(120, 160)).save(tmp_path / "a.jpg", exif=exif)
    content = (tmp_path / "a.jpg").read_bytes()
    window = Window(100, 20, 60, 80)
    region = decode_region(content, PATH, [window], reduced=True)
    assert region.image_size == (120, 160)
    assert np.array_equal(region.cut(window), window.cut(decode_image(content, PATH)))


@pytest.mark.parametrize(
    ("windows", "reduction"),
    [
        ([Window(0, 0, 512, 512)], 2),
        ([Window(0, 0, 511, 900)], 1),
        ([Window(0, 0, 2000, 1024)], 4),
        ([Window(0, 0, 2048, 2048)], 8),
        ([Window(0, 0, 9000, 9000)], 8),
        ([Window(0, 0, 2048, 2048), Window(0, 0, 600, 600)], 2),
    ],
)
def test_no_pixel_is_enlarged_by_the_reduction(windows: list[Window], reduction: int) -> None:
    content = jpeg(scene(101, 203))
    region = decode_region(content, PATH, windows, reduced=True)
    assert region.reduction == reduction
    assert region.pixels.shape[:2] == (-(-101 // reduction), -(-203 // reduction))
    whole = decode_region(content, PATH, windows, reduced=False)
    assert whole.reduction == 1
    assert np.array_equal(whole.pixels, decode_image(content, PATH))


@pytest.mark.parametrize("x0", [-300, 0, 100, 701])
@pytest.mark.parametrize(("width", "height"), [(512, 512), (800, 530), (1025, 1024), (3000, 2200)])
def test_reduced_crops_are_close_and_not_shifted(x0: int, width: int, height: int) -> None:
    content = jpeg(scene(721, 1281), cv2.IMWRITE_JPEG_QUALITY, 95)
    image, window = decode_image(content, PATH), Window(x0, 37, width, height)
    region = decode_region(content, PATH, [window], reduced=True)
    assert region.reduction > 1
    reduced = region.cut(window).astype(int)
    smooth = cv2.resize(framed(image, window), (256, 256), interpolation=cv2.INTER_AREA).astype(
        int
    )  # every pixel counts, as in the reduction
    assert np.abs(reduced - smooth).mean() < 3
    assert np.abs(reduced - window.cut(image)).mean() < 6
    shifts = [
        np.abs(np.roll(reduced, n, axis)[3:-3, 3:-3] - smooth[3:-3, 3:-3]).mean() for axis in (0, 1) for n in (-1, 1)
    ]
    assert min(shifts) > 1.3 * np.abs(reduced - smooth)[3:-3, 3:-3].mean()


def framed(image: np.ndarray, window: Window) -> np.ndarray:
    """The pixels of a window, black outside of the image."""
    padded = np.zeros((window.height, window.width, 3), np.uint8)
    left, top = max(window.x0, 0), max(window.y0, 0)
    part = image[top : window.y0 + window.height, left : window.x0 + window.width]
    padded[top - window.y0 :, left - window.x0 :][: len(part), : part.shape[1]] = part
    return padded


def test_a_damaged_header_is_one_line() -> None:
    content = bytearray(jpeg(scene(60, 80)))
    header = jpeg_header(bytes(content))
    assert header is not None
    content[header.position + 11] = 0xFF  # sampling factors out of range
    with pytest.raises(UserError, match=r"a\.jpg: cannot decode this image \(.*\); restore it"):
        decode_region(bytes(content), PATH, [Window(0, 0, 9, 9)], reduced=True)


class Whole(PairSource):
    """The reference: frames are decoded whole."""

    def draw(self, rng: np.random.Generator) -> tuple[Frame, Frame]:  # type: ignore[override]
        template, search = super().draw(rng)
        whole = search.load()
        return (whole, whole) if template is search else (template.load(), whole)


def readers(data_root: Path) -> list[Reader]:
    found: list[Reader] = [LaSOT(data_root / "lasot"), Saliency(data_root / "ecssd")]
    if SHARED.is_dir():
        found += [LaSOT(SHARED / "lasot"), Saliency(SHARED / "ecssd")]
    return found


def test_pairs_are_those_of_whole_frames(data_root: Path, tmp_path: Path) -> None:
    for reader in readers(data_root):
        ours, plain = (
            PairDataset([source(reader, tmp_path)], [1.0], PairAugmentation(flip_prob=0.5), num_pairs=10)
            for source in (PairSource, Whole)
        )
        for i in range(12):
            pair, reference = ours[i], plain[i]
            for field in ("template_xyxy", "target_xyxy", "mask", "has_mask"):
                assert getattr(pair, field).equal(getattr(reference, field)), field
            for field in ("template", "search"):
                difference = (getattr(pair, field).int() - getattr(reference, field).int()).abs().float()
                assert difference.mean() < 3
