from __future__ import annotations

from pathlib import Path

import pytest

from alpharefine.errors import UserError
from alpharefine.trackers import TRACKER_NAMES, load_tracker, registry


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("nanno", "nano"),
        ("oracel", "oracle"),
        ("oracle_size", "oracle-size"),
        ("self:3", "self:2"),
        ("MIL", None),
        ("", None),
    ],
)
def test_an_unknown_name_is_refused_with_the_closest_one(name: str, suggestion: str | None) -> None:
    with pytest.raises(
        UserError, match=r"is no known tracker\..*Available are .*nano, .*package\.module:Class"
    ) as caught:
        load_tracker(name)
    assert ("Did you mean" in str(caught.value)) == (suggestion is not None)
    assert suggestion is None or f"Did you mean {suggestion}?" in str(caught.value)


@pytest.mark.parametrize("name", ["mil", "replay", "oracle", "oracle-size", "self", "self:2"])
def test_weights_that_are_not_wanted_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"--tracker {name} takes no weights, got --tracker_weights a.onnx"):
        load_tracker(name, weights=[Path("a.onnx")])


@pytest.mark.parametrize("name", ["mil", "nano", "oracle", "self", "package.module:Class"])
def test_a_results_folder_that_is_not_wanted_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"--results_dir is for --tracker replay, got .* with --tracker {name}"):
        load_tracker(name, results_dir=tmp_path)


def test_replay_without_a_folder_is_refused() -> None:
    with pytest.raises(UserError, match="--tracker replay needs --results_dir"):
        load_tracker("replay")


@pytest.mark.parametrize(("name", "count"), [("nano", 2), ("vit", 1), ("dasiamrpn", 3)])
@pytest.mark.parametrize("given", [0, 4])
def test_a_wrong_number_of_files_is_refused(name: str, count: int, given: int) -> None:
    with pytest.raises(UserError, match=rf"{name} needs {count} ONNX file\(s\), got {given} .*in this order"):
        load_tracker(name, weights=[Path("a.onnx")] * given)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.onnx is not a file"):
        load_tracker("vit", weights=[tmp_path / "nowhere.onnx"])


@pytest.mark.parametrize("content", [b"", b"no network" * 20])
def test_an_unreadable_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.onnx cannot be read as an ONNX network"):
        load_tracker("vit", weights=[path])


@pytest.mark.parametrize("name", ["mil", "oracle", "oracle-size"])
def test_trackers_without_files_open(name: str) -> None:
    source = load_tracker(name)
    assert source.name == name
    assert source.accepts_feedback


def test_every_name_stands_in_the_table() -> None:
    rows = [line for line in str(registry.__doc__).splitlines() if line.startswith("| `")]
    assert [name for row in rows for name in row.split("|")[1].split("`")[1::2]] == [
        *TRACKER_NAMES,
        "oracle:",
        "cmd:program arguments",
        "package.module:Class",
    ]
