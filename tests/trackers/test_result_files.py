"""Result files in the layouts and number formats of the toolkits, in folders and archives."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from alpharefine.data import archives
from alpharefine.errors import UserError
from alpharefine.trackers import result_files
from alpharefine.trackers.result_files import PublishedResults, find_results, require_xywh, results_of_one

NAMES = ["cat-1", "dog-2"]
BOXES = np.array([[1, 2, 30, 40], [3, 4, 31, 41], [5, 6, 32, 42]], dtype=np.float64)
FIRST = np.array([1.5, 2.5, 30, 40])


def text(number: str = "{:.4f}", separator: str = ",", shift: float = 0) -> str:
    return "".join(separator.join(number.format(value) for value in row) + "\n" for row in (BOXES + shift).tolist())


FLOATS, INTEGERS = text(), text("{:.0f}", "\t")
TIMES = "0.1\n0.2\n0.3\n"
# Files by the name that the tracker is then called by, as the toolkits write them.
LAYOUTS: dict[str, tuple[dict[str, str], list[str]]] = {
    "LaSOT toolkit": ({f"ATOM_tracking_result/{name}.txt": text("{:.0f}") for name in NAMES}, ["ATOM"]),
    "pysot": ({f"model/{name}.txt": FLOATS for name in NAMES}, ["model"]),
    "pysot, GOT-10k": (
        {f"model/{name}/{name}_001.txt": FLOATS for name in NAMES}
        | {f"model/{name}/{name}_time.txt": TIMES for name in NAMES},
        ["model"],
    ),
    "pysot, VOT2018-LT": (
        {f"model/longterm/{name}/{name}_001.txt": "1\n" + text().split("\n", 1)[1] for name in NAMES},
        ["model"],
    ),
    "pytracking": (
        {
            f"dimp/dimp50_{run:03d}/{name}{what}.txt": rows
            for name in NAMES
            for run in range(2)
            for what, rows in (("", INTEGERS), ("_time", TIMES))
        },
        ["dimp_dimp50_000", "dimp_dimp50_001"],
    ),
    "got10k-toolkit": (
        {
            f"SiamFC/{name}/{name}_{what}.txt": rows
            for name in NAMES
            for what, rows in (("001", text("{:.3f}")), ("002", FLOATS), ("time", "0.1,0.1\n"))
        },
        ["SiamFC_001", "SiamFC_002"],
    ),
    "got10k-toolkit, OTB": (
        {f"SiamFC/{name}.txt": FLOATS for name in NAMES} | {f"SiamFC/times/{name}_time.txt": TIMES for name in NAMES},
        ["SiamFC"],
    ),
    "arena": ({f"LaSOT/AR_dimp/{name}.txt": text("{!r}") for name in NAMES} | {"OTB/AR_dimp/Car4.txt": FLOATS},
              ["LaSOT_AR_dimp"]),
    "this project": (
        {f"ATOM/base/{name}.txt": FLOATS for name in NAMES}
        | {f"ATOM/base/times/{name}.txt": "1,2,3\n" for name in NAMES},
        ["ATOM_base"],
    ),
}  # fmt: skip


def write_folder(folder: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def write_gzipped(folder: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        path = folder / f"{name}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content.encode()))
    return folder


def write_zip(path: Path, files: Mapping[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: Mapping[str, str]) -> Path:
    with tarfile.open(path, f"w:{path.suffix[1:]}") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content.encode()))
    return path


WRITERS: dict[str, Callable[[Path, Mapping[str, str]], Path]] = {
    "folder": lambda root, files: write_folder(root / "results", files),
    "gzip": lambda root, files: write_gzipped(root / "results", files),
    "zip": lambda root, files: write_zip(root / "results.zip", files),
    "tar.gz": lambda root, files: write_tar(root / "results.tar.gz", files),
    "tar.xz": lambda root, files: write_tar(root / "results.tar.xz", files),
}


def boxes_of(tracker: PublishedResults) -> dict[str, np.ndarray]:
    return {name: tracker.boxes_xywh(name, FIRST, len(BOXES)) for name in tracker.files}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path: Path, layout: str, writer: str) -> None:
    files, expected = LAYOUTS[layout]
    place = WRITERS[writer](tmp_path, files)
    before = sorted(tmp_path.rglob("*"))
    trackers = find_results(place, NAMES)
    assert [tracker.name for tracker in trackers] == expected
    for tracker in trackers:
        assert list(tracker.files) == NAMES
        for boxes_xywh in boxes_of(tracker).values():
            np.testing.assert_array_equal(boxes_xywh[1:], BOXES[1:])
            np.testing.assert_array_equal(boxes_xywh[0], FIRST if layout == "pysot, VOT2018-LT" else BOXES[0])
    assert sorted(tmp_path.rglob("*")) == before, "nothing is unpacked"


def test_the_folder_of_one_tracker(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cat-1.txt": FLOATS, "below/dog-2.txt": FLOATS})
    write_gzipped(tmp_path, {"dog-2.txt": INTEGERS})
    tracker = results_of_one(tmp_path, NAMES)
    assert tracker is not None
    assert {name: rows.tolist() for name, rows in boxes_of(tracker).items()} == dict.fromkeys(NAMES, BOXES.tolist())
    assert results_of_one(tmp_path, ["zebra-9"]) is None
    assert results_of_one(tmp_path / "absent", NAMES) is None


def test_trackers_in_folders_and_archives_side_by_side(tmp_path: Path) -> None:
    write_folder(tmp_path, {"ATOM/cat-1.txt": FLOATS, "ECO/dog-2.txt": FLOATS, "readme.txt": "x", "logs/a.txt": "x"})
    write_tar(tmp_path / "results_KCF.tar.xz", {"KCF/cat-1.txt": FLOATS})
    write_zip(tmp_path / "MOSSE.zip", {"cat-1.txt": FLOATS, "__MACOSX/cat-1.txt": "x"})
    found = {tracker.name: list(tracker.files) for tracker in find_results(tmp_path, NAMES)}
    assert found == {"ATOM": ["cat-1"], "ECO": ["dog-2"], "KCF": ["cat-1"], "MOSSE": ["cat-1"]}


def test_archives_of_the_same_content_are_called_after_their_files(tmp_path: Path) -> None:
    for name in ("siam", "dimp"):
        write_zip(tmp_path / f"{name}.zip", {"LaSOT/AR/cat-1.txt": FLOATS})
    assert [tracker.name for tracker in find_results(tmp_path, NAMES)] == ["dimp_LaSOT_AR", "siam_LaSOT_AR"]


def test_the_digest_is_of_what_the_files_hold(tmp_path: Path) -> None:
    files = {f"ATOM/{name}.txt": FLOATS for name in (*NAMES, "cow-3")}
    digests = set()
    for name, writer in WRITERS.items():
        (tmp_path / name).mkdir()
        place = writer(tmp_path / name, files)
        digests |= {find_results(place, NAMES[:chosen])[0].digest for chosen in (1, 2)}
    assert len(digests) == 1
    changed = write_folder(tmp_path / "changed", files | {"ATOM/cow-3.txt": text(shift=1)})
    assert find_results(changed, NAMES)[0].digest not in digests


@pytest.mark.parametrize("separator", [",", "\t", " ", ", ", ";"])
@pytest.mark.parametrize("number", ["{:.0f}", "{:.3f}", "{:.2e}"])
def test_numbers_and_separators(tmp_path: Path, separator: str, number: str) -> None:
    (tmp_path / "cat-1.txt").write_text(text(number, separator) + "9,9,9,9\n")
    results = results_of_one(tmp_path, ["cat-1"])
    assert results is not None
    np.testing.assert_array_equal(results.boxes_xywh("cat-1", FIRST, 3), BOXES)


def test_invalid_boxes_are_returned_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "cat-1.txt").write_text("1,2,3,4\nNaN,nan,NaN,NaN\n0,0,0,0\n5,5,-1,2\n")
    results = results_of_one(tmp_path, ["cat-1"])
    assert results is not None
    rows = results.boxes_xywh("cat-1", FIRST, 4)
    np.testing.assert_array_equal(rows, [[1, 2, 3, 4], [np.nan] * 4, [0, 0, 0, 0], [5, 5, -1, 2]])


@pytest.mark.parametrize("name", ["../../cat-1.txt", "../cat-1.txt", "a/../../b/cat-1.txt", "/tmp/x/cat-1.txt"])
@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_the_names_in_an_archive_are_no_paths(tmp_path: Path, name: str, write: Callable[..., Path]) -> None:
    path = write(tmp_path / ("results.zip" if write is write_zip else "results.tar.gz"), {name: FLOATS})
    if ".." in name:
        with pytest.raises(UserError, match=r"has no cat-1\.txt"):
            find_results(path, NAMES)
    else:
        assert [tracker.name for tracker in find_results(path, NAMES)] == ["tmp_x"]


def test_links_in_an_archive_are_left_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "results.tar", "w") as archive:
        link = tarfile.TarInfo("ATOM/cat-1.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    with pytest.raises(UserError, match=r"has no cat-1\.txt"):
        find_results(tmp_path / "results.tar", NAMES)


# ---- bad input -----------------------------------------------------------------------------------------------------


def test_nothing_found_lists_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "Good.rar").write_bytes(b"Rar!")
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(UserError, match=r"has no cat-1\.txt.* but Good\.rar \(unpack it\), 1 file \.md; "):
        find_results(tmp_path, NAMES)


def test_no_folder_and_no_archive(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    for name in ("absent", "notes.txt"):
        with pytest.raises(UserError, match=rf"--results_dir .*{name} is not a folder or an archive"):
            find_results(tmp_path / name, NAMES)


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar.xz", "a.tar"])
def test_a_damaged_archive(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no archive" * 100)
    with pytest.raises(UserError, match=rf"{name} cannot be unpacked .*get it again"):
        find_results(tmp_path, NAMES)


def test_a_checkpoint_is_no_archive(tmp_path: Path) -> None:
    write_folder(tmp_path, {"ATOM/cat-1.txt": FLOATS})
    (tmp_path / "ATOM" / "net.pth.tar").write_bytes(b"weights")
    assert [tracker.name for tracker in find_results(tmp_path, NAMES)] == ["ATOM"]


def test_a_link_to_nothing(tmp_path: Path) -> None:
    write_folder(tmp_path, {"ATOM/cat-1.txt": FLOATS})
    (tmp_path / "ATOM" / "cat-2.txt").symlink_to(tmp_path / "absent.txt")
    with pytest.raises(UserError, match=r"cat-2\.txt is a link to a file that is not there"):
        find_results(tmp_path, NAMES)


def test_an_archive_cut_short(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = "\n".join(map(str, rng.random(5000)))
    path = write_tar(tmp_path / "a.tar.xz", {"ATOM/cat-1.txt": noise})
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(UserError, match=r"a\.tar\.xz.* (cannot be unpacked|cannot be read) "):
        find_results(path, NAMES)


def test_a_file_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_FILE_SIZE", 20)
    for write, name in ((write_gzipped, "ATOM/cat-1.txt"), (write_folder, "ECO/cat-1.txt")):
        (tracker,) = find_results(write(tmp_path / name[:3], {name: FLOATS}), NAMES)
        with pytest.raises(UserError, match=r"cat-1\.txt(\.gz)? is larger than"):
            tracker.boxes_xywh("cat-1", FIRST, 3)


def test_a_file_that_is_no_gzip(tmp_path: Path) -> None:
    (tmp_path / "cat-1.txt.gz").write_text(FLOATS)
    (tmp_path / "dog-2.txt").write_text(FLOATS)
    for tracker in (results_of_one(tmp_path, NAMES), *find_results(tmp_path, NAMES)):
        assert tracker is not None
        np.testing.assert_allclose(tracker.boxes_xywh("dog-2", FIRST, 3), BOXES)
        with pytest.raises(UserError, match=r"cat-1\.txt\.gz cannot be read"):
            tracker.boxes_xywh("cat-1", FIRST, 3)


def test_two_files_for_a_sequence(tmp_path: Path) -> None:
    write_folder(tmp_path, {"ATOM/cat-1.txt": FLOATS})
    write_gzipped(tmp_path, {"ATOM/cat-1.txt": FLOATS})
    with pytest.raises(UserError, match=r"both .*cat-1\.txt.* and .*cat-1\.txt.* contain results of cat-1; remove one"):
        find_results(tmp_path, NAMES)


def test_two_trackers_of_one_name(tmp_path: Path) -> None:
    write_folder(tmp_path, {"dimp/50/cat-1.txt": FLOATS, "dimp_50/cat-1.txt": FLOATS})
    with pytest.raises(UserError, match=r"dimp/50 and dimp_50 would have the same name 'dimp_50'; rename or remove"):
        find_results(tmp_path, NAMES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1,2,3,4\n", r"cat-1\.txt has 1 rows, the sequence has 3 frames"),
        ("1,2,3,4\n1,2\n", r"cat-1\.txt, row 2: a row must be 4 numbers, got '1,2'"),
        ("\xff\xfe", r"cat-1\.txt is not a text file"),
    ],
    ids=["short", "malformed", "binary"],
)
def test_files_that_hold_something_else(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "cat-1.txt").write_bytes(content.encode("latin-1"))
    tracker = results_of_one(tmp_path, NAMES)
    assert tracker is not None
    with pytest.raises(UserError, match=message):
        boxes_of(tracker)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("1\n1,2,3,4\n2\n", [[1, 2, 3, 4], [np.nan] * 4]),
        ("1,1,9,1,9,9,1,9\n" * 3, [[1, 1, 8, 8]] * 2),
    ],
    ids=["codes of restarts", "polygons"],
)
def test_files_in_the_formats_of_vot(tmp_path: Path, content: str, expected: list[list[float]]) -> None:
    (tmp_path / "cat-1.txt").write_text(content)
    tracker = results_of_one(tmp_path, NAMES)
    assert tracker is not None
    np.testing.assert_array_equal(boxes_of(tracker)["cat-1"][1:], expected)


@pytest.mark.parity
def test_the_published_archives(shared: Path) -> None:
    names = ["airplane-1", "yoyo-7"]
    (tracker,) = find_results(shared / "lasot" / "results_SiamRPN++.tar.xz", names)
    assert (tracker.name, list(tracker.files)) == ("SiamRPN++", names)
    lone = results_of_one(shared / "data" / "lasot_results" / "SiamRPN++", names[:1])
    assert lone is not None
    np.testing.assert_allclose(
        tracker.boxes_xywh("airplane-1", FIRST, 300), lone.boxes_xywh("airplane-1", FIRST, 300), rtol=0, atol=1e-4
    )


# ---- other formats of boxes ----------------------------------------------------------------------------------------

GIVEN = np.array([100.0, 50, 80, 60])


def reading(name: str, box_xywh: np.ndarray, size: tuple[int, int] = (640, 480)) -> np.ndarray:
    x, y, w, h = box_xywh.tolist()
    base = name.removesuffix(", normalized")
    row = {
        "xywh": (x, y, w, h),
        "xyxy": (x, y, x + w, y + h),
        "xyxy inclusive": (x, y, x + w - 1, y + h - 1),
        "center": (x + w / 2, y + h / 2, w, h),
        "yxhw": (y, x, h, w),
        "yxyx": (y, x, y + h, x + w),
    }[base]
    width, height = size
    scale = (height, width) * 2 if base.startswith("yx") else (width, height) * 2
    return np.array(row) / (np.array(scale) if name.endswith("normalized") else 1.0)


OTHERS = [
    *("xyxy", "xyxy inclusive", "center", "yxhw", "yxyx"),
    *("xywh, normalized", "xyxy, normalized", "center, normalized", "yxyx, normalized"),
]


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("change", [0.0, 1.0, "rounded"], ids=str)
def test_a_first_row_in_another_format_is_refused(name: str, change: float | str) -> None:
    row = reading(name, GIVEN + 0.3)
    if name.endswith("normalized"):
        row = row if change == 0.0 else row.round(3)
    else:
        row = row.round() if change == "rounded" else row + float(change)
    expected = {"xyxy": "x1,y1,x2,y2", "center": "center x", "yxhw": "y,x,height,width", "yxyx": "y1,x1,y2,x2"}
    fault = "normalized" if name.endswith("normalized") else expected[name.removesuffix(" inclusive")]
    with pytest.raises(UserError, match=rf"^here must hold x,y,width,height in pixels, .* as .*{fault}.*; convert"):
        require_xywh(row, GIVEN, "here")


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(GIVEN, id="given"),
        pytest.param(GIVEN + np.array([1, 1, 0, 0]), id="1-based"),
        pytest.param(GIVEN.round() - 0.5, id="rounded"),
        pytest.param(GIVEN + np.array([9, -7, 5, 3]), id="the tracker's own"),
        pytest.param(np.array([300.0, 300, 10, 10]), id="elsewhere"),
        pytest.param(np.zeros(4), id="nothing"),
        pytest.param(np.full(4, np.nan), id="not finite"),
        pytest.param(np.array([0.0, 0, 1, 1]), id="one pixel"),
    ],
)
def test_other_first_rows_are_accepted(row: np.ndarray) -> None:
    require_xywh(row, GIVEN, "here")


@pytest.mark.parametrize("size", [1.0, 2.0, 5.0])
def test_rows_near_a_small_box_are_accepted(size: float) -> None:
    given = np.array([40.0, 30, size, size])
    for shift in np.random.default_rng(0).uniform(-1.5, 1.5, (50, 4)):
        require_xywh(given + shift, given, "here")


def test_results_in_another_format_are_refused(tmp_path: Path) -> None:
    rows = np.stack([reading("xyxy", GIVEN + shift) for shift in range(3)])
    np.savetxt(tmp_path / "cat-1.txt", rows, delimiter=",")
    results = results_of_one(tmp_path, NAMES)
    assert results is not None
    with pytest.raises(UserError, match=r"cat-1\.txt must hold x,y,width,height in pixels, .* as x1,y1,x2,y2"):
        results.boxes_xywh("cat-1", GIVEN, 3)


# ---- resources -----------------------------------------------------------------------------------------------------


def test_a_pipe_among_results_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "cat-1.txt").write_text(FLOATS)
    os.mkfifo(tmp_path / "a" / "dog-2.txt")
    with pytest.raises(UserError, match=r"dog-2\.txt is a pipe or a device, not a file; remove it"):
        find_results(tmp_path, NAMES)
    results = results_of_one(tmp_path / "a", NAMES)
    assert results is not None
    assert list(results.files) == ["cat-1"]


@pytest.mark.parametrize(("read", "kept"), [(1 << 20, 1 << 30), (1 << 30, 1 << 20)])
def test_a_zip_that_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: int, kept: int
) -> None:
    monkeypatch.setattr(result_files, "_MAX_READ", read)
    monkeypatch.setattr(result_files, "_MAX_KEPT", kept)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(12):
            archive.writestr(f"model-{index}/cat-1.txt", "0,0,0,0\n" * 20_000)
    with pytest.raises(UserError, match="unpacks to more than"):
        find_results(tmp_path, NAMES)


def test_files_of_other_sequences_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("cat-1", "bird-3"):
        (tmp_path / "a" / f"{name}.txt").write_text(FLOATS)
    (before,) = find_results(tmp_path, NAMES)
    assert list(before.files) == ["cat-1"]
    (tmp_path / "a" / "bird-3.txt").write_text(INTEGERS)
    (after,) = find_results(tmp_path, NAMES)
    assert before.digest != after.digest, "the digest covers all files"
