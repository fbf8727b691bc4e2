"""Trackers that other packages register."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from alpharefine.errors import UserError
from alpharefine.trackers import find_tracker, load_tracker, tracker_entries, tracker_names

MODULE = """
from alpharefine.trackers import LoadedTracker, Track, Tracker, TrackerEntry, TrackState


class Fixed(Tracker):
    def initialize(self, frame, box_xywh):
        self.box_xywh = box_xywh

    def track(self, frame):
        return Track(self.box_xywh, 0.5, TrackState.NORMAL)

    def set_box(self, box_xywh):
        self.box_xywh = box_xywh


def load(request):
    return LoadedTracker(lambda sequence: Fixed())


FIXED = TrackerEntry(name="fixed", summary="the first box", load=load, gives_score=True)
MIL = TrackerEntry(name="mil", summary="another MIL", load=load)
FAMILY = TrackerEntry(name="fixed:", argument="NUMBER", summary="the first box", load=load)


def make():
    return FIXED


def fail():
    raise RuntimeError("no license")
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Function that installs a package with one module and some entry points, for the test only."""

    def installed(package: str, **points: str) -> None:
        folder = tmp_path / package
        info = folder / f"{package}-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / f"{package}_module.py").write_text(MODULE)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = (f"{name.replace('__', ':')} = {package}_module:{value}" for name, value in points.items())
        (info / "entry_points.txt").write_text("\n".join(["[alpharefine.trackers]", *lines]) + "\n")
        monkeypatch.syspath_prepend(folder)

    return installed


@pytest.mark.parametrize("value", ["FIXED", "make"])
def test_a_registered_tracker_is_used_like_ours(install: Install, tmp_path: Path, value: str) -> None:
    install(f"other_{value}", fixed=value)
    entry = find_tracker("fixed")
    assert (entry.name, entry.summary) in [(listed.name, listed.summary) for listed in tracker_entries()]
    assert tracker_names()[-1] == "fixed"
    assert entry.code_files("fixed") == [tmp_path / f"other_{value}" / f"other_{value}_module.py"]
    tracker = load_tracker("fixed").open("a", np.ones((2, 4)))
    tracker.initialize(np.zeros((4, 4, 3), np.uint8), np.arange(4.0))
    assert tracker.track(np.zeros((4, 4, 3), np.uint8)).box_xywh.tolist() == [0, 1, 2, 3]
    tracker.close()
    assert find_tracker("oracle:fixed").gives_score
    with pytest.raises(UserError, match=r"is not a known tracker\. Did you mean fixed\?"):
        find_tracker("fixd")


def test_a_registered_family(install: Install) -> None:
    install("families", fixed__="FAMILY")
    assert find_tracker("fixed:3").name == "fixed:3"
    assert "fixed:" in tracker_names()


def test_a_name_of_ours_is_refused_with_both_sources(install: Install) -> None:
    install("collides", mil="MIL")
    with pytest.raises(
        UserError, match=r"--tracker mil is registered by alpharefine and by `collides_module:MIL` of col"
    ):
        find_tracker("mil")
    assert find_tracker("nano").name == "nano"


def test_a_name_of_two_packages_is_refused_with_both(install: Install) -> None:
    install("one", fixed="FIXED")
    install("two", fixed="FIXED")
    with pytest.raises(
        UserError, match=r"`(one|two)_module:FIXED` of \1 and by `(one|two)_module:FIXED` of \2; uninst"
    ):
        find_tracker("fixed")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        pytest.param("broken", "fail", "cannot be loaded (RuntimeError: no license)", id="raises"),
        pytest.param("broken", "ABSENT", "cannot be loaded (AttributeError:", id="absent"),
        pytest.param("broken", "FIXED", "must be a `TrackerEntry` named 'broken', or a function", id="another name"),
        pytest.param("broken", "__name__", "that returns one, got 'bad_module'", id="no entry"),
    ],
)
def test_a_broken_package_breaks_its_own_tracker_only(install: Install, name: str, value: str, reason: str) -> None:
    install("bad", **{name: value})
    install("good", fixed="FIXED")
    with pytest.raises(UserError) as caught:
        find_tracker(name)
    assert reason in str(caught.value)
    assert f"`bad_module:{value}` of bad" in str(caught.value)
    assert find_tracker("fixed").name == "fixed"
    assert find_tracker("mil").name == "mil"
    (listed,) = (entry for entry in tracker_entries() if entry.name == name)
    assert listed.summary == f"not available: {caught.value}"
    assert name in tracker_names()
