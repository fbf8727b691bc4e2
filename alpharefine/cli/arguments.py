"""Command-line arguments of an evaluation: a flag for each field of the configuration, with a short alias."""

from __future__ import annotations

import json
import re
import sys
from argparse import ArgumentError
from collections.abc import Collection, Sequence
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser

from alpharefine.cli.configs import EVALUATION_CONFIGS, find_configs
from alpharefine.errors import UserError
from alpharefine.evaluation.config import EvaluationConfig

_RENAMED = {
    "dataset.name": "dataset",
    "dataset.root": "data_root",
    "tracker.name": "tracker",
    "tracker.weights": "tracker_weights",
    "output.dir": "output_dir",
}
"""Short flags, without dashes, that differ from the name of their field, by dotted name."""


def _leaf_types() -> dict[str, Any]:
    """Return the type of every field of the configuration, by dotted name."""
    return {
        f"{group.name}.{leaf.name}": get_type_hints(kind)[leaf.name]
        for group in fields(EvaluationConfig)
        for kind in [get_type_hints(EvaluationConfig)[group.name]]
        for leaf in fields(kind)
    }


TYPES = _leaf_types()
ALIASES = {_RENAMED.get(name, name.partition(".")[2]): name for name in TYPES}
"""Dotted name of each field by its short flag, without dashes."""

_SHORT = {name: short for short, name in ALIASES.items()}


def make_parser(prog: str, description: str) -> ArgumentParser:
    """Build the parser of the evaluation's configuration.

    Args:
        prog: Name of the command.
        description: Description of the command for `--help`.
    """
    aliases = ", ".join(f"--{short} (--{name})" for short, name in ALIASES.items())
    parser = ArgumentParser(
        prog=prog,
        description=f"{description} Short flags: {aliases}. Lists are separated by commas.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-c", "--config", action="config", help="Path of a configuration file, or name of a shipped one."
    )
    parser.add_class_arguments(EvaluationConfig)
    return parser


def parse_config(
    parser: ArgumentParser, args: Sequence[str], allowed: Collection[str] | None = None
) -> EvaluationConfig:
    """Parse arguments. Values on the command line override those of configuration files.

    Args:
        parser: Parser from `make_parser`.
        args: Arguments, with short or dotted flags.
        allowed: Dotted names of the flags that have an effect; None for all.

    Raises:
        UserError: If an argument is unknown, has a wrong value, or has no effect.
    """
    expanded = _expand(find_configs(list(args), EVALUATION_CONFIGS))
    for argument in expanded:
        name = argument.removeprefix("--").partition("=")[0]
        if allowed is not None and name in TYPES and name not in allowed:
            raise UserError(f"`--{_SHORT[name]}` has no effect in this command; leave it out.")
    try:
        built = parser.instantiate(parser.parse_args(expanded))
    except ArgumentError as error:
        raise UserError(f"{_explain(error)}; `--help` lists the arguments.") from error
    return EvaluationConfig(**{group.name: built[group.name] for group in fields(EvaluationConfig)})


def _expand(arguments: Sequence[str]) -> list[str]:
    """Rewrite flags for the parser: dotted names, explicit values of boolean flags, and lists as JSON."""
    expanded: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("--"):
            expanded.append(argument)
            continue
        flag, has_value, value = argument[2:].partition("=")
        negated = flag.startswith("no-")
        name = ALIASES.get(flag.removeprefix("no-"), flag.removeprefix("no-") if negated else flag)
        kind = TYPES.get(name)
        if kind is None:
            expanded.append(argument)
        elif _is_bool(kind):
            if not has_value and rest and rest[0] in ("true", "false"):
                has_value, value = "=", rest.pop(0)
            expanded.append(f"--{name}={value if has_value else 'false' if negated else 'true'}")
        elif negated:
            expanded.append(argument)
        elif not has_value and (not rest or _is_flag(rest[0])):
            raise UserError(f"`--{flag}` requires a value.")
        else:
            given = value if has_value else rest.pop(0)
            expanded.append(f"--{name}={_as_list(flag, given, kind)}")
    return expanded


def _is_flag(argument: str) -> bool:
    name = argument.removeprefix("--").removeprefix("no-").partition("=")[0]
    return argument.startswith("--") and (name in ALIASES or name in TYPES or name == "config")


def _as_list(flag: str, value: str, kind: Any) -> str:
    """Convert comma-separated values to JSON if the type is a list. Return other values unchanged."""
    tuples = [option for option in _options(kind) if get_origin(option) is tuple]
    if not tuples or value.startswith("["):
        return value
    parts = [part.strip() for part in value.split(",") if part.strip()]
    if not parts:
        raise UserError(f"`--{flag}` requires at least one value, got {value!r}.")
    if float in get_args(tuples[0]):
        return f"[{','.join(parts)}]"
    return json.dumps(parts)


def _options(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _is_bool(kind: Any) -> bool:
    return bool in _options(kind)


def _explain(error: ArgumentError) -> str:
    """Rewrite an error message of the parser in one line, with short flags and descriptions of types."""
    text = " ".join(str(error).split())
    flags = {name: f"`--{short}`" for name, short in _SHORT.items()}
    wrong = re.search(r'^Parser key "(?P<name>[\w.]+)": .*(?:Got|Given) value: (?P<value>.*)$', text)
    if wrong is not None and wrong["name"] in TYPES:
        return f"{flags[wrong['name']]} must be {_rule(TYPES[wrong['name']])}, got {wrong['value']!r}"
    return re.sub(r"[\w.]+", lambda word: flags.get(word[0], word[0]), text).rstrip(".")


def _rule(kind: Any) -> str:
    """Describe the valid values of a type."""
    options = [option for option in _options(kind) if option is not type(None)]
    choices = [str(choice) for option in options if get_origin(option) is Literal for choice in get_args(option)]
    if choices:
        return f"one of {', '.join(choices)}"
    names = {float: "a number", int: "a whole number", bool: "true or false"}
    return next((names[option] for option in options if option in names), "a valid value")


def command_line(args: Sequence[str] | None) -> list[str]:
    """Return the given arguments, or those of the command line.

    Args:
        args: Arguments. None selects those of the command line.
    """
    return list(sys.argv[1:] if args is None else args)


def saved_config(folder: Path, name: str) -> list[str]:
    """Return the arguments that load the configuration saved in a results folder.

    Args:
        folder: Results folder.
        name: Name of the file.

    Raises:
        UserError: If the folder has no such file.
    """
    path = folder / name
    if not path.is_file():
        raise UserError(
            f"No file {path}; give the `--output_dir` of an `evaluate`. Boxes of other programs are scored by "
            "`alpharefine evaluate --tracker replay --results_dir FOLDER`."
        )
    return [f"--config={path}"]
