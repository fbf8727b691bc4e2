"""Generated benchmarks: complete or absent, the same for the same seed, different from other data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alpharefine.errors import UserError
from alpharefine.synthetic.benchmarks import (
    write_got10k_benchmark,
    write_nfs30,
    write_otb100,
    write_tnl2k,
    write_trackingnet_benchmark,
    write_uav123,
    write_videos,
)
from alpharefine.synthetic.layouts import write_lasot

SIZE = (48, 64)
WRITERS: dict[str, Callable[..., Any]] = {
    "got10k": lambda root, **how: write_got10k_benchmark(root, 1, 1, 2, **how),
    "trackingnet": lambda root, **how: write_trackingnet_benchmark(root, 1, 2, **how),
    "otb100": lambda root, **how: write_otb100(root, ("Basketball",), 2, **how),
    "uav123": lambda root, **how: write_uav123(root, {"short": ("short", 1, 2)}, **how),
    "nfs30": lambda root, **how: write_nfs30(root, 1, 2, **how),
    "tnl2k": lambda root, **how: write_tnl2k(root, 1, 2, **how),
    "videos": lambda root, **how: write_videos(root, 1, 2, **how),
    "lasot": lambda root, **how: write_lasot(root, 1, 0, 2, **how),
}


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_no_frame_is_in_two_data_sets(tmp_path: Path) -> None:
    frames = []
    for name, write in WRITERS.items():
        write(tmp_path / name, frame_size=SIZE)
        frames += [content for path, content in contents(tmp_path / name).items() if path.endswith(".jpg")]
    assert len(frames) == len(set(frames)) == 2 * (len(WRITERS) + 1)


@pytest.mark.parametrize("name", WRITERS)
def test_seeds(tmp_path: Path, name: str) -> None:
    for place, seed in (("first", 3), ("again", 3), ("other", 4)):
        WRITERS[name](tmp_path / place, frame_size=SIZE, seed=seed)
    assert contents(tmp_path / "first") == contents(tmp_path / "again") != contents(tmp_path / "other")


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_is_left_of_a_failure(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="at least 48"):
        WRITERS[name](tmp_path / "data", frame_size=(8, 8))
    assert list(tmp_path.iterdir()) == []
