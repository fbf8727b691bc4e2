"""Write the crop store of a training configuration: ``alpharefine crops CONFIG --data.root DATA --output DIR``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alpharefine.cli.command import UserErrorParser
from alpharefine.cli.configs import read_data_section, source_of
from alpharefine.cores import available_cores
from alpharefine.errors import UserError

if TYPE_CHECKING:
    from alpharefine.data.crop_store import StoredCrop


def make_parser() -> UserErrorParser:
    """Build the parser of the command."""
    parser = UserErrorParser(
        prog="alpharefine crops",
        description="Cut the surroundings of every target out of the training frames of a configuration, and write "
        "them to a folder. `alpharefine train --data.store DIR` reads them in place of the frames.",
    )
    parser.add_argument("config", metavar="CONFIG", help="training configuration, a path or the name of a shipped one")
    parser.add_argument("--data.root", dest="root", help="data root (default: that of the configuration)")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="new folder of the crop store")
    parser.add_argument(
        "--max_frames", type=int, help="evenly spaced frames of each sequence (default: `data.max_frames`, or all)"
    )
    parser.add_argument(
        "--uncompressed",
        action="store_true",
        help="store pixels instead of JPEG pictures: pairs need half the time, the store ten times the space",
    )
    parser.add_argument(
        "--on_bad_sample",
        choices=("error", "skip"),
        help="stop at an image that cannot be read, or leave it out (default: `data.on_bad_sample`, or error)",
    )
    parser.add_argument("--threads", type=int, default=available_cores(), help="number of threads (default: all cores)")
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Write a crop store.

    Args:
        args: Arguments; those of the process by default.

    Raises:
        UserError: If an option is invalid, a data set cannot be read, or the folder is not new.
    """
    options = make_parser().parse_args(args)
    for name in ("max_frames", "threads"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"`--{name}` must be at least 1, got {value}.")
    # Imported here, so that `--help` is quick.
    from alpharefine.data.crop_store import require_new_store, write_store

    require_new_store(options.output)
    data = _data_section(options.config)
    for name in ("root", "max_frames", "on_bad_sample"):
        data[name] = getattr(options, name) or data.get(name)
    paths = write_store(options.output, _crops(data, options.threads, not options.uncompressed))
    size = sum(path.stat().st_size for path in paths)
    files = f"{len(paths)} file{'s' if len(paths) > 1 else ''}"
    sys.stdout.write(f"{options.output}: crop store of {size / 2**20:.0f} MiB in {files}.\n")


def _data_section(config: str) -> dict[str, Any]:
    """Return the arguments of the data module of a configuration, with its defaults."""
    from datamodules import CropStoreDataModule, PairDataModule

    data = read_data_section([config])
    modules = {f"datamodules.{each.__name__}": each for each in (PairDataModule, CropStoreDataModule)}
    module = modules.get(str(data["class_path"]))
    if module is None or not data.get("train"):
        raise UserError(
            f"`--config`: a crop store needs `data.train` of {' or '.join(modules)}, got {data['class_path']}; give a "
            "configuration with one of them."
        )
    parameters = inspect.signature(module).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty} | data


def _crops(data: dict[str, Any], num_threads: int, compressed: bool) -> Iterator[StoredCrop]:
    """Yield the crops of the sequences that pairs are drawn from."""
    from alpharefine.data.bad_samples import BadSamples
    from alpharefine.data.crop_store import read_crops
    from alpharefine.data.pairs import PairSource
    from datamodules.crop_store import require_known

    cache_dir = Path(data["cache_dir"]) if data["cache_dir"] else None
    bad_samples = BadSamples(data["on_bad_sample"])
    root = Path(data["root"]).expanduser()
    sources = {name: source_of(f"data.train.{name}", entry) for name, entry in data["train"].items()}
    for argument in ("holdout", "cutouts"):
        require_known(argument, data.get(argument, ()), sources)
    # All are opened before the first is cut, which can take hours.
    readers = {name: source.open_for_training(name, root) for name, source in sources.items()}
    for name, reader in readers.items():
        sequences = PairSource(reader, cache_dir, min_frames=data.get("min_frames")).sequences
        min_area = data.get("min_area", 0.0) if sources[name].kind == "coco" else 0.0
        yield from read_crops(
            name, reader, data["max_frames"], min_area, cache_dir, bad_samples, sequences, num_threads, compressed
        )
