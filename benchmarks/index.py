"""What the index of a large data set costs: the time to build and to load it, and the memory of four workers.

``python benchmarks/index.py`` writes a tree in GOT-10k's layout into a temporary folder. Its frames are empty files:
indexing does not decode them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable
from multiprocessing import get_context
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np

from alpharefine.data.got10k import GOT10k
from alpharefine.data.index import Index, open_index

NUM_WORKERS = 4


def write_tree(root: Path, num_sequences: int, num_frames: int) -> None:
    """Write sequences of empty frames with their text files."""
    rows = "".join(f"{10 + i}.5000,20.2500,30.0000,40.0000\n" for i in range(num_frames))
    names = [f"GOT-10k_Train_{i:06d}" for i in range(1, num_sequences + 1)]
    for name in names:
        folder = root / "train" / name
        folder.mkdir(parents=True)
        for number in range(1, num_frames + 1):
            (folder / f"{number:08d}.jpg").touch()
        (folder / "groundtruth.txt").write_text(rows)
        (folder / "absence.label").write_text("0\n" * num_frames)
        (folder / "cover.label").write_text("8\n" * num_frames)
    (root / "train" / "list.txt").write_text("\n".join(names))


def timed_open(root: Path, cache: Path) -> tuple[float, Path]:
    """Seconds to open the data set and its index, and the index's folder."""
    start = time.perf_counter()
    index = open_index(GOT10k(root), cache)
    return time.perf_counter() - start, index.folder


def memory_share() -> int:
    """KiB of this process; pages that several processes share are parted among them."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def report_memory(folder: Path, copied: bool, barrier: Barrier, results: Queue[int]) -> None:
    """Read all of the index, and tell how much this process has grown by it when all workers hold it."""
    barrier.wait()
    before = memory_share()
    barrier.wait()
    index = Index(folder)
    arrays = [getattr(index, name) for name in Index.__annotations__]
    if copied:
        arrays = [np.array(array) for array in arrays]
        del index
    for array in arrays:
        array.ravel().view(np.uint8).max(initial=0)
    barrier.wait()
    results.put(memory_share() - before)
    barrier.wait()


def memory(folder: Path, copied: bool) -> float:
    """MiB by which the workers grow together."""
    spawn = get_context("spawn")
    barrier, results = spawn.Barrier(NUM_WORKERS), spawn.Queue()
    workers = [spawn.Process(target=report_memory, args=(folder, copied, barrier, results)) for _ in range(NUM_WORKERS)]
    for worker in workers:
        worker.start()
    total: int = sum(results.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join()
    return total / 1024


def show(rows: Iterable[tuple[str, str]]) -> None:
    """Print two columns."""
    for label, value in rows:
        print(f"{label:<44}{value:>12}")


def main(args: list[str] | None = None) -> int:
    """Run the benchmark.

    Args:
        args: in place of the words of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=10_000)
    parser.add_argument("--frames", type=int, default=20, help="Of each sequence; GOT-10k has about 150.")
    chosen = parser.parse_args(args)
    with tempfile.TemporaryDirectory() as temporary:
        root, cache = Path(temporary) / "got10k", Path(temporary) / "cache"
        write_tree(root, chosen.sequences, chosen.frames)
        build_seconds, folder = timed_open(root, cache)
        with get_context("spawn").Pool(1) as fresh_process:
            load_seconds, _ = fresh_process.apply(timed_open, (root, cache))
        size = sum(file.stat().st_size for file in folder.iterdir()) / 2**20
        show(
            [
                (f"{chosen.sequences} sequences of {chosen.frames} frames, index", f"{size:.1f} MiB"),
                ("build", f"{build_seconds:.2f} s"),
                ("load, in a fresh process", f"{load_seconds:.2f} s"),
                (f"{NUM_WORKERS} workers that map it", f"{memory(folder, copied=False):.1f} MiB"),
                (f"{NUM_WORKERS} workers with a copy each", f"{memory(folder, copied=True):.1f} MiB"),
            ]
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
