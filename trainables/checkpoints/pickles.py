"""Pickles read as data: their opcodes are followed, and nothing that they name is imported, made or called.

The standard library's table of opcodes (`pickletools`) parses; what a pickle would call becomes a `Record`. Neither
unpickler is a base for that. torch's restricted one (`torch/_weights_only_unpickler.py`, private) stops at the first
name that it does not know, reads protocol 2 alone, and trusts the numbers that it calls torch with. The standard
library's reads a table of names through `find_class`, but fills what it found with attributes, allocates for the memo
index that a file states, and hashes nested tuples without a limit.
"""

import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

_MOST_OPCODES = 2**22
"""A checkpoint has thousands. Each takes at most some hundred bytes of memory, and a microsecond or two."""
_MOST_NAME = 1000
"""Characters of a global's name. A text that is remembered can be named again and again, by five bytes each time."""
_MOST_MEMO = 2**32
"""No index of the binary opcodes is larger."""


@dataclass(frozen=True, slots=True, eq=False)
class Global:
    """A function or class that a pickle names."""

    name: str
    """Such as ``collections.OrderedDict``."""


@dataclass(frozen=True, slots=True, eq=False)
class PersistentId:
    """What a pickle keeps outside of itself; torch: a storage."""

    value: object


@dataclass(slots=True, eq=False)
class Record:
    """What a call would have returned: the call, and what would have been put into it."""

    function: object
    """A `Global`, unless the pickle is hostile."""
    arguments: object
    state: object = None
    items: dict[str, object] | None = None


@dataclass(frozen=True)
class Pickle:
    """A pickle's content in plain containers, and all that it keeps outside."""

    content: object
    persistent_ids: tuple[PersistentId, ...]


def read_pickle(stream: IO[bytes]) -> Pickle:
    """Read one pickle; `stream` then stands behind it.

    Sets become lists. Of a dictionary the entries are kept whose key is text: those alone can name a tensor, and
    hashing what a stranger chose can take forever.

    Args:
        stream: Its `read` must allocate no more than there is, whatever it is asked for: `io.BytesIO`'s does.

    Raises:
        ValueError: It is cut short, damaged or too large.
    """
    machine = _Machine()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of escapes in text that is not Python's own.
            for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
                if count == _MOST_OPCODES:
                    raise ValueError(f"it has more than {_MOST_OPCODES} opcodes")
                if opcode.name != "STOP":
                    machine.step(opcode, argument)
        return Pickle(machine.stack.pop(), tuple(machine.persistent_ids))
    except LookupError as error:
        raise ValueError("it takes what it never put down") from error


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}
        self.persistent_ids: list[PersistentId] = []

    def step(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """Follow one opcode."""
        name, stack = opcode.name, self.stack
        if name == "MARK":
            self.marks.append(len(stack))
        elif name == "POP" and self.marks and self.marks[-1] == len(stack):
            self.marks.pop()
        elif name == "DUP":
            stack.append(stack[-1])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._remember(len(self.memo) if name == "MEMOIZE" else argument)
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        else:
            operands = self._taken(opcode.stack_before) + ([] if opcode.arg is None else [argument])
            act: Callable[..., object] = _RESULTS.get(name, _last)
            result = act(*operands)
            if isinstance(result, PersistentId):
                self.persistent_ids.append(result)
            if opcode.stack_after:
                stack.append(result)

    def _taken(self, before: list[pickletools.StackObject]) -> list[Any]:
        """Pop what an opcode takes; what lies above a mark comes as one list."""
        if pickletools.markobject not in before:
            return self._popped(len(before))
        above = self._popped(len(self.stack) - self.marks.pop())
        return [*self._popped(before.index(pickletools.markobject)), above]

    def _popped(self, count: int) -> list[Any]:
        start = len(self.stack) - count
        if not 0 <= start <= len(self.stack):
            raise IndexError
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def _remember(self, index: int) -> None:
        if not 0 <= index < _MOST_MEMO:
            raise ValueError("it has a memo index that no pickle has")
        self.memo[index] = self.stack[-1]


def _extended(target: Any, added: list[Any]) -> Any:
    if isinstance(target, list):
        target.extend(added)
    return target


def _filled(target: Any, pairs: list[Any]) -> Any:
    if isinstance(target, Record):
        target.items = {} if target.items is None else target.items
    filled = target.items if isinstance(target, Record) else target
    if isinstance(filled, dict):
        filled.update((key, value) for key, value in zip(pairs[::2], pairs[1::2], strict=False) if isinstance(key, str))
    return target


def _built(target: Any, state: Any) -> Any:
    if isinstance(target, Record):
        target.state = state
    return target


def _named(argument: str) -> Global:
    return _global(*argument.split(" ", 1))


def _global(*parts: object) -> Global:
    texts = [part for part in parts if isinstance(part, str)]
    if sum(map(len, texts)) > _MOST_NAME:
        raise ValueError(f"it names something by more than {_MOST_NAME} characters")
    return Global(".".join(texts))


def _last(*operands: Any) -> Any:
    return operands[-1] if operands else None


def _together(*operands: Any) -> tuple[Any, ...]:
    return operands


_RESULTS: dict[str, Callable[..., object]] = {
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "TUPLE": tuple,
    "FROZENSET": tuple,
    "TUPLE1": _together,
    "TUPLE2": _together,
    "TUPLE3": _together,
    "DICT": lambda pairs: _filled({}, pairs),
    "APPEND": lambda target, added: _extended(target, [added]),
    "APPENDS": _extended,
    "ADDITEMS": _extended,
    "SETITEM": lambda target, key, value: _filled(target, [key, value]),
    "SETITEMS": _filled,
    "GLOBAL": _named,
    "STACK_GLOBAL": _global,
    "EXT1": lambda code: Global(f"extension {code}"),
    "EXT2": lambda code: Global(f"extension {code}"),
    "EXT4": lambda code: Global(f"extension {code}"),
    "REDUCE": Record,
    "NEWOBJ": Record,
    "NEWOBJ_EX": lambda function, arguments, _named: Record(function, arguments),
    "INST": lambda arguments, named: Record(_named(named), tuple(arguments)),
    "OBJ": lambda parts: Record(parts[0], tuple(parts[1:])),
    "BUILD": _built,
    "PERSID": PersistentId,
    "BINPERSID": PersistentId,
}
"""What an opcode puts on the stack, of what it takes from it and its argument; else the last of these (`LIST`, numbers,
texts, `READONLY_BUFFER`)."""
