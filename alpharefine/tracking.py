"""Start of a run of wandb: online or offline, and errors in one line."""

from __future__ import annotations

import http.client
import ssl
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import wandb

from alpharefine.errors import UserError
from alpharefine.options import WandbMode

PROJECT = "alpharefine"
"""Project of all runs in wandb."""

_TIMEOUT_S = 5.0
"""Time in which the server of wandb must answer."""


def resolve_mode(mode: WandbMode, is_quiet: bool = False) -> Literal["online", "offline"]:
    """Return the mode that wandb is started with.

    Args:
        mode: Value of `--wandb` other than ``off``. ``auto`` is online if wandb finds a key (``WANDB_API_KEY`` or
            ``wandb login``) and its server answers, else offline.
        is_quiet: Do not report on stderr that the server does not answer.

    Raises:
        UserError: If the mode is ``online`` and there is no key or no answer of the server.
    """
    assert mode != "off"
    if mode == "offline":
        return "offline"
    if not wandb.login(prompt=False, verify=False):
        if mode == "auto":
            return "offline"
        raise UserError("`--wandb online` requires a key, found none; set WANDB_API_KEY, or use `--wandb offline`.")
    url = str(wandb.setup().settings.base_url)
    fault = no_answer(url, _TIMEOUT_S)
    if not fault:
        return "online"
    if mode == "online":
        raise UserError(f"`--wandb online`: no answer from {url} ({fault}); use `--wandb offline` or `--wandb auto`.")
    if not is_quiet:
        sys.stderr.write(f"wandb: no answer from {url} ({fault}); the run is tracked offline\n")
    return "offline"


@contextmanager
def refusals_in_one_line(mode: Literal["online", "offline"]) -> Iterator[None]:
    """Turn errors of wandb at the start of a run into errors that name the option to change.

    Args:
        mode: Mode that wandb is started with.

    Raises:
        UserError: If wandb refuses the run.
    """
    try:
        yield
    except wandb.Error as error:
        reason = str(error).partition("\n")[0]
        others = "`--wandb offline` or `--wandb off`" if mode == "online" else "`--wandb off`"
        raise UserError(f"`--wandb`: wandb does not start {mode} ({reason}); use {others}.") from error


def no_answer(url: str, timeout_s: float) -> str:
    """Return the reason why a server does not answer, or an empty string if it does.

    Args:
        url: Address of the server. An error status is an answer.
        timeout_s: Time limit in seconds, also for the look-up of the name.
    """
    faults: list[str] = []
    thread = threading.Thread(target=lambda: faults.append(_ask(url, timeout_s)), daemon=True)
    thread.start()
    thread.join(timeout_s)
    return faults[0] if faults else f"none within {timeout_s:g} s"


def _ask(url: str, timeout_s: float) -> str:
    try:
        urllib.request.urlopen(url, timeout=timeout_s).close()
    except urllib.error.HTTPError:
        return ""
    except urllib.error.URLError as error:
        return "" if isinstance(error.reason, ssl.SSLError) else str(error.reason)  # wandb has its own certificates
    except (OSError, http.client.HTTPException, ValueError) as error:
        return str(error) or type(error).__name__
    return ""
