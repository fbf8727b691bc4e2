"""The command with trackers of the DiMP family, refined boxes handed back, over real sequences."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import evaluate
from alpharefine.trackers import find_tracker

from .golden import golden_state

NUM_FRAMES = 4
SEQUENCES = ("crossing-1", "dragonbaby-1")


@pytest.fixture(scope="module")
def real_root(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The beginnings of two real sequences."""
    root = tmp_path_factory.mktemp("beginnings")
    for name in SEQUENCES:
        source = shared / "data" / "lasot" / name.rpartition("-")[0] / name
        folder = root / name.rpartition("-")[0] / name
        (folder / "img").mkdir(parents=True)
        for path in sorted((source / "img").iterdir())[:NUM_FRAMES]:
            shutil.copy(path, folder / "img")
        lines = (source / "groundtruth.txt").read_text().splitlines(keepends=True)
        (folder / "groundtruth.txt").write_text("".join(lines[:NUM_FRAMES]))
        for flags in ("full_occlusion.txt", "out_of_view.txt"):
            (folder / flags).write_text(",".join((source / flags).read_text().split(",")[:NUM_FRAMES]))
    return root


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parity
@pytest.mark.parametrize(
    ("tracker", "model"),
    [
        ("dimp50", "dimp50"),
        pytest.param("dimp", "super_dimp", marks=pytest.mark.exhaustive),
        pytest.param("atom", "atom", marks=pytest.mark.exhaustive),
    ],
)
def test_boxes_repeat_in_any_order_and_number_of_processes(
    shared: Path, real_root: Path, tmp_path: Path, checkpoint: Path, tracker: str, model: str
) -> None:
    torch.save(
        {"net": golden_state(shared / "golden", model), "epoch": 50},
        tmp_path / str(find_tracker(tracker).official_file),
    )

    def boxes(folder: str, *options: str) -> list[bytes]:
        evaluate.main(
            [
                *("--tracker", tracker, "--tracker_weights", str(tmp_path), "--ckpt", str(checkpoint)),
                *("--data_root", str(real_root), "--output_dir", str(tmp_path / folder), *options),
            ]
        )
        return [(tmp_path / folder / "refined" / f"{name}.txt").read_bytes() for name in SEQUENCES]

    in_order, reverse = ("--sequences", ",".join(SEQUENCES)), ("--sequences", ",".join(reversed(SEQUENCES)))
    first = boxes("first", *in_order, "--min_feedback_score", "0")
    assert [len(text.splitlines()) for text in first] == [NUM_FRAMES] * 2
    assert boxes("reverse", *reverse, "--min_feedback_score", "0") == first
    assert boxes("two", *in_order, "--min_feedback_score", "0", "--devices", "2") == first
    assert boxes("apart", *in_order, "--no-feedback") != first
