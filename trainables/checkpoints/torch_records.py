"""What a pickle of torch holds, seen in its records: dictionaries, modules, and tensors as parts of storages."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from trainables.checkpoints.pickles import Global, PersistentId, Record

_REBUILD = "torch._utils._rebuild_"
_STORAGES = {
    f"torch.{name}Storage": dtype
    for name, dtype in (
        ("Double", torch.float64),
        ("Float", torch.float32),
        ("Half", torch.float16),
        ("BFloat16", torch.bfloat16),
        ("Long", torch.int64),
        ("Int", torch.int32),
        ("Short", torch.int16),
        ("Char", torch.int8),
        ("Byte", torch.uint8),
        ("Bool", torch.bool),
        ("ComplexFloat", torch.complex64),
        ("ComplexDouble", torch.complex128),
    )
} | {"torch.storage.UntypedStorage": torch.uint8}
_DTYPES = {str(dtype): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}
_MOST_PARTS, _MOST_SHARED, _LONGEST_NAME, _MOST_WRAPPERS = 100_000, 16, 300, 8
"""Bounds for what a hostile file can nest."""
SHOWN, _LONGEST_SHOWN = 6, 80
"""Keys in a message, and characters of each."""
_MOST_DIMENSIONS = 64
"""torch's own limit."""


class WeightsFileError(Exception):
    """A file holds no weights that can be read; the message says what it is, and the fix."""


@dataclass(frozen=True)
class StoragePart:
    """A storage as a pickle names it."""

    key: str
    dtype: torch.dtype
    start: int
    """Of a view into it, in elements."""


def storage_part(outside: object) -> StoragePart | None:
    """Read ``("storage", type, key, location, length[, (view's key, start, length)])``; None: it is something else."""
    value = outside.value if isinstance(outside, PersistentId) else None
    kind, key, view = _at(value, 1), _at(value, 2), _at(value, 5)
    dtype = _STORAGES.get(kind.name) if isinstance(kind, Global) else None
    starts = (0,) if view is None else _numbers((_at(view, 1),))
    return StoragePart(key, dtype, starts[0]) if dtype is not None and isinstance(key, str) and starts else None


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as the file states it: some of a storage's elements."""

    storage: str
    dtype: torch.dtype
    start: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def stored_tensor(value: object) -> StoredTensor | None:
    """Read the call that would make a tensor; None: it is something else, or of a kind that is no plain tensor."""
    for _ in range(_MOST_WRAPPERS):
        name = _name(value)
        arguments = value.arguments if isinstance(value, Record) else None
        if name in (f"{_REBUILD}parameter", f"{_REBUILD}parameter_with_state"):
            value = _at(arguments, 0)
        elif name in ("torch._tensor._rebuild_from_type_v2", "torch._tensor._rebuild_from_type"):
            value = Record(_at(arguments, 0), _at(arguments, 2))
        else:
            break
    if name not in (f"{_REBUILD}tensor", f"{_REBUILD}tensor_v2", f"{_REBUILD}tensor_v3"):
        return None
    storage, offset, size, stride = (_at(arguments, index) for index in range(4))
    stored, sizes, strides, offsets = storage_part(storage), _numbers(size), _numbers(stride), _numbers((offset,))
    if stored is None or sizes is None or strides is None or offsets is None or len(sizes) != len(strides):
        return None
    dtype, named = stored.dtype, _at(arguments, 6)
    if name.endswith("v3") and isinstance(named, Global) and named.name in _DTYPES:
        dtype = _DTYPES[named.name]
    return StoredTensor(stored.key, dtype, stored.start + offsets[0], sizes, strides)


def entries(content: object) -> dict[str, object] | None:
    """Return what a dictionary of any class, or a whole pickled module's state dict, holds by name; None: neither.

    Raises:
        WeightsFileError: It is a module of more parts than any network has.
    """
    if isinstance(content, dict):
        return content
    if not isinstance(content, Record) or is_tensor(content):
        return None
    if _is_module(content):
        return dict(_module_state(content))
    if content.items is None and _name(content) == "collections.OrderedDict":
        # Python 2 gave its pairs to the call.
        return {key: value for key, value in map(_pair, _listed(content)) if isinstance(key, str)}
    return content.items


