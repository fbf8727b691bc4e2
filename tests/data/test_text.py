from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from time import process_time

import numpy as np
import pytest

from alpharefine.data.text import format_rows, parse_rows, read_flags, read_names, read_rows, row_faults
from alpharefine.errors import UserError


@pytest.mark.parametrize(
    "text",
    [
        "1,2,3,4\n5,6,7.5,8\n",
        "1\t2\t3\t4\r\n5\t6\t7.5\t8",
        "  1 2  3 4 \n5 6 7.5 8\n\n\n",
        "1;2;3;4\n5 ; 6 ; 7.5 ; 8\n",
        "\ufeff1, 2, 3, 4\n5,6,7.5e0,+8",
    ],
)
def test_any_separator_is_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.txt"
    path.write_text(text, encoding="utf-8", newline="")
    rows = read_rows(path)
    assert rows.dtype == np.float64
    np.testing.assert_array_equal(rows, [[1, 2, 3, 4], [5, 6, 7.5, 8]])


def test_nan_and_negative_numbers_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text("NaN,nan\n-1,0\n")
    np.testing.assert_array_equal(read_rows(path, columns=2), [[np.nan, np.nan], [-1, 0]])


def test_one_column_and_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text("0\n1\n")
    np.testing.assert_array_equal(read_rows(path, columns=1), [[0], [1]])
    path.write_text("\n")
    assert read_rows(path).shape == (0, 4)


