"""Scan of pickles before they are loaded: the globals they name, and bounds of their cost.

The reader of torch runs no code from a file, but a few bytes can still make it allocate gigabytes
(``bytearray(2**31)``), or build nested tuples whose hash or text takes forever. The scan reads the opcodes without
building anything. It bounds

* the globals: only those that build tensors and plain values;
* the expanded size: the number of values and characters, if every reference to a shared value were a copy of it;
* the nesting: hashing a deep tuple overflows the stack of the interpreter;
* the arguments of `_codecs.encode` and `numpy.dtype`, which take quadratic time for some.

Values that refer to themselves are refused, because they have no expanded size.
"""

from __future__ import annotations

import pickletools
from typing import IO

import torch

MAX_SIZE = 2**20
"""Maximum expanded size of all values; a training checkpoint of AR34 with its optimizer has 54,000."""

MAX_DEPTH = 100
"""Maximum nesting; a training checkpoint has about 10."""

MAX_LONGS = 20_000
"""Maximum number of integers above 32 bits, whose hashes can be made to collide."""

_MAX_LABEL = 16
"""Maximum length of the strings and tuples that are kept for the check of arguments."""

_GLOBALS = {
    *("collections.OrderedDict", "collections.Counter", "torch.Size", "torch.device", "torch.nn.parameter.Parameter"),
    *(f"torch._utils.{name}" for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")),
    *("__builtin__.complex", "builtins.complex", "__builtin__.set", "builtins.set", "_codecs.encode", "numpy.dtype"),
    *(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")),
}
"""Globals that build tensors and plain values. `torch.Tensor` and `bytearray` allocate what a number asks for."""

_POPPED = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "REDUCE": 2, "NEWOBJ": 2, "BINPERSID": 1, "TUPLE": None}
"""Opcodes that replace values by a new one, and how many; None for all above the last mark."""

_ADDED = {"APPEND": 1, "SETITEM": 2, "BUILD": 1, "APPENDS": None, "SETITEMS": None}
"""Opcodes that add values to the one below them, and how many; None for all above the last mark."""

_ATOMS = {
    *("NONE", "NEWFALSE", "NEWTRUE", "EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET", "GLOBAL"),
    *("BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING", "LONG1"),
}


class PickleError(ValueError):
    """A pickle that is not loaded. The message completes the sentence "The file ...".

    Args:
        reason: What the file does.
        required: Global that is not allowed; None for another reason.
    """

    def __init__(self, reason: str, required: str | None = None) -> None:
        super().__init__(reason)
        self.required = required


class _Value:
    """Size and nesting of a value on the stack.

    Attributes:
        label: Name of a global, text of a short string, or labels of the items of a short tuple; else None.
        size: Number of values and characters in it, shared ones counted at each reference.
        depth: Number of containers around its innermost value.
        is_shared: True once a second reference exists; the size may not change from then on.
    """

    __slots__ = ("depth", "is_shared", "label", "size")

    def __init__(self, size: int = 1, label: object = None) -> None:
        self.label, self.size, self.depth, self.is_shared = label, size, 0, False

    def add(self, values: list[_Value]) -> None:
        self.size += sum(value.size for value in values)
        self.depth = max([self.depth, *(value.depth + 1 for value in values)])
        if self.depth > MAX_DEPTH:
            raise PickleError(f"nests values more than {MAX_DEPTH} deep")


class PickleScanner:
    """Scan of the pickles of one file, which share the bounds.

    Args:
        foreign: Prefixes of the names of foreign classes that are allowed.

    Attributes:
        foreign_globals: Full names of the foreign classes that were found.
    """

    def __init__(self, foreign: tuple[str, ...] = ()) -> None:
        self._foreign = foreign
        self.foreign_globals: set[str] = set()
        self._size = self._longs = 0

    def scan(self, stream: IO[bytes] | bytes) -> None:
        """Read one pickle up to its end.

        Args:
            stream: Bytes, or a stream at the start of the pickle.

        Raises:
            PickleError: If the pickle exceeds a bound, or names a global that is not allowed.
            ValueError: If the bytes are not a pickle.
            LookupError: If the pickle takes values that it does not have.
        """
        stack: list[_Value] = []
        outer: list[list[_Value]] = []
        memo: dict[int, _Value] = {}
        for opcode, argument, _ in pickletools.genops(stream):
            name = opcode.name
            index = argument if isinstance(argument, int) else -1
            self._count(1)
            if name in _ATOMS:
                stack.append(self._atom(name, argument))
            elif name in ("BINPUT", "LONG_BINPUT"):
                memo[index] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                stack.append(memo[index])
                stack[-1].is_shared = True
                self._count(stack[-1].size)
            elif name == "MARK":
                outer.append(stack)
                stack = []
            elif name in _POPPED or name in _ADDED:
                count = _POPPED[name] if name in _POPPED else _ADDED[name]
                if count is None:
                    values, stack = stack, outer.pop()
                else:
                    values = [stack.pop() for _ in range(count)][::-1]
                if name == "REDUCE":
                    _require_plain_call(*values)
                if name in _POPPED:
                    is_short = name.startswith("TUPLE") and len(values) <= _MAX_LABEL
                    stack.append(_Value(label=tuple(value.label for value in values) if is_short else None))
                elif stack[-1].is_shared:
                    raise PickleError("holds a value that refers to itself")
                stack[-1].add(values)
            elif name not in ("PROTO", "STOP"):
                raise PickleError(f"uses the opcode {name}, which no weight file needs")

    def _atom(self, name: str, argument: object) -> _Value:
        if name == "GLOBAL":
            self._require_allowed(str(argument).replace(" ", "."))
        self._longs += name == "LONG1"
        if self._longs > MAX_LONGS:
            raise PickleError(f"holds more than {MAX_LONGS:,} long integers")
        length = len(argument) if isinstance(argument, str | bytes) else 0
        self._count(length)
        return _Value(1 + length, argument if length <= _MAX_LABEL or name == "GLOBAL" else None)

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > MAX_SIZE:
            raise PickleError(f"holds more than {MAX_SIZE:,} values and characters beside its tensors")

    def _require_allowed(self, name: str) -> None:
        if name.startswith(self._foreign):
            self.foreign_globals.add(name)
        elif name not in _GLOBALS and not _is_type_of_numbers(name):
            raise PickleError(f"asks for {name}", name)


def _is_type_of_numbers(name: str) -> bool:
    """Return True for the full name of a dtype or of a typed storage of torch."""
    module, _, last = name.rpartition(".")
    is_storage = last.endswith("Storage") and last not in ("TypedStorage", "UntypedStorage")
    return module == "torch" and (is_storage or isinstance(getattr(torch, last, None), torch.dtype))


def _require_plain_call(function: _Value, arguments: _Value) -> None:
    """Require a quick codec of `_codecs.encode`, and a simple type of `numpy.dtype`."""
    labels = arguments.label if isinstance(arguments.label, tuple) else ()
    if function.label == "_codecs encode" and labels[1:] != ("latin1",):
        raise PickleError("encodes text in another way than latin1")
    if function.label == "numpy dtype" and not (labels and isinstance(labels[0], str | bytes)):
        raise PickleError("describes numbers that are not simple")
