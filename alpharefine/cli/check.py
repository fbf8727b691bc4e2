"""Read a whole data root and list its defects: ``alpharefine check ROOT``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from alpharefine.cli.command import UserErrorParser
from alpharefine.cli.configs import read_data_section, source_of
from alpharefine.cores import available_cores
from alpharefine.errors import UserError

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

    from alpharefine.data.check import PartReport
    from alpharefine.data.reader import Reader
    from datamodules.pairs import Source


def make_parser() -> UserErrorParser:
    """Build the parser of the command."""
    parser = UserErrorParser(
        prog="alpharefine check",
        description="Decode every picture and parse every annotation of a data root, and print each defect with file "
        "and row. The exit code is 2 if there is any.",
    )
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder of a data set, or of several")
    parser.add_argument(
        "--kind",
        help="layout: a `kind` of training data or a `--dataset` of evaluation (default: detected from the content)",
    )
    parser.add_argument(
        "--config", action="append", default=[], help="training configuration: check its data sets in ROOT"
    )
    parser.add_argument(
        "--processes", type=int, default=available_cores(), help="number of processes (default: all cores)"
    )
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Check a data root, print every defect on stdout, and a summary at the end.

    Args:
        args: Arguments; those of the process by default.

    Raises:
        UserError: If the data root does not exist, its layout is unknown, or it has defects.
    """
    options = make_parser().parse_args(args)
    if options.processes < 1:
        raise UserError(f"`--processes` must be at least 1, got {options.processes}.")
    if options.kind and options.config:
        raise UserError("`--kind` and `--config` exclude each other; give one of them.")
    if not options.root.is_dir():
        raise UserError(f"ROOT: {options.root} is not a folder; give the folder of a data set.")
    # Imported here, so that `--help` is quick.
    from tqdm import tqdm

    from alpharefine.data.check import process_pool
    from alpharefine.data.kinds import READERS
    from alpharefine.evaluation.datasets.registry import DATASETS

    if options.kind and options.kind not in {*READERS, *DATASETS}:
        near = get_close_matches(options.kind, [*READERS, *DATASETS], n=1)
        remedy = f"did you mean {near[0]}?" if near else "give one of them."
        raise UserError(
            f"`--kind` must be one of {', '.join(dict.fromkeys([*READERS, *DATASETS]))}, got {options.kind}; {remedy}"
        )

    num_defects = num_pictures = num_parts = 0
    with process_pool(options.processes) as pool:
        for label, open_readers in _data_sets(options.root, options.kind, options.config):
            for report in _reports(label, open_readers, pool, options.processes):
                for defect in report.defects:
                    tqdm.write(defect, file=sys.stdout)
                num_defects += len(report.defects)
                num_pictures += report.num_pictures
                num_parts += report.num_parts
    summary = f"{num_parts} sequences with {num_pictures} pictures"
    if num_defects:
        raise UserError(f"{num_defects} defects in {summary} of {options.root}, each printed above.")
    sys.stdout.write(f"No defects in {summary} of {options.root}.\n")


def _reports(
    label: str, open_readers: Callable[[], list[Reader]], pool: ProcessPoolExecutor | None, num_processes: int
) -> Iterator[PartReport]:
    """Check one data set. An error that ends its check is a defect, so that the other data sets are still checked."""
    from tqdm import tqdm

    from alpharefine.data.check import PartReport, check_reader

    try:
        for reader in open_readers():
            with tqdm(total=len(reader.parts()), desc=label, unit=" sequences") as progress:
                for report in check_reader(reader, pool, num_processes):
                    yield report
                    progress.update()
    except UserError as error:
        yield PartReport(0, [str(error)], num_parts=0)


def _data_sets(root: Path, kind: str | None, configs: list[str]) -> Iterator[tuple[str, Callable[[], list[Reader]]]]:
    """Yield a label of each data set, and a function that returns its readers."""
    from alpharefine.data.kinds import READERS, detect_kinds

    if configs:
        yield from _configured(root, configs)
        return
    found = [(kind, root)] if kind else detect_kinds(root) or _detect_datasets(root)
    if not found:
        raise UserError(
            f"{root} has none of the known layouts ({', '.join(READERS)}); give the layout by `--kind`, or the "
            "configuration that names the data sets by `--config`."
        )
    for name, folder in found:
        if name in READERS:
            yield f"{name} in {folder}", partial(READERS[name].open_all, folder)
        else:
            yield f"{name} in {folder}", partial(list, [_evaluation_reader(name, folder)])


def _configured(root: Path, configs: list[str]) -> Iterator[tuple[str, Callable[[], list[Reader]]]]:
    """Yield the data sets of training configurations, each once."""
    data = read_data_section(configs)
    entries = {
        repr(entry): (f"data.{part}.{name}", entry)
        for part in ("train", "val")
        for name, entry in data.get(part, {}).items()
    }
    if not entries:
        raise UserError("`--config`: this configuration lists no data sets under `data.train` and `data.val`.")
    for source in (source_of(*each) for each in entries.values()):
        yield f"{source.kind} in {source.path}", partial(_open, source, root)


def _open(source: Source, root: Path) -> list[Reader]:
    return [source.open(root)]


def _detect_datasets(root: Path) -> list[tuple[str, Path]]:
    from alpharefine.evaluation.datasets.registry import DATASETS

    return [(name, root) for name, dataset in DATASETS.items() if dataset.fits(root)][:1]


def _evaluation_reader(name: str, root: Path) -> Reader:
    from alpharefine.evaluation.config import DatasetConfig
    from alpharefine.evaluation.datasets.reading import DatasetReader
    from alpharefine.evaluation.datasets.registry import open_dataset

    return DatasetReader(open_dataset(DatasetConfig(name, root)), root)
