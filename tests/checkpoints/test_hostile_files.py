"""Files made to exhaust memory or time, and random damage: one `UserError`, in bounds."""

from __future__ import annotations

import json
import pickle
import random
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from alpharefine.checkpoints import pickles
from alpharefine.checkpoints.files import read_weight_file
from alpharefine.checkpoints.loading import load_checkpoint
from alpharefine.checkpoints.pickles import MAX_DEPTH, MAX_LONGS, PickleError, PickleScanner
from alpharefine.errors import UserError

START = b"\x80\x02"
LIMIT_S = 15
SIZE = 2**16
"""Maximum expanded size in these tests."""


@pytest.fixture(autouse=True)
def _small_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MAX_SIZE", SIZE)


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def call(name: str, arguments: bytes) -> bytes:
    return b"c" + name.replace(" ", "\n").encode() + b"\n(" + arguments + b"tR"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def doubled(times: int) -> bytes:
    """A tuple of two references to a tuple of two references to ..."""
    return b")q\x00" + b"h\x00\x86q\x00" * times


def doubled_list(times: int) -> bytes:
    return b"]q\x01" + b"]h\x01ah\x01aq\x01" * times


BOMBS: dict[str, bytes] = {
    "doubled tuple": START + doubled(60) + b".",
    "doubled tuple as a key": START + b"}" + doubled(60) + b"Ns.",
    "doubled tuple as a function": START + doubled(60) + b")R.",
    "doubled list": START + doubled_list(60) + b".",
    "nested tuples": START + b")" + b"\x85" * 200_000 + b".",
    "nested tuples as a key": START + b"})" + b"\x85" * 200_000 + b"Ns.",
    "nested lists": START + b"]" * 200_000 + b"a" * 199_999 + b".",
    "nested dicts": START + b"}" + b"K\x01}" * 200_000 + b"s" * 200_000 + b".",
    "list in itself": START + b"]q\x00h\x00a.",
    "dict in itself": START + b"}q\x00K\x01h\x00s.",
    "bytearray of 2 GB": START + call("__builtin__ bytearray", number(2**31 - 1)) + b".",
    "many bytearrays": START + b"]" + (call("__builtin__ bytearray", number(2**31 - 1)) + b"a") * 50 + b".",
    "tensor of 10 GB": START + call("torch Tensor", number(50_000) * 2) + b".",
    "storage of 2 GB": START + call("torch.storage UntypedStorage", number(2**31 - 1)) + b".",
    "quadratic codec": START + call("_codecs encode", text("é" * 300_000) + text("punycode")) + b".",
    "many numbers": START + b"(" + b"K\x01" * (SIZE + 1) + b"t.",
    "marks": START + b"(" * (SIZE + 1) + b".",
    "protocols": START * (SIZE + 1) + b".",
    "colliding keys": START + b"}(" + b"".join(
        b"\x8a\x0b" + (i * (2**61 - 1)).to_bytes(11, "little") + b"N" for i in range(1, MAX_LONGS + 2)
    ) + b"u.",
    "long text": START + text("a" * SIZE) + b".",
    "repeated text": START + text("a" * 1000) + b"q\x00" + b"h\x00" * 3000 + b".",
    "text of another opcode": START + b"\x8c\x01a.",
    "text that ends early": START + b"X\xff\xff\xff\x7fabc",
    "pop": START + b"NN0.",
    "no end": START + b"K\x01",
    "empty stack": START + b"R.",
    "no mark": START + b"t.",
    "unknown reference": START + b"h\x07.",
}  # fmt: skip


def in_zip(content: bytes, folder: str = "archive", compression: int = zipfile.ZIP_STORED) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr(f"{folder}/data.pkl", content)
            archive.writestr(f"{folder}/version", b"3\n")

    return write


def in_legacy(content: bytes) -> Callable[[Path], None]:
    head = b"".join(pickle.dumps(value, protocol=2) for value in (0x1950A86A20F9469CFC6C, 1001, {}))
    return lambda path: path.write_bytes(head + content + pickle.dumps([], protocol=2)) and None


def repeated(path: Path) -> None:
    """Members that share their bytes: each name costs 100 bytes and unpacks to 1 MB."""
    in_zip(b"\x00" * 2**20)(path)
    content = path.read_bytes()
    start = content.index(b"PK\x01\x02")
    entry = content[start : start + 46 + len("archive/data.pkl")]
    end = bytearray(content[content.index(b"PK\x05\x06") :])
    end[8:12] = struct.pack("<HH", 1000, 1000)
    end[12:16] = struct.pack("<I", 1000 * len(entry))
    path.write_bytes(content[:start] + entry * 1000 + bytes(end))


def after_others(path: Path) -> None:
    in_zip(START + b"}.")(path)
    path.write_bytes(b"x" * 99 + path.read_bytes())


ARCHIVES: dict[str, Callable[[Path], None]] = {
    "compressed": in_zip(START + text("a" * 50_000_000) + b".", compression=zipfile.ZIP_DEFLATED),
    "members that share bytes": repeated,
    "no pickle": lambda path: in_zip(b"", "x/data.pkl")(path),
    "bytes before the archive": after_others,
}  # fmt: skip


@pytest.mark.parametrize("container", [in_zip, in_legacy])
@pytest.mark.parametrize("name", BOMBS)
def test_pickle_bombs_are_refused_at_once(tmp_path: Path, name: str, container: Any) -> None:
    refused_at_once(tmp_path, container(BOMBS[name]))


