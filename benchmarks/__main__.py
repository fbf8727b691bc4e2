"""Benchmarks that this machine can run, in one table: ``python -m benchmarks [NAME ...] [--quick] [--output FILE]``.

Each benchmark measures a path and its reference alternately in one run. ``--quick`` takes a few calls of each, which
shows that the benchmarks run; its figures mean nothing. ``--limit_s`` starts no benchmark after so many seconds.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from alpharefine.cores import available_cores
from benchmarks.rows import Row

NAMES = ("train_step", "refine", "track", "detections", "replay", "data", "score", "processes")
"""Modules of this package with a function `measure`; those that use a GPU come first."""


def main(args: list[str] | None = None) -> int:
    """Measure, print and write.

    Args:
        args: Words of the command line in place of those of this process.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"Benchmarks to run, of {', '.join(NAMES)}.")
    parser.add_argument("--quick", action="store_true", help="Take a few calls only.")
    parser.add_argument(
        "--limit_s", type=float, default=inf, help="Time in seconds after which no other one is started."
    )
    parser.add_argument("--output", type=Path, help="JSON file to write.")
    options = parser.parse_args(args)
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"no benchmark {sorted(unknown)[0]}; there are {', '.join(NAMES)}.")
    if not options.limit_s >= 0:
        parser.error(f"--limit_s must be at least 0, got {options.limit_s}.")
    if options.output is not None and options.output.is_dir():
        parser.error(f"--output must be a file, got the folder {options.output}.")
    names = options.names or NAMES
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
    machine = describe_machine()
    print(", ".join(f"{key}: {value}" for key, value in machine.items()), flush=True)
    rows: dict[str, list[Row]] = {}
    began = perf_counter()
    for name in names:
        start = perf_counter()
        if start - began > options.limit_s:
            print(f"{name}: not measured, because {options.limit_s:.0f} s are over", flush=True)
            continue
        rows[name] = import_module(f"benchmarks.{name}").measure(options.quick)
        print(f"{name}: {perf_counter() - start:.0f} s", flush=True)
        if options.output is not None:  # also what was measured before an interruption
            as_rows = {each: [*map(as_json, values)] for each, values in rows.items()}
            content = {"machine": machine, "quick": options.quick, "rows": as_rows}
            options.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if options.output is not None and rows:
        print(f"written: {options.output}")
    print(table([row for each in rows.values() for row in each]))
    return 0


def describe_machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "cpu": torch.cpu.get_capabilities()["cpu_name"],
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def as_json(row: Row) -> dict[str, Any]:
    """Return a row with its ratio.

    Args:
        row: Row of the table.
    """
    return {**asdict(row), "ratio": row.ratio}


def table(rows: list[Row]) -> str:
    """Return rows as a Markdown table.

    Args:
        rows: Rows of the table.
    """
    lines = ["| | unit | reference | ours | ratio | limit | |", f"|{' --- |' * 7}"]
    for row in rows:
        reference, limit = ("" if value is None else f"{value:.4g}" for value in (row.reference, row.limit))
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        lines.append(f"| {row.name} | {row.unit} | {reference} | {row.value:.4g} | {ratio} | {limit} | {row.note} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
