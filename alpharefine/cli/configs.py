"""Configuration files on the command line, among them those shipped with the package."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from alpharefine.errors import UserError

if TYPE_CHECKING:
    from datamodules.pairs import Source

_MAX_SIZE = 2**20
"""Size limit of a configuration file in bytes."""

_MAX_NODES = 100_000
"""Largest number of values in a configuration, with each alias counted as a copy of what it stands for."""


def _shipped_folder() -> Path:
    """Folder of the shipped configurations: in the installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


CONFIGS = _shipped_folder()
"""Folder of the shipped training configurations."""

BASE_CONFIG = CONFIGS / "base.yaml"
"""Configuration that all training configurations extend."""

EVALUATION_CONFIGS = CONFIGS / "evaluate"
"""Folder of the shipped evaluation configurations."""


def find_configs(arguments: list[str], folder: Path = CONFIGS) -> list[str]:
    """Move configurations to the front of the arguments, and find shipped ones by their bare names.

    The parser applies arguments in order. A configuration at the front cannot override values of the command line.

    Args:
        arguments: Arguments of a command; a configuration follows ``--config`` or ``-c``.
        folder: Folder of shipped configurations, searched for names that are not files.

    Returns:
        The arguments, with paths of the configurations. Later configurations override earlier ones.

    Raises:
        UserError: If a configuration does not exist, or is too large.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-c", "--config", action="append", default=[])
    try:
        chosen, others = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise UserError(
            f"`--config`: {error.message}; give the path of a file, or the name of a shipped configuration."
        ) from error
    return [f"--config={_find_config(name, folder)}" for name in chosen.config] + others


def read_data_section(names: list[str]) -> dict[str, Any]:
    """Read the data module of training configurations, with that of the base: its ``class_path`` and its arguments.

    Args:
        names: Paths or names of configurations. Values of later ones replace those of earlier ones. Another data module
            keeps the root only.

    Raises:
        UserError: If a configuration does not exist or cannot be read.
    """
    section: dict[str, Any] = {}
    for argument in find_configs([f"--config={name}" for name in (BASE_CONFIG, *names)]):
        path = Path(argument.removeprefix("--config="))
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8"))["data"]
            if data.get("class_path", section.get("class_path")) != section.get("class_path"):
                section = {name: section[name] for name in ("root",) if name in section}
            section |= {**data, **data.get("init_args", {})}
        except (yaml.YAMLError, OSError, ValueError) as error:
            raise UserError(f"`--config`: {path} cannot be read ({' '.join(str(error).split())}).") from error
        except (KeyError, TypeError, AttributeError):
            continue  # a configuration without data
    for part in ("train", "val"):
        if not isinstance(section.get(part, {}), dict):
            raise UserError(f"`--config`: `data.{part}` must hold data sets by name, got {section[part]}.")
    return section


def source_of(place: str, entry: Any) -> Source:
    """Return a data set of a configuration.

    Args:
        place: Key of the data set in the configuration, for error messages.
        entry: Value of a name below ``data.train`` or ``data.val``.

    Raises:
        UserError: If the entry is not a data set.
    """
    from datamodules.pairs import Source

    try:
        return Source(**entry)
    except TypeError as error:
        raise UserError(
            f"`{place}` must have `kind` and `path`, and may have `weight` and `options`, got {entry}; correct it."
        ) from error


def _find_config(name: str, folder: Path) -> Path:
    for path in (Path(name), folder / name):
        if path.is_file():
            _require_small(path)
            return path
    shipped = ", ".join(sorted(path.name for path in folder.glob("*.yaml")))
    raise UserError(f"`--config`: no file {name}, and no shipped configuration of that name ({shipped}).")


def _require_small(path: Path) -> None:
    """Check the size of a configuration before the parser copies every alias in it."""
    if path.stat().st_size > _MAX_SIZE:
        raise UserError(f"`--config`: {path} is larger than {_MAX_SIZE >> 20} MiB, which no configuration is.")
    try:
        root = yaml.compose(path.read_text(), yaml.SafeLoader)
        num_nodes = 0 if root is None else _count(root, {}, set())
        if root is not None and not isinstance(root, yaml.MappingNode):
            raise UserError(f"`--config`: {path} must hold options by name; correct it, or give another file.")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"`--config`: {path} is not a YAML file ({reason}); correct it.") from error
    except RecursionError as error:
        raise UserError(f"`--config`: {path} is nested too deeply; correct it.") from error
    if num_nodes > _MAX_NODES:
        raise UserError(
            f"`--config`: {path} has more than {_MAX_NODES} values when its aliases are written out; correct it."
        )


def _count(node: yaml.Node, counts: dict[int, int], above: set[int]) -> int:
    """Count the values below a node, with each alias counted as a copy.

    Args:
        node: Node of a YAML document.
        counts: Counts of the nodes that were visited, by identity.
        above: Identities of the nodes that contain this one.

    Raises:
        RecursionError: If a node contains itself.
    """
    key = id(node)
    if key in above:
        raise RecursionError
    if key not in counts:
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            children = [each for pair in node.value for each in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        counts[key] = 1 + sum(_count(child, counts, above | {key}) for child in children)
    return counts[key]
