"""Entries of the trackers: their names, and that they tell the truth about the loaded trackers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from alpharefine.errors import SequenceError, UserError
from alpharefine.trackers import (
    LoadedTracker,
    Tracker,
    TrackerEntry,
    TrackState,
    builtin,
    find_tracker,
    load_tracker,
    tracker_entries,
    tracker_names,
)
from alpharefine.trackers.dimp.loading import NETWORKS
from alpharefine.trackers.siamrpnpp import VARIANTS
from alpharefine.trackers.table import tracker_table

from .onnx_files import save_dasiamrpn, save_nano, save_vit
from .siamrpnpp.random_files import save_random
from .trax_programs import scripted
from .videos import moving_texture

ENTRIES = {entry.name: entry for entry in tracker_entries()}
MEMBERS = {"oracle:": "oracle:mil", "cmd:": "cmd:true", "package.module:Class": f"{__name__}:Following"}


# ---- names ---------------------------------------------------------------------------------------------------------


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
        UserError, match=r"is not a known tracker\..*Available are .*nano, .*package\.module:Class"
    ) as caught:
        find_tracker(name)
    assert ("Did you mean" in str(caught.value)) == (suggestion is not None)
    assert suggestion is None or f"Did you mean {suggestion}?" in str(caught.value)


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_is_found_by_its_name(name: str) -> None:
    full_name = MEMBERS.get(name, name)
    assert find_tracker(full_name).name == full_name
    assert ENTRIES[name].usage in tracker_names()


@pytest.mark.parametrize("name", ["module:Class", "my.module:Class", "_a.b1.c:D_2"])
def test_an_import_path_is_a_custom_tracker(name: str) -> None:
    assert find_tracker(name) == replace(builtin.CUSTOM, name=name)


def test_every_network_of_the_official_files_has_an_entry() -> None:
    official = {entry.name for entry in ENTRIES.values() if entry.official_file is not None}
    assert official == {"dimp", "atom", *NETWORKS, *VARIANTS}
    assert ENTRIES["dimp"].official_file == ENTRIES["super_dimp"].official_file


def test_the_roles_are_those_of_the_implementations() -> None:
    for name in ("nano", "vit", "vit-opencv", "dasiamrpn"):
        assert ENTRIES[name].roles == import_module(f"alpharefine.trackers.{name.replace('-', '_')}").ROLES


def test_the_table_has_a_row_for_each_entry() -> None:
    header, rule, *rows = tracker_table().splitlines()
    assert [row.split("|")[1].strip() for row in rows] == [f"`{name}`" for name in tracker_names()]
    assert {line.count("|") for line in (header, rule, *rows)} == {8}


LIGHT = """
import sys, types
package = types.ModuleType("alpharefine")  # in place of the real one, which offers the refiner
package.__path__ = [sys.argv[1]]
sys.modules["alpharefine"] = package
from alpharefine.trackers import find_tracker, tracker_names
find_tracker("oracle:dimp"), find_tracker("cmd:true"), find_tracker("a.b:C"), tracker_names()
print(*{"torch", "torchvision", "cv2", "jsonargparse"} & set(sys.modules))
"""


def test_the_registry_imports_no_implementation() -> None:
    package = Path(builtin.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", LIGHT, package], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# ---- abilities -----------------------------------------------------------------------------------------------------


class Following(Tracker):
    """Custom tracker that finds nothing in black frames."""

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:  # noqa: ARG002 - the protocol's
        self.box_xywh = box_xywh

    def track(self, frame: np.ndarray) -> Any:
        return self.box_xywh, 0.5, "normal" if frame.any() else "not_found"

    def set_box(self, box_xywh: np.ndarray) -> None:
        self.box_xywh = box_xywh


class Still:
    """Refiner that returns the box that it is given."""

    refined = True

    def refine(self, frame: np.ndarray, box_xywh: np.ndarray) -> Still:
        assert frame.size
        self.box_xywh = box_xywh
        return self


Case = tuple[str, Callable[[Path], list[Path]]]


def no_files(_folder: Path) -> list[Path]:
    return []


LOADABLE: list[Case] = [
    ("nano", save_nano),
    *((name, lambda folder: [save_vit(folder)]) for name in ("vit", "vit-opencv")),
    ("dasiamrpn", save_dasiamrpn),
    ("siamrpnpp-alex", lambda folder: [save_random(folder)]),
    *((name, no_files) for name in ("mil", "oracle", "oracle-size", "self", "self:2", "oracle:mil")),
    (f"{__name__}:Following", no_files),
]


@pytest.fixture(params=LOADABLE, ids=[name for name, _ in LOADABLE])
def loaded(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[TrackerEntry, LoadedTracker]:
    name, save = request.param
    return find_tracker(name), load_tracker(name, weights=save(tmp_path), refiner=Still(), device="cpu")


def test_an_entry_tells_the_truth(loaded: tuple[TrackerEntry, LoadedTracker]) -> None:
    entry, tracker = loaded
    frames, gt_xywh = moving_texture(4)
    # Opened with a truth that ends, then no box: what the oracles do not find.
    truth_xywh = np.concatenate([gt_xywh[:3], np.zeros((1, 4))])
    images = frames if entry.needs_frames else [np.empty((0, 0, 3), np.uint8)] * len(frames)

    def follow(told_xywh: np.ndarray | None) -> list[Any]:
        opened = tracker.open("a", truth_xywh)
        opened.initialize(images[0], gt_xywh[0])
        tracks = []
        for image in images[1:]:
            tracks.append(opened.track(image))
            if told_xywh is not None:
                opened.set_box(told_xywh)
        opened.close()
        opened.close()
        return tracks

    alone, told = follow(None), follow(np.array([150.0, 100.0, 60.0, 30.0]))
    changed = any((a.box_xywh != b.box_xywh).any() for a, b in zip(alone, told, strict=True))
    assert changed == entry.accepts_feedback
    assert all(np.isfinite(track.score) for track in alone) == entry.gives_score
    lost = any(track.state is TrackState.NOT_FOUND for track in (*alone, *told))
    assert entry.reports_lost or not lost
    assert not entry.takes_limits
    assert not entry.opens_files


@pytest.mark.parametrize(
    "box",
    [
        pytest.param((0.1, 0.2, 0.3, 0.4), id="normalized"),
        pytest.param((60, 50, 0, 0), id="empty"),
        pytest.param((60, 50, 40, -1), id="negative"),
        pytest.param((60, 50, 40, 0.99), id="thin"),
        pytest.param((np.nan, 50, 40, 40), id="nan"),
        pytest.param((60, 50, np.inf, 40), id="infinite"),
    ],
)
def test_an_impossible_first_box_is_one_clear_error(
    loaded: tuple[TrackerEntry, LoadedTracker], box: tuple[float, ...]
) -> None:
    frames, gt_xywh = moving_texture(1)
    opened = loaded[1].open("clip-7", gt_xywh)
    values = ",".join(f"{value:g}" for value in box)
    with pytest.raises(SequenceError, match=rf"^clip-7: the first box must be .* got {values}; correct") as caught:
        opened.initialize(frames[0], np.array(box))
    assert ("fractions of the image size" in str(caught.value)) == (max(box) < 1)
    opened.initialize(frames[0], gt_xywh[0])


@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES.values() if entry.requires_refiner])
def test_a_refiner_that_is_required_is_used(name: str) -> None:
    with pytest.raises(UserError, match="needs --ckpt"):
        load_tracker(name)
    assert load_tracker(name, refiner=Still())


def test_trackers_that_are_lost_say_so(tmp_path: Path) -> None:
    frames, gt_xywh = moving_texture(2)
    lost = [
        (load_tracker("vit-opencv", weights=[save_vit(tmp_path, score_bias=-6.0)]), frames[1]),
        (load_tracker("oracle"), frames[1]),
        (load_tracker("oracle-size"), frames[1]),
        (load_tracker(f"{__name__}:Following"), np.zeros_like(frames[1])),
    ]
    for tracker, frame in lost:
        opened = tracker.open("a", np.concatenate([gt_xywh[:1], np.zeros((1, 4))]))
        opened.initialize(frames[0], gt_xywh[0])
        assert opened.track(frame).state is TrackState.NOT_FOUND


def test_a_program_reads_the_files_of_the_frames(tmp_path: Path) -> None:
    entry = find_tracker("cmd:true")
    assert (entry.opens_files, entry.takes_limits, entry.accepts_feedback) == (True, True, False)
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path in paths:
        cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))
    name = scripted(tmp_path / "program.py")
    opened = load_tracker(name).open("a", np.ones((3, 4)), paths)
    no_frame = np.empty((0, 0, 3), np.uint8)
    opened.initialize(no_frame, np.ones(4))
    opened.set_box(np.full(4, 9.0))
    assert [opened.track(no_frame).box_xywh[2] for _ in paths[1:]] == [1, 2]
    opened.close()
    assert tmp_path / "program.py" in entry.code_files(name)
