"""Programs that speak TraX: what they are told, what is made of their answers, and how they may fail."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from alpharefine.data.images import read_image
from alpharefine.errors import SequenceError, UserError
from alpharefine.trackers import TimeLimits, Tracker, TrackState, find_tracker, load_tracker
from alpharefine.trackers.trax_messages import Message, format_message, parse_message, parse_region
from tests.trackers.trax_programs import HELLO, MIL, scripted, write_program

BOX = np.array([10.25, 12, 4 / 3, 1e7])
FRAME = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
NO_FRAME = np.empty((0, 0, 3), dtype=np.uint8)

# Keeps what it is sent, so that a test can look at it.
KEEP = "import json; open(__file__ + '.log', 'a').write(json.dumps(line) + '\\n')"

Open = Callable[..., Tracker]


@pytest.fixture
def open_tracker() -> Open:
    def opened(
        name: str, frame_paths: list[Path] | None = None, *, startup_s: float = 20, frame_s: float = 20
    ) -> Tracker:
        return load_tracker(name, limits=TimeLimits(startup_s, frame_s)).open("a-1", np.zeros((9, 4)), frame_paths)

    return opened


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    folder = tmp_path / 'a "quoted" folder'
    folder.mkdir()
    paths = [folder / f"{number}.png" for number in range(4)]
    for path in paths:
        cv2.imencode(".png", FRAME[..., ::-1])[1].tofile(path)
    return paths


def sent(program: Path) -> list[Message]:
    lines = Path(f"{program}.log").read_text().splitlines()
    return [parse_message(json.loads(line)) for line in lines]


# ---- messages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "a b", 'say "no"', "back\\slash", "two\nlines", "\\n", "end\\", "=", "a b=c"])
def test_arguments_come_back_as_they_were(text: str) -> None:
    line = format_message("frame", text, "last")
    assert line.count("\n") == 1
    assert parse_message(line) == Message("frame", (text, "last"), {})


@pytest.mark.parametrize("line", ['@@TRAX:hello trax.version=4 "trax.image=path;"', '@@TRAX:hello "trax.version=4"'])
def test_named_arguments(line: str) -> None:
    assert parse_message(line).properties["trax.version"] == "4"
    assert parse_message(line).arguments == ()


@pytest.mark.parametrize(
    ("region", "box_xywh"),
    [("1,2,3,4", [1, 2, 3, 4]), ("1.5, 2,3e1,-4", [1.5, 2, 30, -4]), ("0,1,4,1,4,3,0,3", [0, 1, 4, 2]), ("0", None)],
)
def test_regions(region: str, box_xywh: list[float] | None) -> None:
    found = parse_region(region)
    assert (None if found is None else found.tolist()) == box_xywh


@pytest.mark.parametrize("region", ["", "1,2", "1,2,3,4,5", "1,2,3,4,5,6,7", "m0,0,5,5,1,2", "a,b,c,d"])
def test_what_is_no_region(region: str) -> None:
    with pytest.raises(ValueError, match=r"region must be|could not convert"):
        parse_region(region)


# ---- a conversation ------------------------------------------------------------------------------------------------


def test_files_are_shown_by_their_paths(open_tracker: Open, pictures: list[Path], tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    tracker = open_tracker(scripted(program, KEEP + "\nprint('noise', file=sys.stderr)"), pictures)
    for _ in range(2):  # once more from the start
        tracker.initialize(NO_FRAME, BOX)
        for index in (1, 2):
            track = tracker.track(NO_FRAME)
            assert (track.box_xywh.tolist(), track.state) == ([1, 2, index, 4], TrackState.NORMAL)
            assert np.isnan(track.score)
    tracker.close()
    first, *others = sent(program)[:3]
    assert first == Message("initialize", (f"file://{pictures[0]}", f"10.25,12.0,{4 / 3!r},10000000.0"), {})
    assert others == [Message("frame", (f"file://{path}",), {}) for path in pictures[1:3]]
    assert len(sent(program)) == 6


def test_version_4_is_told_the_target_before_the_picture(
    open_tracker: Open, pictures: list[Path], tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    body = f"{KEEP}\nif 'initialize' in line: continue"
    tracker = open_tracker(scripted(program, body, HELLO.replace("version=1", "version=4")), pictures)
    tracker.initialize(NO_FRAME, BOX)
    assert tracker.track(NO_FRAME).box_xywh.tolist() == [1, 2, 2, 4]
    tracker.close()
    assert [message.name for message in sent(program)] == ["initialize", "frame", "frame"]
    assert sent(program)[0].arguments == (f"10.25,12.0,{4 / 3!r},10000000.0",)


READ_MEMORY = """
import base64, numpy as np
header, _, pixels = words[0].rpartition(";")
total = int(np.frombuffer(base64.b64decode(pixels), np.uint8).sum())
print('@@TRAX:state "%d,0,0,0" "confidence=0.25"' % total if header == "image:6;4;rgb" else "@@TRAX:quit", flush=True)
continue
"""
READ_DATA = """
import base64, cv2, numpy as np
header, _, content = words[0].rpartition(";")
picture = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), 1)
print('@@TRAX:state "%d,0,0,0"' % picture.sum() if header == "data:image/png;base64" else "@@TRAX:quit", flush=True)
continue
"""


@pytest.mark.parametrize(
    ("formats", "body", "from_files"),
    [("memory", READ_MEMORY, True), ("memory;", READ_MEMORY, False), ("data", READ_DATA, True)],
)
def test_pixels_for_those_that_ask_for_them(
    open_tracker: Open, pictures: list[Path], tmp_path: Path, formats: str, body: str, from_files: bool
) -> None:
    hello = HELLO.replace("image=path", f"image={formats}")
    tracker = open_tracker(scripted(tmp_path / "program.py", body.strip(), hello), pictures if from_files else None)
    frame = NO_FRAME if from_files else FRAME
    tracker.initialize(frame, BOX)
    assert tracker.track(frame).box_xywh[0] == FRAME.sum()
    tracker.close()


def test_a_frame_larger_than_a_pipe(open_tracker: Open, tmp_path: Path) -> None:
    frame = np.full((700, 900, 3), 3, dtype=np.uint8)
    body = 'print(\'@@TRAX:state "%d,0,0,0" "confidence=0.5"\' % len(words[0]), flush=True); continue'
    tracker = open_tracker(scripted(tmp_path / "program.py", body, HELLO.replace("path", "memory")))
    tracker.initialize(frame, BOX)
    track = tracker.track(frame)
    assert track.box_xywh[0] == len("image:900;700;rgb;") + frame.size * 4 // 3
    assert track.score == 0.5
    tracker.close()


def test_polygons_and_targets_not_found(open_tracker: Open, pictures: list[Path], tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    body = f"{KEEP}\nprint('@@TRAX:state ' + ['1,2,3,4', '0,1,4,1,4,3', '0'][index], flush=True); continue"
    tracker = open_tracker(scripted(program, body, HELLO.replace("rectangle", "polygon")), pictures)
    tracker.initialize(NO_FRAME, np.array([1, 2, 3, 4]))
    assert tracker.track(NO_FRAME)[0].tolist() == [0, 1, 4, 2]
    lost = tracker.track(NO_FRAME)
    assert (lost.box_xywh.tolist(), lost.state) == ([0, 1, 4, 2], TrackState.NOT_FOUND)
    tracker.close()
    assert sent(program)[0].arguments[1] == "1.0,2.0,4.0,2.0,4.0,6.0,1.0,6.0"


# ---- failures ------------------------------------------------------------------------------------------------------

MUTE = 'print("hello, I am no TraX program", flush=True)\nimport time; time.sleep(60)'


@pytest.mark.parametrize(
    ("body", "hello", "frame", "message"),
    [
        pytest.param("if index == 2: 1 / 0", HELLO, 3, r"ended with exit code 1 at frame 3; its last output:\n(.*\n)*"
                     r"    ZeroDivisionError: division by zero", id="crash"),
        pytest.param("if index == 0: sys.exit('no weights')", HELLO, 1, r"ended with exit code 1 .*e 1; .*\n    no w",
                     id="crash at once"),
        pytest.param("if index == 1: os.kill(os.getpid(), signal.SIGSEGV)", HELLO, 2,
                     r"ended with signal 11 .* at frame 2; it wrote nothing", id="signal"),
        pytest.param("if index == 2: print('hm', flush=True); time.sleep(60)", HELLO, 3,
                     r"did not answer in time \(`--frame_limit 1`, seconds\) at frame 3; its last output:\n    hm",
                     id="hang"),
        pytest.param("if index == 0: time.sleep(60)", HELLO, 1, r"did not .*\(`--startup_limit 1`, .*frame 1",
                     id="hang at the first frame"),
        pytest.param("", "hello", 1, r"did not .*\(`--startup_limit 1`, .*frame 1; .*\n    hello", id="no hello"),
        pytest.param("if index == 1: print('@@TRAX:quit \"trax.reason=too dark\"'); break", HELLO, 2,
                     r"gave up \(too dark\) with exit code 0 at frame 2", id="quit"),
        pytest.param("print('@@TRAX:state m0,0,2,2'); continue", HELLO, 2, r"answered .*m0,0,2,2.* rectangles or",
                     id="mask"),
        pytest.param("", HELLO.replace("rectangle", "mask"), 1, "takes the target as mask only", id="wants masks"),
        pytest.param("", HELLO.replace("path", "url"), 1, "takes images as url only", id="wants addresses"),
        pytest.param("", "@@TRAX:state", 1, "sent 'state' in place of 'hello'", id="another message"),
    ],
)  # fmt: skip
def test_a_program_that_fails(
    open_tracker: Open, pictures: list[Path], tmp_path: Path, body: str, hello: str, frame: int, message: str
) -> None:
    body = f"open(__file__ + '.pid', 'w').write(str(os.getpid()))\n{body}"
    tracker = open_tracker(scripted(tmp_path / "program.py", body, hello), pictures, startup_s=1, frame_s=1)
    start = time.monotonic()

    def conversation() -> None:
        tracker.initialize(NO_FRAME, BOX)
        for _ in range(2):
            tracker.track(NO_FRAME)

    with pytest.raises(SequenceError, match=message) as error:
        conversation()
    assert f"at frame {frame}; " in str(error.value)
    assert time.monotonic() - start < 15
    pid = tmp_path / "program.py.pid"
    if pid.exists():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)


def runs(pid: int) -> bool:
    """Whether there is such a process, and it is not one that nobody has reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_what_a_hanging_program_started_ends_with_it(open_tracker: Open, pictures: list[Path], tmp_path: Path) -> None:
    body = """if index == 1:
    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
    print(child.pid, flush=True)
    time.sleep(60)"""
    tracker = open_tracker(scripted(tmp_path / "program.py", body), pictures, frame_s=1)
    tracker.initialize(NO_FRAME, BOX)
    with pytest.raises(SequenceError) as error:
        tracker.track(NO_FRAME)
    child = int(str(error.value).splitlines()[-1])
    deadline = time.monotonic() + 10
    while runs(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_program_that_does_not_leave_is_ended(open_tracker: Open, pictures: list[Path], tmp_path: Path) -> None:
    ends = tmp_path / "program.py"
    tracker = open_tracker(scripted(ends, "if index == 0: signal.signal(signal.SIGTERM, signal.SIG_IGN)"), pictures)
    tracker.initialize(NO_FRAME, BOX)
    tracker.close()
    tracker.close()  # nothing is left to do


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cmd:", "names no program"),
        ("cmd:  ", "names no program"),
        ("cmd:'open", "No closing quotation; write the command as in a shell"),
        ("cmd:no-such-program-anywhere --x", "no program no-such-program-anywhere"),
        ("cmd:nosuchprogram", "no program nosuchprogram"),
    ],
)
def test_commands_that_cannot_be_run(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_tracker(name)


def test_weights_belong_into_the_command() -> None:
    with pytest.raises(UserError, match="takes no weights"):
        load_tracker("cmd:true", weights=[Path("a.pth")])


def test_the_results_depend_on_the_files_of_the_command(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    name = scripted(program)
    assert program in find_tracker(name).code_files(name)


# ---- the same boxes ------------------------------------------------------------------------------------------------

# A tracker made with the reference implementation: the target moves by a pixel a frame.
REFERENCE = """
import trax
with trax.Server([trax.Region.RECTANGLE], [trax.Image.PATH]) as server:
    while True:
        request = server.wait()
        if request.type in ("quit", "error"):
            break
        if request.type == "initialize":
            x, y, w, h = request.objects[0][0].bounds()
        x += 1
        server.status([(trax.Rectangle.create(x, y, w, h), {"confidence": 0.5})])
"""


def test_a_program_of_the_reference_implementation(open_tracker: Open, pictures: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("trax", reason="vot-trax is an extra: pip install alpharefine[trax]")
    tracker = open_tracker(write_program(tmp_path / "program.py", REFERENCE), pictures)
    tracker.initialize(NO_FRAME, np.array([10.5, 20, 30, 40]))
    tracks = [tracker.track(NO_FRAME) for _ in range(3)]
    np.testing.assert_allclose([track.box_xywh for track in tracks], [[11.5 + n, 20, 30, 40] for n in (1, 2, 3)])
    assert [track.score for track in tracks] == [0.5] * 3
    tracker.close()


def test_mil_in_a_program_of_its_own(open_tracker: Open, data_root: Path, tmp_path: Path) -> None:
    folder = next(path for path in sorted((data_root / "lasot").rglob("img")))
    box_xywh = np.loadtxt(folder.parent / "groundtruth.txt", delimiter=",")[0]
    here = load_tracker("mil").open("a", np.zeros((1, 4)))
    paths = sorted(folder.iterdir())
    there = open_tracker(write_program(tmp_path / "mil.py", MIL), paths)
    frames = [read_image(path) for path in paths]
    here.initialize(frames[0], box_xywh)
    there.initialize(NO_FRAME, box_xywh)
    boxes = np.array([[tracker.track(frame).box_xywh for tracker in (here, there)] for frame in frames[1:]])
    there.close()
    np.testing.assert_array_equal(boxes[:, 0], boxes[:, 1])
    assert (boxes[0] != boxes[-1]).any(), "it moves"