@pytest.mark.parametrize(
    ("text", "row", "received"),
    [
        pytest.param("1,2,3,4\n1,2,3\n", 2, "1,2,3", id="three numbers"),
        pytest.param("1,2,3,4,5\n", 1, "1,2,3,4,5", id="five numbers"),
        pytest.param("1,2,3,4\n1,2,x,4\n", 2, "1,2,x,4", id="a letter"),
        pytest.param("1,2,,4\n", 1, "1,2,,4", id="a missing value"),
        pytest.param("1,2,3,4\n\n1,2,3,4\n", 2, "", id="an empty line in between"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, text: str, row: int, received: str) -> None:
    path = tmp_path / "rows.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"rows\.txt, row {row}: a row must be 4 numbers, got '{received}'"):
        read_rows(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.txt: no such file"):
        read_rows(tmp_path / "absent.txt")


def test_a_picture_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "picture.txt"
    path.write_bytes(b"1,2,\xff\xd8")
    with pytest.raises(UserError, match=r"picture\.txt is not a text file \(byte 4\)"):
        read_rows(path)


@pytest.mark.parametrize(
    "text", ["0,1,0", "0\n1\n0\n", "0, 1, 0,\n"], ids=["one line", "one a line", "comma at the end"]
)
def test_flags_on_one_line_or_many(tmp_path: Path, text: str) -> None:
    path = tmp_path / "flags.txt"
    path.write_text(text)
    flags = read_flags(path)
    assert flags.dtype == bool
    assert flags.tolist() == [False, True, False]


def test_a_strange_flag_is_named(tmp_path: Path) -> None:
    path = tmp_path / "flags.txt"
    path.write_text("0,2,1")
    with pytest.raises(UserError, match=r"flags\.txt: a flag must be 0 or 1, got '2'"):
        read_flags(path)


@pytest.mark.parametrize("text", ["0\n1\n01\n", "0,1,x", "0,-1", "2"])
def test_flags_hold_zero_and_one_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "flags.txt"
    path.write_text(text)
    with pytest.raises(UserError, match="a flag must be 0 or 1"):
        read_flags(path)


def test_flags_apart_by_uncommon_whitespace_and_no_flags(tmp_path: Path) -> None:
    path = tmp_path / "flags.txt"
    path.write_text("0\v1\u00a01", encoding="utf-8")
    assert read_flags(path).tolist() == [False, True, True]
    path.write_text("\n")
    assert read_flags(path).shape == (0,)


@pytest.mark.parametrize("other", ["0.25", "0.12345678901234567"])
@pytest.mark.parametrize(
    "value",
    [
        *["0", "-0", "007", "-.5", "3.", "0.1", "366.0000", "-1234.5678", "123456789012345", "99999999.9999999"],
        *["1e3", "1E5", "1.5E-5", "+8", "inf", "-NaN", "9007199254740993", "0.1234567890123456789", "\u0663"],
    ],
)
def test_values_are_those_of_float(value: str, other: str) -> None:
    rows = parse_rows(f"5,{value}\n{value},{other}", "here", columns=2)
    np.testing.assert_array_equal(rows, [[5, float(value)], [float(value), float(other)]])
    assert np.array_equal(np.signbit(rows[:, ::-1].diagonal()), [np.signbit(float(value))] * 2)


@pytest.mark.parametrize(
    "value", ["-", ".", "-.", "1.2.3", "1-2", "--1", "1.-2", "1.5" + 20 * "-", "", "1e", "0x1", "1 2", "1_0"]
)
def test_a_malformed_value_is_found_among_plain_rows(value: str) -> None:
    with pytest.raises(UserError, match="here, row 3: a row must be 3 numbers"):
        parse_rows(f"1,2,3\n4,5,6\n7,{value},9\n1,2,3\n", "here", columns=3)


def test_a_separator_alone_is_no_row() -> None:
    with pytest.raises(UserError, match="here, row 1: a row must be 1 number, got ';'"):
        parse_rows(";", "here", columns=1)


def test_rows_of_unequal_lengths_that_add_up_are_refused() -> None:
    with pytest.raises(UserError, match="here, row 11: a row must be 2 numbers, got '1,2,3'"):
        parse_rows("1,2,3\n4\n", "here", columns=2, first_row=11)


def test_random_decimals_are_decoded_exactly() -> None:
    rng = np.random.default_rng(0)
    texts = [f"{value:.{digits}f}" for value in rng.normal(0, 500, 400) for digits in (0, 1, 2, 4, 11)]
    text = "\n".join("\t".join(texts[start : start + 4]) for start in range(0, len(texts), 4))
    np.testing.assert_array_equal(parse_rows(text, "here").ravel(), [float(value) for value in texts])


def test_numbers_of_many_digits_are_decoded_exactly_and_together(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 500, (400, 4)) * 10.0 ** rng.integers(-20, 2, (400, 4))
    text = format_rows(rows)
    assert "e-" in text
    monkeypatch.setattr("alpharefine.data.text._Grammar", None)  # the reader of single rows, 7 times as slow
    np.testing.assert_array_equal(parse_rows(text, "here"), rows)
    np.testing.assert_array_equal(parse_rows(format_rows(rows.astype(np.float32)), "here"), rows.astype(np.float32))


ROWS = [[1, 2, 3, 4], [5, 6, 7.5, 8]]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("1,2,3,4,\n5,6,7.5,8,\n", id="separator at the end"),
        pytest.param("1\t2\t3\t4\t\r\n5\t6\t7.5\t8\t\r\n", id="tab at the end"),
        pytest.param("1;2;3;4;\r\n5;6;7.5;8;", id="semicolon at the end"),
        pytest.param("1,2,3,4,\n5,6,7.5,8", id="separator at the end of some rows"),
        pytest.param("[1, 2, 3, 4]\n[5, 6, 7.5, 8]\n", id="square brackets"),
        pytest.param("(1, 2, 3, 4)\n(5, 6, 7.5, 8)\n", id="round brackets"),
        pytest.param("[[1, 2, 3, 4],\n [5, 6, 7.5, 8]]\n", id="a list of lists"),
        pytest.param("[1 2 3 4]\n[ 5.  6.  7.5 8. ]\n", id="a numpy array"),
        pytest.param("1,2,3,4\r5,6,7.5,8\r", id="breaks of an old Mac"),
        pytest.param("1,2,3,4\n5,6,7.5,8\n\n \t\n\r\n", id="blank last lines"),
        pytest.param("1e0,2.0E+00,30e-1,4\n5,6,7.5,8", id="scientific notation"),
        pytest.param("1,2,4,2,4,6,1,6\n5,6,12.5,6,12.5,14,5,14\n", id="polygons"),
        pytest.param("4 6 1 6 1 2 4 2 \n5 6 12.5 6 12.5 14 5 14.0e0\n", id="polygons in another order"),
        pytest.param("1,2,4,2,4,6,1,6\n5,6,7.5,8\n", id="a polygon and a box"),
    ],
)
def test_one_grammar(text: str) -> None:
    np.testing.assert_array_equal(parse_rows(text, "here"), ROWS)
    assert row_faults(text) == {}


def test_codes_of_vot_are_rows_without_a_box(tmp_path: Path) -> None:
    rows = parse_rows("1,2,3,4\n2\n0\n0.0000\n1\n5,6,7.5,8\n", "here")
    np.testing.assert_array_equal(rows, [ROWS[0], *[[np.nan] * 4] * 4, ROWS[1]])
    (tmp_path / "truth.txt").write_text("1,2,3,4\n0\n")
    with pytest.raises(UserError, match=r"truth\.txt, row 2: a row must be 4 numbers, got '0'"):
        read_rows(tmp_path / "truth.txt")
    with pytest.raises(UserError, match="here: every row is one number, a code of VOT, and none is a box"):
        parse_rows("0\n1\n1\n", "here")


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        ("x,y,w,h", "this looks like a header: remove this line"),
        ("# x y width height", "this looks like a header: remove this line"),
        ("1,10,20,30,40", "one column may be an index or a score: keep the 4 columns of the box"),
        ("10,20,30,40,0.93", "the last column may be a score: keep the 4 columns of the box"),
        ("1,1,10,20,30,40,1,-1,-1,-1", "keep the 4 columns of the box, without indices, labels and scores"),
        ("1,5;2,5;3,5;4,5", "numbers must have a decimal point, not a comma: correct the file"),
        ("1,2,3", "correct the file"),
        ("1,2,3,4,,", "correct the file"),
        ("[1,2,3,4", "correct the file"),
        ("1,[2],3,4", "correct the file"),
        ("3", "correct the file"),
    ],
)
def test_the_remedy_names_the_likely_cause(row: str, hint: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_rows(f"{row}\n1,2,3,4\n", "here")
    assert str(raised.value) == f"here, row 1: a row must be 4 numbers, got {row!r}; {hint}."


def test_every_faulty_row_is_found() -> None:
    faults = row_faults("1,2,3,4\n1,2,3\n5,6,7,8\nx\n")
    assert list(faults) == [2, 4]
    assert faults[2] == "row 2: a row must be 4 numbers, got '1,2,3'; correct the file."


@pytest.mark.parametrize("text", ["[0, 1, 0]", "0;1;0\n", "(0 1 0)"])
def test_flags_in_brackets(tmp_path: Path, text: str) -> None:
    (tmp_path / "flags.txt").write_text(text)
    assert read_flags(tmp_path / "flags.txt").tolist() == [False, True, False]


def test_a_name_may_have_spaces(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("my clip 1\r\n\r\n  other \n")
    assert read_names(tmp_path / "names.txt") == ["my clip 1", "other"]


@pytest.mark.parametrize("text", ["[" + " " * 200_000, "1" + " " * 200_000 + "2", "," * 200_000, "9" * 200_000])
def test_long_lines_take_no_time(text: str) -> None:
    start = process_time()
    with suppress(UserError):
        parse_rows(text, "here")
    assert process_time() - start < 1