@pytest.mark.parametrize("name", ARCHIVES)
def test_archive_bombs_are_refused_at_once(tmp_path: Path, name: str) -> None:
    refused_at_once(tmp_path, ARCHIVES[name])


def refused_at_once(folder: Path, write: Callable[[Path], None]) -> None:
    path = folder / "bomb.pth"
    write(path)
    began = time.perf_counter()
    with pytest.raises(UserError, match=r"^`--ckpt`: .*bomb\.pth") as caught:
        load_checkpoint(path)
    assert time.perf_counter() - began < LIMIT_S
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) - len(str(path)) < 500


PEAK = """
import resource, sys
from pathlib import Path
from alpharefine.checkpoints.loading import load_checkpoint
from alpharefine.errors import UserError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        load_checkpoint(path)
    except UserError:
        continue
    raise SystemExit(f"{path} was loaded")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_bombs_take_little_memory(tmp_path: Path) -> None:
    files = {name: content for name, content in BOMBS.items() if len(content) < SIZE}
    for name, content in files.items():
        in_zip(content)(tmp_path / f"{name}.zip.pth")
        in_legacy(content)(tmp_path / f"{name}.legacy.pth")
    for name, write in ARCHIVES.items():
        write(tmp_path / f"{name}.pth")
    done = subprocess.run([sys.executable, "-c", PEAK, tmp_path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 500  # MB


def test_a_value_may_be_shared_but_not_exceed_the_bounds() -> None:
    shared = pickle.dumps([(1, 2)] * 1000, protocol=2)
    PickleScanner().scan(shared)
    with pytest.raises(PickleError, match=f"nests values more than {MAX_DEPTH} deep"):
        PickleScanner().scan(START + b")" + b"\x85" * (MAX_DEPTH + 1) + b".")
    with pytest.raises(PickleError, match=r"asks for os\.system"):
        PickleScanner().scan(START + call("os system", text("true")) + b".")


def test_a_dict_whose_methods_a_file_replaces_is_read(tmp_path: Path) -> None:
    state = b"ccollections\nOrderedDict\n)R}" + text("items") + b"Ns" + text("get") + b"Nsb"
    in_zip(START + state + b".")(tmp_path / "odd.pth")
    content = read_weight_file(tmp_path / "odd.pth").content
    assert content.get("a") is None
    with pytest.raises(UserError, match="it holds nothing"):
        load_checkpoint(tmp_path / "odd.pth")


# ---- random damage -------------------------------------------------------------------------------------------------


def small_files(folder: Path) -> list[Path]:
    """One small file of each format."""
    tensors = {"network.backbone.conv1.weight": torch.zeros(3), "b": torch.ones(2, 2)}
    hparams = {"backbone": "resnet18", "heads": ("corner",), "lr": 0.1}
    ours = {
        "state_dict": tensors,
        "hyper_parameters": hparams,
        "epoch": 3,
        "optimizer_states": [{"state": {0: tensors}}],
    }
    paths = [folder / name for name in ("a.ckpt", "b.pth", "c.pth.tar", "d.safetensors")]
    torch.save(ours, paths[0])
    torch.save(tensors, paths[1])
    torch.save({"net": tensors, "net_type": "x", "constructor": None}, paths[2], _use_new_zipfile_serialization=False)
    header = {"format": 1, "parts": {"backbone": "resnet18", "heads": ["corner"]}}
    save_file(tensors, paths[3], {"alpharefine": json.dumps(header)})
    return paths


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Cut, overwrite, repeat, delete or insert a few bytes."""
    for _ in range(rng.choice((1, 1, 2, 8))):
        at, length = rng.randrange(len(content) + 1), rng.choice((1, 1, 2, 8, 64))
        new = rng.choice(
            (rng.randbytes(length), b"\x00" * length, b"\xff" * length, content[at : at + length] * 2, b"")
        )
        kept = rng.choice((at, at + length))
        content = content[:at] + new + content[kept:]
        if rng.random() < 0.1:
            content = content[:at]
    return content


def with_damaged_pickle(path: Path, rng: random.Random) -> bytes:
    """Damage the pickle or the numbers inside an archive whose check sums are right again."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    chosen = rng.choice([name for name in members if name.endswith("data.pkl")] * 4 + list(members))
    members[chosen] = damaged(members[chosen], rng)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path.read_bytes()


@pytest.mark.parametrize("seed", range(2))
def test_random_damage_is_one_error(tmp_path: Path, seed: int) -> None:
    damage(tmp_path, seed, 80)


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(2, 12))
def test_more_random_damage_is_one_error(tmp_path: Path, seed: int) -> None:
    damage(tmp_path, seed, 1000)


def damage(tmp_path: Path, seed: int, count: int) -> None:
    rng, paths = random.Random(seed), small_files(tmp_path)
    contents = [path.read_bytes() for path in paths]
    began = time.perf_counter()
    for index in range(count):
        path, content = paths[index % 4], contents[index % 4]
        path.write_bytes(content)
        if index % 4 < 2 and rng.random() < 0.7:
            with_damaged_pickle(path, rng)
        else:
            path.write_bytes(damaged(content, rng))
        with pytest.raises(UserError) as caught:  # the small files hold no whole network
            load_checkpoint(path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) - len(str(path)) < 700
    assert time.perf_counter() - began < count
