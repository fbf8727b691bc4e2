"""Properties of the parsers, and a fuzz run: whatever the bytes are, only a `UserError` comes out."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from alpharefine.data.archives import text_files
from alpharefine.data.coco import COCO
from alpharefine.data.frames import frame_order, frame_times
from alpharefine.data.images import read_image, read_label_image
from alpharefine.data.index import open_index
from alpharefine.data.picture_files import damage
from alpharefine.data.reader import SequenceRecord
from alpharefine.data.text import format_rows, parse_rows, read_flags, read_names, read_rows, row_faults
from alpharefine.errors import UserError
from tests.data.numbered import Numbered

CORPUS = Path(__file__).parent / "corpus"

QUICK = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)

ROW_TEXTS = sorted(path.read_text() for path in (CORPUS / "rows").iterdir())


def float_rows(columns: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, st.tuples(st.integers(0, 6), st.just(columns)), elements=st.floats(width=64))


@QUICK
@given(rows=st.integers(1, 7).flatmap(float_rows))
def test_rows_survive_formatting(rows: np.ndarray) -> None:
    found = parse_rows(format_rows(rows), "here", rows.shape[1], codes=False)
    np.testing.assert_array_equal(found, rows)


@QUICK
@given(
    rows=arrays(np.int64, st.tuples(st.integers(1, 5), st.just(4)), elements=st.integers(-999, 9999)),
    separator=st.sampled_from([",", ", ", ";", " ; ", "\t", " ", "   "]),
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    wrap=st.sampled_from(["{}", "[{}]", "({})", "[{}],", " {} ", "{},"]),
    blank=st.integers(0, 3),
)
def test_every_way_to_write_a_row_is_read(rows: np.ndarray, separator: str, ending: str, wrap: str, blank: int) -> None:
    lines = [wrap.format(separator.join(map(str, row))) for row in rows]
    np.testing.assert_array_equal(parse_rows(ending.join(lines) + ending * blank, "here"), rows)


@QUICK
@given(corners=arrays(np.float64, st.tuples(st.integers(1, 4), st.just(8)), elements=st.floats(-1e6, 1e6)))
def test_the_box_of_a_polygon_encloses_it(corners: np.ndarray) -> None:
    x, y, w, h = parse_rows(format_rows(corners), "here").T
    np.testing.assert_array_equal(x, corners[:, ::2].min(1))
    np.testing.assert_array_equal(y, corners[:, 1::2].min(1))
    np.testing.assert_allclose(x + w, corners[:, ::2].max(1), atol=1e-6)
    np.testing.assert_allclose(y + h, corners[:, 1::2].max(1), atol=1e-6)


@QUICK
@given(text=st.text() | st.text("0123456789.,-;+ \t\r\n[]()eEnaif_x#", max_size=60), columns=st.integers(1, 8))
def test_any_text_is_rows_or_a_user_error(text: str, columns: int) -> None:
    for codes in (False, True):
        with suppress(UserError):
            assert parse_rows(text, "here", columns, codes=codes).shape[1] == columns
    faults = row_faults(text, columns)
    message = message_of(lambda _: parse_rows(text, "here", columns, codes=False), Path())
    assert f"row {min(faults)}:" in message if faults else not message


@QUICK
@given(data=st.binary(max_size=80) | st.sampled_from(ROW_TEXTS).map(str.encode), cut=st.integers(0, 200))
def test_any_file_is_text_or_a_user_error(tmp_path: Path, data: bytes, cut: int) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(data[:cut])
    for read in (read_rows, read_flags, read_names):
        with suppress(UserError):
            read(path)


@QUICK
@given(numbers=st.lists(st.integers(0, 10**12), min_size=1, max_size=9, unique=True), digits=st.integers(1, 14))
def test_names_are_ordered_by_their_numbers(numbers: list[int], digits: int) -> None:
    names = sorted((f"frame{number:0{digits}d}.jpg" for number in numbers), key=frame_order)
    assert [int(name[5:-4]) for name in names] == sorted(numbers)
    times = frame_times(names)
    assert times.dtype == np.int32
    assert (np.diff(times) > 0).all()


class Given(Numbered):
    """Reader of given records."""

    given: list[SequenceRecord]

    def records(self):  # type: ignore[no-untyped-def]
        return iter(self.given)


@QUICK
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4), seed=st.integers(0, 2**31))
def test_the_index_holds_what_the_reader_yields(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], seed: int
) -> None:
    root, rng = tmp_path_factory.mktemp("index"), np.random.default_rng(seed)
    reader = Given(root, [])
    reader.given = [
        SequenceRecord(
            f"s{number}",
            [f"{rng.integers(10**6)}.jpg" for _ in range(length)],
            rng.uniform(-9, 999, (length, 4)).astype(np.float32).astype(np.float64),
            rng.random(length) < 0.5,
            object_id=number,
        )
        for number, length in enumerate(lengths)
    ]
    index = open_index(reader, root / "cache")
    for number, record in enumerate(reader.given):
        frames = index.frames(number)
        assert (index.names[number], index.object_ids[number]) == (record.name, record.object_id)
        assert index.frame_names[frames].tolist() == record.frame_names
        np.testing.assert_array_equal(index.boxes_xywh[frames], record.boxes_xywh)
        np.testing.assert_array_equal(index.visible[frames], record.visible)
        np.testing.assert_array_equal(index.times[frames], record.times)
    np.testing.assert_array_equal(index.num_visible(), [record.visible.sum() for record in reader.given])


# ---- fuzz ----------------------------------------------------------------------------------------------------------


def pictures() -> dict[str, bytes]:
    image = np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)
    found = {suffix: bytes(cv2.imencode(suffix, image)[1]) for suffix in (".jpg", ".png", ".bmp", ".webp")}
    for mode in ("P", "L", "1", "LA", "RGBA", "I;16"):
        picture = Image.fromarray(image).convert("L" if mode == "I;16" else mode)
        if mode == "I;16":
            picture = Image.fromarray(np.array(picture).astype(np.uint16) * 99)
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        found[mode] = stream.getvalue()
    return found


PICTURES = pictures()


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes of a valid file with some changed, removed or inserted."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        position = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["set", "cut", "remove", "insert", "zero"])):
            case "set" if data:
                data[position] = draw(st.integers(0, 255))
            case "cut":
                del data[position:]
            case "remove":
                del data[position : position + draw(st.integers(1, 40))]
            case "insert":
                data[position:position] = draw(st.binary(min_size=1, max_size=20))
            case _:
                data[position : position + 30] = bytes(len(data[position : position + 30]))
    return bytes(data)


def message_of(read: Callable[[Path], object], path: Path) -> str:
    try:
        read(path)
    except UserError as error:
        return str(error)
    return ""


@settings(QUICK, max_examples=40)
@given(data=st.data())
@pytest.mark.parametrize("name", PICTURES)
def test_mutated_pictures(tmp_path: Path, name: str, data: st.DataObject) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(data.draw(mutated(PICTURES[name])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for read in (read_image, read_label_image):
            message = message_of(read, path)
            assert "\n" not in message
            assert not message or str(path) in message


@QUICK
@given(content=st.binary(max_size=60) | st.binary(max_size=40).map(b"\xff\xd8".__add__))
def test_damage_of_any_bytes_is_a_line(content: bytes) -> None:
    assert "\n" not in damage(content)


COCO_TEXT = (CORPUS / "instances.json").read_bytes()

VALUES = st.none() | st.booleans() | st.integers(-5, 99) | st.floats() | st.text(max_size=3) | st.just([]) | st.just({})


@QUICK
@given(data=st.data())
def test_mutated_coco(tmp_path: Path, data: st.DataObject) -> None:
    (tmp_path / "annotations").mkdir(exist_ok=True)
    (tmp_path / "train2017").mkdir(exist_ok=True)
    content = COCO_TEXT
    if data.draw(st.booleans()):
        content = data.draw(mutated(content))
    else:
        tree = json.loads(content)
        part = tree[data.draw(st.sampled_from(["images", "annotations"]))]
        entry = part[data.draw(st.integers(0, len(part) - 1))]
        entry[data.draw(st.sampled_from(sorted(entry)))] = data.draw(VALUES | st.lists(VALUES, max_size=5))
        content = json.dumps(tree).encode()
    (tmp_path / "annotations" / "instances_train2017.json").write_bytes(content)
    for masks in (False, True):
        with suppress(UserError):
            list(COCO(tmp_path, masks=masks).records())


@QUICK
@given(data=st.data())
@pytest.mark.parametrize("name", sorted(path.name for path in (CORPUS / "archives").iterdir()))
def test_mutated_archives(tmp_path: Path, name: str, data: st.DataObject) -> None:
    (tmp_path / name).write_bytes(data.draw(mutated((CORPUS / "archives" / name).read_bytes())))
    with warnings.catch_warnings(), suppress(UserError):
        warnings.simplefilter("ignore")
        list(text_files(tmp_path / name))
