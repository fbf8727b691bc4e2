"""The command with trackers of the DiMP family, refined boxes handed back."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import evaluate
from alpharefine.trackers import find_tracker

from .golden import golden_frames, golden_state

NUM_FRAMES = 4
SEQUENCES = ("golden-1", "golden-2")


@pytest.fixture(scope="module")
def sequences_root(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in LaSOT's layout with the beginnings of the golden sequences."""
    root = tmp_path_factory.mktemp("beginnings")
    for name, source in zip(SEQUENCES, "ab", strict=True):
        folder = root / name.rpartition("-")[0] / name
        (folder / "img").mkdir(parents=True)
        frames, boxes_xywh = golden_frames(golden, source)
        for i, frame in enumerate(frames[:NUM_FRAMES], start=1):
            assert cv2.imwrite(str(folder / "img" / f"{i:08d}.jpg"), frame[..., ::-1])
        np.savetxt(folder / "groundtruth.txt", boxes_xywh[:NUM_FRAMES], fmt="%.2f", delimiter=",")
        for flags in ("full_occlusion.txt", "out_of_view.txt"):
            (folder / flags).write_text(",".join("0" * NUM_FRAMES))
    return root


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parity
@pytest.mark.parametrize(
    ("tracker", "model"),
    [
        pytest.param("dimp18", "dimp18", marks=pytest.mark.exhaustive),
        pytest.param("dimp50", "dimp50", marks=pytest.mark.exhaustive),
        pytest.param("dimp", "super_dimp", marks=pytest.mark.exhaustive),
        pytest.param("atom", "atom", marks=pytest.mark.exhaustive),
    ],
)
def test_boxes_repeat_in_any_order_and_number_of_processes(
    golden: Path, sequences_root: Path, tmp_path: Path, checkpoint: Path, tracker: str, model: str
) -> None:
    torch.save({"net": golden_state(golden, model), "epoch": 50}, tmp_path / str(find_tracker(tracker).official_file))

    def boxes(folder: str, *options: str) -> list[bytes]:
        evaluate.main(
            [
                *("--tracker", tracker, "--tracker_weights", str(tmp_path), "--ckpt", str(checkpoint)),
                *("--data_root", str(sequences_root), "--output_dir", str(tmp_path / folder), *options),
            ]
        )
        return [(tmp_path / folder / tracker / "refined" / f"{name}.txt").read_bytes() for name in SEQUENCES]

    in_order, reverse = ("--sequences", ",".join(SEQUENCES)), ("--sequences", ",".join(reversed(SEQUENCES)))
    first = boxes("first", *in_order, "--min_feedback_score", "0")
    assert [len(text.splitlines()) for text in first] == [NUM_FRAMES] * 2
    assert boxes("other", *reverse, "--min_feedback_score", "0", "--devices", "2") == first
    assert boxes("apart", *in_order, "--no-feedback") != first
