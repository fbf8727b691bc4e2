"""`alpharefine vot`: sessions with our client, with plain messages and with the VOT toolkit, and how it refuses."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from alpharefine import Refiner
from alpharefine.boxes import clip_to_image, xywh_to_xyxy
from alpharefine.cli import vot
from alpharefine.cli.live import load_live, resolve_live
from alpharefine.data.images import box_of_mask, read_image
from alpharefine.errors import UserError
from alpharefine.evaluation.refined_tracker import RefinedTracker, Step
from alpharefine.inference.refiner import Refinement
from alpharefine.synthetic import SyntheticSequence, generate_sequence
from alpharefine.trackers import TimeLimits, Track, TrackState, load_tracker
from alpharefine.trackers.line_process import LineProcess
from alpharefine.trackers.trax_messages import (
    PREFIX,
    Message,
    format_message,
    image_of_path,
    image_of_pixels,
    parse_message,
)
from tests.known_network import KnownNetwork

trax = pytest.importorskip("trax", reason="vot-trax has wheels for x86-64 only")

NUM_FRAMES = 4
LIMIT_S = 120.0
VOT = Path(sys.executable).with_name("vot")


@pytest.fixture(scope="module")
def sequence() -> SyntheticSequence:
    return generate_sequence(0, 0, NUM_FRAMES, (96, 128), look="photos")


@pytest.fixture(scope="module")
def paths(sequence: SyntheticSequence, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("a sequence")
    files = [folder / f"{number}.png" for number in range(NUM_FRAMES)]
    for path, frame in zip(files, sequence.frames, strict=True):
        cv2.imwrite(str(path), frame[..., ::-1])
    return files


def words(ckpt: Path, *arguments: str) -> list[str]:
    command = [sys.executable, "-m", "alpharefine.cli", "vot", "--tracker", "mil", "--device", "cpu"]
    return [*command, "--ckpt", str(ckpt), *arguments]


def steps(ckpt: Path, frames: list[np.ndarray], box_xywh: np.ndarray, masks: bool) -> list[Step]:
    """Steps of the same tracker in this process."""
    options = vot.make_parser().parse_args(["--tracker", "mil", "--device", "cpu", "--ckpt", str(ckpt)])
    pair = load_live(resolve_live(options), "cpu")
    settings = pair.settings if masks else vot.replace(pair.settings, save_masks=False)
    tracker = RefinedTracker(pair.base.open("a", box_xywh[None]), pair.entry, pair.refiner, settings)
    tracker.initialize(frames[0], box_xywh)
    return [tracker.track(frame) for frame in frames[1:]]


@contextmanager
def session(ckpt: Path, *arguments: str) -> Iterator[tuple[Message, LineProcess]]:
    """A started program, with what it says first."""
    process = LineProcess(words(ckpt, *arguments), PREFIX)
    try:
        yield parse_message(process.exchange("", LIMIT_S)), process
    finally:
        process.end(format_message("quit"), 30.0)


def ask(process: LineProcess, *requests: str) -> Message:
    return parse_message(process.exchange("".join(requests), LIMIT_S))


def encoded(mask: np.ndarray) -> str:
    """A mask as TraX writes it: offset, size, lengths of runs of 0 and 1, row by row."""
    flat = np.concatenate([[0], mask.astype(int).ravel(), [-1]])
    runs = np.diff(np.flatnonzero(np.diff(flat)), prepend=0)
    return f"mask:0,0,{mask.shape[1]},{mask.shape[0]},{','.join(map(str, runs))}"


def decoded(region: str, image_size: tuple[int, int]) -> np.ndarray:
    x, y, width, height, *runs = map(int, region.removeprefix("mask:").split(","))
    flat = np.repeat(np.arange(len(runs)) % 2, runs)
    flat = np.concatenate([flat, np.zeros(width * height - len(flat), int)])
    mask = np.zeros(image_size, bool)
    mask[y : y + height, x : x + width] = flat.reshape(height, width)
    return mask


def test_masks_are_encoded_row_by_row() -> None:
    mask = np.array([[0, 1, 1], [0, 0, 1]])
    assert encoded(mask) == "mask:0,0,3,2,1,2,2,1"
    assert (decoded(encoded(mask), (2, 3)) == mask).all()
    assert encoded(1 - mask) == "mask:0,0,3,2,0,1,2,2,1"


# ---- sessions ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_our_client_gets_the_refined_boxes(sequence: SyntheticSequence, paths: list[Path], checkpoint: Path) -> None:
    name = f"cmd:{shlex.join(words(checkpoint, '--region', 'rectangle'))}"
    client = load_tracker(name, limits=TimeLimits(LIMIT_S, LIMIT_S)).open("a", np.zeros((9, 4)), paths)
    frames, box_xywh = sequence.frames, sequence.boxes_xywh[0]
    client.initialize(frames[0], box_xywh)
    tracks = [client.track(frame) for frame in frames[1:]]
    client.close()
    expected = steps(checkpoint, frames, box_xywh, masks=False)
    np.testing.assert_allclose([track.box_xywh for track in tracks], [step.box_xywh for step in expected], atol=1e-3)
    scores = [step.refinement.score for step in expected if step.refinement is not None]
    np.testing.assert_allclose([track.score for track in tracks], scores, atol=1e-5)


@pytest.mark.slow
def test_masks_for_a_client_that_gives_a_mask(sequence: SyntheticSequence, paths: list[Path], checkpoint: Path) -> None:
    frames, mask = sequence.frames, sequence.masks[0].astype(bool)
    size = mask.shape
    with session(checkpoint) as (hello, process):
        assert hello.name == "hello"
        assert hello.properties["trax.region"].strip(";").split(";") == ["rectangle", "polygon", "mask"]
        state = ask(
            process, format_message("initialize", encoded(mask)), format_message("frame", image_of_path(paths[0]))
        )
        assert (decoded(state.arguments[0], size) == mask).all(), "the first answer is the given target"
        expected = steps(checkpoint, frames, box_of_mask(mask), masks=True)
        images = [image_of_pixels(frames[1]), image_of_path(paths[2]), image_of_pixels(frames[3])]
        for image, step in zip(images, expected, strict=True):
            state = ask(process, format_message("frame", image))
            assert step.refinement is not None
            assert step.refinement.mask is not None
            own = step.refinement.mask > 0.5
            if not own.any():
                x1, y1, x2, y2 = clip_to_image(xywh_to_xyxy(step.box_xywh), size).round().astype(int)
                own[y1:y2, x1:x2] = True
            assert (decoded(state.arguments[0], size) == own).all()

        request = format_message("initialize", encoded(mask)), format_message("frame", image_of_path(paths[0]))
        answer = ask(process, *request)
        assert answer.name == "quit"
        assert "got another one later" in answer.properties["trax.reason"]


@pytest.mark.slow
def test_the_client_is_told_why_the_session_ends(paths: list[Path], checkpoint: Path) -> None:
    with session(checkpoint, "--region", "mask") as (hello, process):
        assert hello.properties["trax.region"].strip(";") == "mask"
        target = format_message("initialize", encoded(np.zeros((96, 128), int)))
        answer = ask(process, target, format_message("frame", image_of_path(paths[0])))
        assert answer.name == "quit"
        assert answer.properties["trax.reason"].startswith("TraX client: the first box must be")
        status = process.end(grace_s=30.0)
    assert status == 2
    assert process.last_output[-1].startswith("error: TraX client: the first box")
    assert not any("Traceback" in line for line in process.last_output)


def test_a_target_in_another_format_is_refused(paths: list[Path], checkpoint: Path) -> None:
    with session(checkpoint, "--region", "rectangle") as (_, process):
        target = format_message("initialize", encoded(np.ones((96, 128), int)))
        answer = ask(process, target, format_message("frame", image_of_path(paths[0])))
        assert answer.name == "quit"
        assert answer.properties["trax.reason"].startswith("`--region`: the target must be given as ")


# ---- regions and images --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "box_xywh"),
    [
        (trax.Rectangle.create(1.5, 2, 3.25, 4), [1.5, 2, 3.25, 4]),
        (trax.Polygon.create([(0, 1), (4, 1), (4, 3.5)]), [0, 1, 4, 2.5]),
        (trax.Mask.create(np.array([[0, 1, 1], [0, 0, 1]], np.uint8), x=3, y=2), [4, 2, 2, 2]),
    ],
    ids=["rectangle", "polygon", "mask"],
)
def test_the_box_of_a_region(region: object, box_xywh: list[float]) -> None:
    assert vot._box_of(region).tolist() == box_xywh


def step_of(mask: np.ndarray | None, *, refined: bool = True, score: float = float("nan")) -> Step:
    box_xywh = np.array([-4.0, 2, 16, 12])
    refinement = Refinement(box_xywh, box_xywh, mask, 0.25, True) if refined else None
    return Step(Track(box_xywh, score, TrackState.NORMAL), refinement)


@pytest.mark.parametrize("step", [step_of(np.zeros((20, 30))), step_of(None, refined=False)], ids=["empty", "none"])
def test_a_frame_without_mask_gives_its_box(step: Step) -> None:
    mask = vot._region_of(step, (20, 30), 0.5).array(True)
    assert box_of_mask(mask).tolist() == [0, 2, 12, 12]
    assert mask.sum() == 144


def test_the_threshold_of_masks() -> None:
    probabilities = np.zeros((20, 30))
    probabilities[3:6, 4:9] = 0.4
    probabilities[4, 5] = 0.9
    for threshold, area in ((0.3, 15), (0.5, 1)):
        assert vot._region_of(step_of(probabilities), (20, 30), threshold).array(True).sum() == area
    assert vot._region_of(step_of(probabilities), (20, 30), None).bounds() == (-4, 2, 16, 12)


@pytest.mark.parametrize(
    ("step", "confidence"),
    [
        (step_of(None, score=0.75), 0.75),
        (step_of(None), 0.25),
        (step_of(None, refined=False), 0.0),
    ],
)
def test_confidences(step: Step, confidence: float) -> None:
    assert vot._confidence(step) == confidence


def test_images_are_rgb(sequence: SyntheticSequence, paths: list[Path]) -> None:
    def read(image: object) -> np.ndarray:
        return vot._read(SimpleNamespace(image={"color": image}))

    frame = sequence.frames[0]
    images = [
        trax.FileImage.create(str(paths[0])),
        trax.MemoryImage.create(frame),
    ]
    for image in images:
        np.testing.assert_array_equal(read(image), frame)
    gray = read(trax.MemoryImage.create(frame[..., 0].copy()))
    np.testing.assert_array_equal(gray, np.repeat(frame[..., :1], 3, axis=2))
    np.testing.assert_array_equal(read_image(paths[0]), frame)


# ---- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tracker", "oracle"), "--tracker oracle runs only in an evaluation"),
        (("--tracker", "cmd:true"), "cmd:true is a TraX program itself; name it in trackers.ini"),
        (("--tracker", "no-such"), "no-such"),
        (("--ckpt", "none.ckpt"), "none.ckpt"),
        (("--region", "polygon"), "--region.*polygon"),
    ],
)
def test_bad_input(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        vot.main(arguments)


def test_masks_need_a_mask_head(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refiner = Refiner.from_network(KnownNetwork(crop_xyxy=[0, 0, 9, 9]), "cpu")  # type: ignore[arg-type]
    pair = SimpleNamespace(refiner=refiner, settings=SimpleNamespace(save_masks=False))
    assert vot._region_formats("auto", pair) == ["rectangle", "polygon"]  # type: ignore[arg-type]
    monkeypatch.setattr(vot, "load_live", lambda *_: pair)
    with pytest.raises(UserError, match=r"`--region mask`: the network of .* has no mask head"):
        vot.main(["--region", "mask", "--ckpt", str(checkpoint)])


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trax", None)
    with pytest.raises(UserError, match=r"requires TraX; run `pip install \"alpharefine\[trax\]\"`"):
        vot.main([])


# ---- the VOT toolkit, as a program ---------------------------------------------------------------------------------


@pytest.fixture
def workspace(sequence: SyntheticSequence, tmp_path: Path, checkpoint: Path) -> Path:
    """Workspace of the toolkit with one sequence, whose targets are masks."""
    folder = tmp_path / "sequences" / sequence.name
    (folder / "color").mkdir(parents=True)
    for number, frame in enumerate(sequence.frames, start=1):
        cv2.imwrite(str(folder / "color" / f"{number:08d}.jpg"), frame[..., ::-1])
    rows = [encoded(mask).replace("mask:", "m") for mask in sequence.masks]
    (folder / "groundtruth.txt").write_text("\n".join(rows) + "\n")
    (folder / "sequence").write_text(
        f"name={sequence.name}\nformat=default\nfps=30\nwidth=128\nheight=96\nlength={NUM_FRAMES}\n"
        "channels.color=color/%08d.jpg\n"
    )
    (tmp_path / "sequences" / "list.txt").write_text(f"{sequence.name}\n")
    command = shlex.join(words(checkpoint))
    (tmp_path / "trackers.ini").write_text(f"[AR]\nlabel = AR\nprotocol = trax\ncommand = {command}\ntimeout = 120\n")
    return tmp_path


def toolkit(workspace: Path, *arguments: str) -> str:
    """Run the toolkit and return what it prints."""
    if not VOT.exists():
        pytest.skip("vot-toolkit is not installed")
    done = subprocess.run([VOT, *arguments], cwd=workspace, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_toolkit_gets_masks(sequence: SyntheticSequence, workspace: Path, checkpoint: Path) -> None:
    printed = toolkit(workspace, "test", "AR", "--sequence", f"sequences/{sequence.name}")
    assert "Test concluded success" in printed
    states = [parse_message(line) for line in re.findall(rf"^{PREFIX}state .*$", printed, re.MULTILINE)]
    assert len(states) == NUM_FRAMES
    frames = [read_image(path) for path in sorted(workspace.glob("sequences/*/color/*.jpg"))]
    for state, step in zip(states[1:], steps(checkpoint, frames, sequence.boxes_xywh[0], masks=True), strict=True):
        assert step.refinement is not None
        assert step.refinement.mask is not None
        own = step.refinement.mask > 0.5
        if own.any():
            assert (decoded(state.arguments[0], own.shape) == own).all()


@pytest.mark.slow
def test_the_toolkit_evaluates(workspace: Path) -> None:
    toolkit(workspace, "initialize", "tests/basic", "--workspace", str(workspace), "--nodownload")
    assert "Evaluation concluded success" in toolkit(workspace, "evaluate", "--workspace", str(workspace), "AR")
    (scores,) = workspace.glob("results/AR/baseline/*/*_confidence.value")
    assert len(scores.read_text().splitlines()) == NUM_FRAMES
