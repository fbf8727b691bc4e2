"""State dicts in the containers and under the prefixes in which training code saves them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from textwrap import shorten
from typing import Any

from torch import Tensor

from alpharefine.errors import UserError

_KEYS = ("state_dict", "net", "model", "network", "model_state_dict")
"""Names under which training code saves a state dict."""

_WRAPPERS = re.compile(r"(?:module\.|_orig_mod\.)+")
"""Prefixes of modules in `DataParallel`, `DistributedDataParallel` and `torch.compile`."""

_COUNTER_OF_AVERAGES = "n_averaged"
"""Entry that `torch.optim.swa_utils.AveragedModel` adds to a state dict."""

_PREFIX_OF_TASK = "network."
"""Prefix of the parameters of the network in the state dict of `RefineTask`."""

_MAX_NAMES = 8


def find_state(content: Mapping[Any, Any], place: str) -> dict[str, Tensor]:
    """Return the state dict in the content of a file, without the prefixes of wrappers such as ``module.``.

    The state dict is the content itself, or its entry ``state_dict``, ``net``, ``model``, ``network`` or
    ``model_state_dict``. Of the state dict of a training task, the parameters of its network are returned.

    Args:
        content: Content of the file.
        place: Option and path of the file, for messages.

    Raises:
        UserError: If there is no state dict or more than one, or it holds something else than named tensors.
    """
    keys = [key for key in _KEYS if _has_tensors(content.get(key))]
    if len(keys) > 1:
        raise UserError(
            f"{place} holds several state dicts ({', '.join(keys)}); save the one to load in a file of its own."
        )
    if not keys and not _has_tensors(content):
        raise UserError(
            f"{place} is not a checkpoint: it holds no named tensors (it holds {names_of(content)}); give a file with "
            "a state dict."
        )
    state = content[keys[0]] if keys else content
    is_of_task = any(_unwrapped(str(key)).startswith(_PREFIX_OF_TASK) for key in state)
    return _plain_names(state, place, _PREFIX_OF_TASK if is_of_task else "")


def _plain_names(state: Mapping[Any, Any], place: str, prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names start with a prefix, without it and without the prefixes of wrappers."""
    plain: dict[str, Tensor] = {}
    for key, value in state.items():
        name = _unwrapped(str(key))
        if key == _COUNTER_OF_AVERAGES or not name.startswith(prefix):
            continue
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise UserError(
                f"{place} must hold named tensors and nothing else, got {shorten(str(key), 100)!r} with a "
                f"{type(value).__name__}; save a state dict."
            )
        name = _unwrapped(name.removeprefix(prefix))
        if name in plain:
            raise UserError(f"{place}: `{shorten(name, 100)}` is present under two names; save the state dict again.")
        plain[name] = value
    return plain


def names_of(content: Mapping[Any, Any]) -> str:
    """Return the first names in the content of a file, for messages.

    Args:
        content: Content of the file.
    """
    return ", ".join(shorten(str(key), 40) for key in list(content)[:_MAX_NAMES]) or "nothing"


def _unwrapped(name: str) -> str:
    match = _WRAPPERS.match(name)
    return name if match is None else name[match.end() :]


def _has_tensors(value: object) -> bool:
    return isinstance(value, Mapping) and any(isinstance(item, Tensor) for item in value.values())