def is_tensor(value: object) -> bool:
    """Return whether a value is a tensor that can be read."""
    return stored_tensor(value) is not None


def described(content: object) -> str:
    """Return in words what a checkpoint holds: its first keys, and of what kind they are."""
    found = entries(content)
    if found is None:
        return _kind(content)
    parts = [f"{shown(key)} ({_kind(value)})" for key, value in list(found.items())[:SHOWN]]
    return f"{', '.join(parts)}{', ...' if len(found) > SHOWN else ''}" if parts else "nothing"


def shown(name: str) -> str:
    """Return a stranger's name as it can be printed in a line."""
    short = name if len(name) <= _LONGEST_SHOWN else f"{name[: _LONGEST_SHOWN - 3]}..."
    return short if short.isprintable() else ascii(short)


def _kind(value: object) -> str:
    if is_tensor(value):
        return "a tensor"
    found = entries(value)
    if found is not None:
        tensors = sum(is_tensor(one) for one in found.values())
        return (
            f"{tensors} tensors" if found and tensors == len(found) else f"{len(found)} keys, {tensors} of them tensors"
        )
    return shown(_name(value)) if isinstance(value, Record | Global) else type(value).__name__


def _is_module(record: Record) -> bool:
    state = _attributes(record)
    return isinstance(state.get("_parameters"), (dict, Record)) and isinstance(state.get("_modules"), (dict, Record))


def _module_state(module: Record) -> Iterator[tuple[str, object]]:
    """Yield what a module's `state_dict` would hold, in its order."""
    todo, left, times = [("", module)], _MOST_PARTS, Counter[int]()
    while todo:
        prefix, one = todo.pop()
        state = _attributes(one)
        own = _plain_entries(state.get("_parameters")) | _plain_entries(state.get("_buffers"))
        inner = _plain_entries(state.get("_modules"))
        passing = _elements(state.get("_non_persistent_buffers_set"))
        left -= 1 + len(own) + len(inner) + len(passing)
        times[id(one)] += bool(own)
        # Parts may be shared, and hold themselves: a small file then states a tree without an end.
        is_tree = left >= 0 and times[id(one)] <= _MOST_SHARED
        if not is_tree or any(len(prefix) + len(name) > _LONGEST_NAME for name in (*own, *inner)):
            raise WeightsFileError("the file holds a module of more parts than a network has")
        unsaved = {name for name in passing if isinstance(name, str)}
        yield from (
            (f"{prefix}{name}", value) for name, value in own.items() if is_tensor(value) and name not in unsaved
        )
        parts = [(f"{prefix}{name}.", part) for name, part in inner.items() if isinstance(part, Record)]
        todo += reversed(parts)


def _attributes(record: Record) -> dict[str, object]:
    state = record.state
    if isinstance(state, tuple) and len(state) == 2:
        state = state[0]
    return state if isinstance(state, dict) else {}


def _plain_entries(value: object) -> dict[str, object]:
    """`entries`, of what is no module."""
    found = value.items if isinstance(value, Record) else value
    return found if isinstance(found, dict) else {}


def _elements(value: object) -> list[object]:
    """Return those of a set, which is a list in one protocol and a call in another."""
    listed = _listed(value) if isinstance(value, Record) else value
    return listed if isinstance(listed, list) else []


def _listed(record: Record) -> list[object]:
    first = _at(record.arguments, 0)
    return first if isinstance(first, list) else []


def _pair(value: object) -> tuple[object, object]:
    return (value[0], value[1]) if isinstance(value, list | tuple) and len(value) == 2 else (None, None)


def _at(value: object, index: int) -> object:
    return value[index] if isinstance(value, tuple) and index < len(value) else None


def _numbers(value: object) -> tuple[int, ...] | None:
    if isinstance(value, Record) and _name(value) == "torch.Size":
        value = _at(value.arguments, 0)
    if not isinstance(value, tuple) or len(value) > _MOST_DIMENSIONS:
        return None
    return tuple(value) if all(type(one) is int and 0 <= one < 2**63 for one in value) else None


def _name(value: object) -> str:
    function = value.function if isinstance(value, Record) else value
    return function.name if isinstance(function, Global) else "an object"
