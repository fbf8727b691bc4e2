from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alpharefine.errors import UserError
from alpharefine.trackers import TrackState, load_tracker

NO_FRAME = np.empty((0, 0, 3), dtype=np.uint8)


@pytest.mark.parametrize("separator", [",", "\t", " ", ", ", ";"])
@pytest.mark.parametrize("number", ["{:.0f}", "{:.3f}", "{:.2e}"])
def test_rows_come_back_in_order(tmp_path: Path, separator: str, number: str) -> None:
    boxes_xywh = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [0, 0, 1, 1]], dtype=np.float64)
    lines = [separator.join(number.format(value) for value in row) for row in boxes_xywh]
    (tmp_path / "car-1.txt").write_text("\n".join(lines) + "\n")
    source = load_tracker("replay", results_dir=tmp_path)
    tracker = source.open("car-1", np.zeros((3, 4)))
    for _ in range(2):
        tracker.initialize(NO_FRAME, boxes_xywh[0])
        tracks = [tracker.track(NO_FRAME) for _ in range(2)]
        np.testing.assert_array_equal([track.box_xywh for track in tracks], boxes_xywh[1:3])
        assert all(np.isnan(track.score) and track.state is TrackState.NORMAL for track in tracks)
    assert (source.name, source.accepts_feedback, source.needs_frames) == ("replay", False, False)


def test_invalid_boxes_are_handed_on(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1,2,3,4\nNaN,nan,NaN,NaN\n0,0,0,0\n5,5,-1,2\n")
    tracker = load_tracker("replay", results_dir=tmp_path).open("a", np.zeros((4, 4)))
    tracker.initialize(NO_FRAME, np.ones(4))
    rows = [tracker.track(NO_FRAME).box_xywh for _ in range(3)]
    np.testing.assert_array_equal(rows, [[np.nan] * 4, [0, 0, 0, 0], [5, 5, -1, 2]])


def test_a_short_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1,2,3,4\n")
    source = load_tracker("replay", results_dir=tmp_path)
    with pytest.raises(UserError, match=r"a\.txt has 1 rows, the sequence has 2 frames"):
        source.open("a", np.zeros((2, 4)))


def test_a_missing_file_is_named_with_its_folder(tmp_path: Path) -> None:
    source = load_tracker("replay", results_dir=tmp_path)
    with pytest.raises(UserError, match=rf"{tmp_path} has no zebra-3\.txt"):
        source.open("zebra-3", np.zeros((2, 4)))


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere is not a folder"):
        load_tracker("replay", results_dir=tmp_path / "nowhere")


@pytest.mark.parity
@pytest.mark.parametrize("tracker_name", ["ATOM", "DiMP50", "MDNet", "SiamFC", "SiamRPN++"])
def test_published_files_are_read(shared: Path, tracker_name: str) -> None:
    source = load_tracker("replay", results_dir=shared / "data" / "lasot_results" / tracker_name)
    files = sorted((shared / "data" / "lasot_results" / tracker_name).glob("*.txt"))
    assert files
    for path in files:
        sequence = path.stem
        gt_xywh = np.loadtxt(
            shared / "data" / "lasot" / sequence.rsplit("-", 1)[0] / sequence / "groundtruth.txt", delimiter=","
        )
        tracker = source.open(sequence, gt_xywh)
        tracker.initialize(NO_FRAME, gt_xywh[0])
        boxes_xywh = np.stack([tracker.track(NO_FRAME).box_xywh for _ in gt_xywh[1:]])
        distance = np.linalg.norm((boxes_xywh - gt_xywh[1:])[:, :2], axis=1)
        assert np.median(distance[: len(distance) // 4]) < 30
