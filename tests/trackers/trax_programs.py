"""Trackers in programs of their own, written to a folder: what anybody would write to be run as `cmd:`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

# The whole of a TraX tracker around OpenCV's MIL, seeded as the one in this process is.
MIL = """
import ctypes, re, sys, cv2
print('@@TRAX:hello "trax.version=1" "trax.image=path" "trax.region=rectangle"', flush=True)
for line in sys.stdin:
    words = re.findall('"([^"]*)"', line)
    if line.startswith("@@TRAX:quit"):
        break
    frame = cv2.extractChannel(cv2.imread(words[0].removeprefix("file://"), cv2.IMREAD_IGNORE_ORIENTATION | 1), 0)
    if line.startswith("@@TRAX:initialize"):
        box = [round(float(number)) for number in words[1].split(",")]
        cv2.setRNGSeed(0), ctypes.CDLL(None).srand(0)
        tracker = cv2.TrackerMIL.create()
        tracker.init(frame, box)
    else:
        box = tracker.update(frame)[1]
    print('@@TRAX:state "%d,%d,%d,%d"' % tuple(box), flush=True)
"""

# Says hello, then answers as `answer(index, words)` and `hello` say; `index` counts frames from 0.
SCRIPTED = """
import os, re, signal, subprocess, sys, time
print({hello!r}, flush=True)
index = -1
for line in sys.stdin:
    words = re.findall('"((?:[^"\\\\\\\\]|\\\\\\\\.)*)"', line)
    if line.startswith("@@TRAX:quit"):
        break
    index += 1
{body}
    print('@@TRAX:state "1,2,%d,4"' % index, flush=True)
"""

HELLO = '@@TRAX:hello "trax.version=1" "trax.image=path" "trax.region=rectangle"'


def write_program(path: Path, text: str) -> str:
    """Write a program and return the name of the tracker that it is."""
    path.write_text(text)
    return f"cmd:{shlex.quote(sys.executable)} {shlex.quote(str(path))}"


def scripted(path: Path, body: str = "", hello: str = HELLO) -> str:
    """Write a program that runs some lines on every message before it answers with the box 1,2,index,4."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return write_program(path, SCRIPTED.format(hello=hello, body=lines))
