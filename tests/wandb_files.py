"""What an offline run of wandb has written: its run file is a log of records, in the blocks of LevelDB's logs."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from wandb.proto import wandb_internal_pb2

_FILE_HEADER, _BLOCK, _RECORD = 7, 32768, struct.Struct("<IHB")
_FULL, _LAST = 1, 4


class WandbRun(NamedTuple):
    """Content of a run: name, configuration, rows of the history, summary and artifacts."""

    folder: Path
    name: str
    config: dict[str, Any]
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    artifacts: list[Any]

    def logged(self, key: str) -> list[Any]:
        """All values of a key, in order."""
        return [row[key] for row in self.history if key in row]

    def file(self, value: dict[str, Any]) -> Path:
        """Path of the file that a logged value stands for."""
        return self.folder / "files" / str(value["path"])

    def table(self, key: str) -> dict[str, Any]:
        """Content of the only table of a key."""
        (value,) = self.logged(key)
        content: dict[str, Any] = json.loads(self.file(value).read_text())
        return content


def read_run(folder: Path) -> WandbRun:
    """Read the only offline run below a folder, which has ended; the process of wandb may still write its file."""
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    deadline = time.monotonic() + 30
    while not (records := list(_records(path))) or records[-1].WhichOneof("record_type") != "exit":
        assert time.monotonic() < deadline, f"{path} has no end"
        time.sleep(0.05)
    run = WandbRun(path.parent, "", {}, [], {}, [])
    for record in records:
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = run._replace(name=record.run.display_name)
            _update(run.config, record.run.config.update)
        elif kind == "config":
            _update(run.config, record.config.update)
        elif kind == "history":
            run.history.append({})
            _update(run.history[-1], record.history.item)
        elif kind == "summary":
            _update(run.summary, record.summary.update)
        elif kind == "artifact" and record.artifact.type != "run_table":
            run.artifacts.append(record.artifact)
    return run


def _update(values: dict[str, Any], items: Any) -> None:
    for item in items:
        *parents, name = list(item.nested_key) or [item.key]
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = json.loads(item.value_json)


def _records(path: Path) -> Iterator[Any]:
    data, place, parts = path.read_bytes(), _FILE_HEADER, b""
    assert data[:4] in (b":W&B", b"")
    while place + _RECORD.size <= len(data):
        rest = _BLOCK - place % _BLOCK
        if rest < _RECORD.size:
            place += rest
            continue
        _, length, kind = _RECORD.unpack_from(data, place)
        place += _RECORD.size
        if place + length > len(data):
            return
        parts += data[place : place + length]
        place += length
        if kind in (_FULL, _LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record
