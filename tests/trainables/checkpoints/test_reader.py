"""Checkpoints of any age and engine give their tensors; hostile ones run nothing, take no memory, and end in a line."""

import argparse
import collections
import copyreg
import io
import pickle
import pickletools
import random
import struct
import sys
import tracemalloc
import types
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from trainables.errors import InputError
from trainables.networks.weights import load_file

GLOBALS = (
    "os system",
    "builtins eval",
    "torch._utils _rebuild_tensor_v2",
    "collections OrderedDict",
    "copyreg __newobj__",
)
"""Names that hostile pickles call."""
MEMORY_BYTES = 4_000_000
"""What reading a file of some kilobytes may take, the interpreter's caches included."""


class Counter(nn.Module):
    """A network with a parameter of its own, a buffer, a buffer that is not stored, and a part used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(2))
        self.register_buffer("steps", torch.tensor(3))
        self.register_buffer("scratch", torch.rand(4), persistent=False)
        self.first = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        self.again = self.first
        self.nothing = None


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that only the process which wrote a checkpoint has, with classes as training engines store them."""
    module = types.ModuleType("engine_of_others")
    exec(
        "import collections\n"
        "class HistoryBuffer:\n"
        "    def __init__(self, history): self._log_history = history\n"
        "    def __setstate__(self, state): raise SystemError('code of the file ran')\n"
        "class AttributeDict(dict):\n"
        "    def __setitem__(self, key, value): raise SystemError('code of the file ran')\n"
        "class Ordered(collections.OrderedDict): pass\n",
        module.__dict__,
    )
    for made in (module.HistoryBuffer, module.AttributeDict, module.Ordered):
        made.__module__ = module.__name__
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def assert_same(read: dict[str, Tensor], written: dict[str, Tensor]) -> None:
    """Compare values and dtypes; half precision is read as float32."""
    assert list(read) == list(written)
    for name, value in written.items():
        expected = value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
        assert read[name].dtype == expected.dtype
        assert torch.equal(read[name], expected)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_tensors_come_out_from_among_the_objects_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Any, zipped: bool, protocol: int
) -> None:
    state = Counter().state_dict() | {"transposed": torch.rand(2, 3).T, "slice": torch.rand(9)[3:5]}
    state |= {"empty": torch.zeros(0), "half": torch.rand(3).half(), "brain": torch.rand(2).bfloat16()}
    state |= {"flags": torch.tensor([True, False]), "wave": torch.rand(2).to(torch.complex64)}
    hub = {"log_scalars": collections.OrderedDict(loss=engine.HistoryBuffer(np.arange(5.0)))}
    others: dict[Any, Any] = {"args": argparse.Namespace(lr=0.1, out=Path("x"))}
    others |= {"hyper_parameters": engine.AttributeDict(a=1)}
    others |= {"best": np.float64(0.5), "seen": {1, 2}, "message_hub": hub, "rng": np.random.default_rng(0)}
    others |= {3: {b"x"}}
    path = tmp_path / "checkpoint.pth"
    torch.save({**others, "state_dict": state}, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(sys.modules, engine.__name__)

    assert_same(load_file(path), state)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_pickled_module_gives_its_state_dict(tmp_path: Path, zipped: bool) -> None:
    network = Counter()
    torch.save({"epoch": 3, "model": network}, tmp_path / "model.pth", _use_new_zipfile_serialization=zipped)

    assert_same(load_file(tmp_path / "model.pth"), network.state_dict())


def test_a_dictionary_of_an_own_class_is_a_state_dict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Any
) -> None:
    state = engine.Ordered(weight=nn.Parameter(torch.rand(2)))
    torch.save(state, tmp_path / "own.pth")
    monkeypatch.delitem(sys.modules, engine.__name__)

    assert_same(load_file(tmp_path / "own.pth"), dict(state))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_tensors_that_share_a_storage_still_do(tmp_path: Path, dtype: torch.dtype) -> None:
    """In float32, too: else many names of one storage in half precision would take any amount of memory."""
    whole = torch.rand(1000).to(dtype)
    torch.save({"whole": whole, "part": whole[:10], "same": whole}, tmp_path / "shared.pth")

    read = load_file(tmp_path / "shared.pth")

    assert len({value.untyped_storage().data_ptr() for value in read.values()}) == 1


def test_a_pickle_of_python_2_is_read(tmp_path: Path) -> None:
    """Its ordered dictionaries give their pairs to the call, and its texts are bytes."""
    path = tmp_path / "old.pth"
    torch.save({"weight": torch.arange(3.0)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    # {"weight": T} becomes OrderedDict([["weight", T]]): the dictionary's opening, and its closing before the keys.
    opening = b"}q\x00X\x06\x00\x00\x00weightq\x01"
    assert content.count(opening) == 1
    content = content.replace(opening, b"ccollections\nOrderedDict\n(]](U\x06weight")
    closing = content.index(b"s.", content.index(b"OrderedDict\n(]]("))
    path.write_bytes(content[:closing] + b"eatR." + content[closing + 2 :])
    assert "OrderedDict" in "".join(str(one[1]) for one in _opcodes(path.read_bytes()))

    assert_same(load_file(path), {"weight": torch.arange(3.0)})


def _opcodes(content: bytes) -> Iterator[tuple[str, Any]]:
    stream = io.BytesIO(content)
    for _ in range(4):
        yield from ((opcode.name, argument) for opcode, argument, _ in pickletools.genops(stream))


def test_torchscript_and_other_zips_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        for name in ("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py"):
            archive.writestr(name, b"")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("cat/1.jpg", b"")
    torch.save({"weight": torch.zeros(9)}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(tmp_path / "anew.pth", "w", 8) as anew:
        for name in plain.namelist():
            anew.writestr(name, plain.read(name))

    for name, said in (
        ("script.pt", r"a TorchScript program.*torch\.jit\.load"),
        ("photos.zip", r"a zip that torch\.save did not write \(cat/1\.jpg\)"),
        ("anew.pth", "zipped anew, compressed"),
    ):
        with pytest.raises(InputError, match=said):
            load_file(tmp_path / name)


def archive(pickled: bytes, storage: bytes = bytes(64)) -> bytes:
    """Return a checkpoint's zip around a pickle and one storage, ``0``."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as parts:
        parts.writestr("archive/data.pkl", pickled)
        parts.writestr("archive/data/0", storage)
    return made.getvalue()


def tensor(
    offset: int, size: tuple[int, ...], stride: tuple[int, ...], key: str = "0", kind: str = "FloatStorage"
) -> bytes:
    """Return the pickle of ``{"weight": tensor}`` that states these numbers."""
    storage = b"(" + dumped("storage") + f"ctorch\n{kind}\n".encode() + dumped(key) + dumped("cpu") + dumped(16) + b"tQ"
    arguments = b"(" + storage + dumped(offset) + dumped(size) + dumped(stride) + dumped(False) + dumped(None) + b"t"
    return b"\x80\x02}" + dumped("weight") + b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"Rs."


def dumped(value: object) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def nested(opcode: bytes, count: int) -> bytes:
    return b"\x80\x04)" + opcode * count + b"."


SHARED_PARTS = (
    b"\x80\x04}\x94"
    + b"".join(
        # Each module holds the one before it twice: 2 ** 60 parts in a few kilobytes.
        b"cm\nM\n)\x81}("
        + dumped("_parameters")
        + b"}"
        + dumped("_modules")
        + b"}("
        + dumped("a")
        + b"h\x00"
        + dumped("b")
        + b"h\x00uub\x94q\x00"
        for _ in range(60)
    )
    + b"."
)


def shared_module(first: bytes, levels: int, name: str, attribute: bytes = b"") -> bytes:
    """A pickle of a module that holds one module twice, which holds another twice, and so on; `first` comes first."""
    for _ in range(levels):
        twice = b"}(" + b"".join(dumped(name + end) + b"h\x0b" for end in "ab") + b"u"
        first += b"cm\nM\n)\x81}(" + dumped("_parameters") + b"}" + dumped("_modules") + twice + attribute + b"ubq\x0b0"
    return first + b"h\x0b."


# Each dictionary holds the one before it twice.
SHARED_DICTIONARIES = (
    b"\x80\x04}\x94" + b"".join(b"}(" + dumped("a") + b"h\x00" + dumped("b") + b"h\x00uq\x00" for _ in range(60)) + b"."
)
TENSOR = tensor(0, (4,), (1,))[len(b"\x80\x02}" + dumped("weight")) : -2]
# A module of 900 tensors, 64 times under long names.
SHARED_TENSORS = shared_module(
    b"\x80\x04"
    + TENSOR
    + b"q\x0a0cm\nM\n)\x81}("
    + dumped("_parameters")
    + b"}("
    + b"".join(dumped(str(number)) + b"h\x0a" for number in range(900))
    + b"u"
    + dumped("_modules")
    + b"}ubq\x0b0",
    6,
    "k" * 40,
)
# A list of 20,000 that each of 2 ** 8 modules has.
SHARED_LIST = shared_module(
    b"\x80\x04](" + b"N" * 20_000 + b"eq\x0a0}q\x0b0", 8, "a", dumped("_non_persistent_buffers_set") + b"h\x0a"
)
# A long key, in front of many state dicts.
LONG_KEY = (
    b"\x80\x04}"
    + dumped("k" * 100_000)
    + b"}("
    + TENSOR
    + b"q\x000"
    + b"".join(dumped(f"{number}") + b"}" + dumped("w") + b"h\x00s" for number in range(3000))
    + b"us."
)

HOSTILE: dict[str, bytes] = {
    "dictionary of itself": b"\x80\x04}q\x00(" + dumped("a") + b"h\x00" + dumped("b") + b"h\x00u.",
    "shared dictionaries": SHARED_DICTIONARIES,
    "deep dictionaries": b"\x80\x04" + (b"}" + dumped("a")) * 20_000 + b"N" + b"s" * 20_000 + b".",
    "long key": LONG_KEY,
    "reduce": b"\x80\x02cos\nsystem\n" + dumped("touch exploded") + b"\x85R.",
    "global as text": b"cos\nsystem\n(S'touch exploded'\ntR.",
    "stack global": b"\x80\x04" + dumped("os") + dumped("system") + b"\x93" + dumped("touch exploded") + b"\x85R.",
    "build": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}"
    + dumped("__code__")
    + dumped(1)
    + b"s"
    + b"}"
    + dumped("__defaults__")
    + dumped(1)
    + b"s\x86b.",
    "instance": b"(" + dumped("touch exploded") + b"ios\nsystem\n.",
    "object": b"(cos\nsystem\n" + dumped("touch exploded") + b"o.",
    "long names": b"\x80\x04" + dumped("x" * 100_000) + b"q\x00" + b"h\x00h\x00\x93" * 500 + b".",
    "extension registry": b"\x80\x02\x82\xf0" + dumped("touch exploded") + b"\x85R.",
    "memo index": b"\x80\x02)r\xff\xff\xff\xff.",
    "memo index as text": b")p99999999999999999999\n.",
    "nested tuples": nested(b"\x85", 50_000),
    "nested keys": b"\x80\x04})" + b"\x85" * 50_000 + b"Ns.",
    "doubled keys": b"\x80\x04})" + b"2\x86" * 200 + b"Ns.",
    "nested calls": b"\x80\x04)" + b"2R" * 50_000 + b".",
    "nested ids": nested(b"Q", 50_000),
    "shared parts": SHARED_PARTS,
    "shared tensors": SHARED_TENSORS,
    "shared list": SHARED_LIST,
    "long text": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.",
    "long bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
    "long frame": b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b").",
    "long number": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",
    "underflow": b"\x80\x02R.",
    "marks": b"\x80\x02(((0000tttt.",
    "no content": b"\x80\x02.",
    "far offset": tensor(2**40, (4,), (1,)),
    "huge size": tensor(0, (2**40,), (0,)),
    "huge sizes": tensor(0, (2**62,) * 60, (0,) * 60),
    "huge stride": tensor(0, (4, 4), (2**62, 1)),
    "negative size": tensor(0, (-1,), (1,)),
    "negative offset": tensor(-4, (4,), (1,)),
    "no such storage": tensor(0, (4,), (1,), key="../../etc/passwd"),
    "storage as a program": tensor(0, (4,), (1,), kind="serialization.os.system"),
    "huge number": tensor(2 ** (8 * 5000), (4,), (1,)),
}


def refused(path: Path, content: bytes) -> str:
    """Return in which line the reader ends, having allocated little."""
    path.write_bytes(content)
    load_file.__globals__["_load_file"].cache_clear()
    tracemalloc.start()
    try:
        load_file(path)
    except InputError as error:
        return str(error)
    finally:
        allocated = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert allocated < MEMORY_BYTES + 400 * len(content)
    return ""


@pytest.mark.parametrize("wrapped", [archive, lambda pickled: pickled], ids=["zip", "bare"])
@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_pickle_runs_nothing_and_ends_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: str, wrapped: Callable[[bytes], bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    copyreg.add_extension("os", "system", 0xF0)
    rebuild = torch._utils._rebuild_tensor_v2.__code__
    try:
        said = refused(tmp_path / "hostile.pth", wrapped(HOSTILE[attack]))
    finally:
        copyreg.remove_extension("os", "system", 0xF0)

    assert said.startswith(f"--weights {tmp_path / 'hostile.pth'}: ")
    assert "\n" not in said
    assert len(said) < 700
    assert [path.name for path in tmp_path.iterdir()] == ["hostile.pth"]
    assert torch._utils._rebuild_tensor_v2.__code__ is rebuild


def test_a_list_that_modules_share_counts_as_parts_of_each(tmp_path: Path) -> None:
    assert "a module of more parts than a network has" in refused(tmp_path / "hostile.pth", archive(SHARED_LIST))


def test_a_legacy_storage_larger_than_the_file_is_refused_before_it_is_made(tmp_path: Path) -> None:
    path = tmp_path / "legacy.pth"
    torch.save({"weight": torch.zeros(4)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert content.endswith(struct.pack("<Q", 4) + bytes(16))

    for count in (5, 2**40, 2**64 - 1):
        assert "cut short" in refused(path, content[:-24] + struct.pack("<Q", count) + bytes(16))


def test_parts_of_a_zip_that_overlap_are_not_read_twice(tmp_path: Path) -> None:
    names = b"".join(
        dumped(f"w{number}") + tensor(0, (2**18,), (1,), key=str(number))[len(b"\x80\x02}" + dumped("weight")) : -2]
        for number in range(50)
    )
    content = archive(b"\x80\x02}(" + names + b"u.", bytes(2**20))
    with zipfile.ZipFile(io.BytesIO(content)) as parts:
        entry = next(info for info in parts.infolist() if info.filename == "archive/data/0")
    start = content.index(b"PK\x01\x02", entry.header_offset + 2**20)
    first, second = content[start:].split(b"PK\x01\x02")[1:]
    second, end = second.split(b"PK\x05\x06")
    again = [second.replace(b"data/0", f"data/{number}".encode()) for number in range(50)]
    # Names of two digits are a byte longer.
    again = [one[:24] + struct.pack("<H", len(f"archive/data/{number}")) + one[26:] for number, one in enumerate(again)]
    listed = b"".join(b"PK\x01\x02" + one for one in (first, *again))
    footer = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 51, 51, len(listed), start, 0)
    assert len(end) == 18

    said = refused(tmp_path / "overlap.pth", content[:start] + listed + footer)

    assert "storages larger than the file" in said


def seeds() -> list[bytes]:
    """Checkpoints to mutate, zip and legacy."""
    made = []
    content = {"state_dict": Counter().state_dict(), "args": argparse.Namespace(a=[1, {2}]), "n": np.float64(1)}
    for value in (content, Counter()):
        for zipped in (True, False):
            file = io.BytesIO()
            torch.save(value, file, _use_new_zipfile_serialization=zipped)
            made.append(file.getvalue())
    return made


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Return `content` with some bytes changed, cut, doubled, or replaced by a call or a number."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(changed)) if chance.random() < 0.5 else chance.randrange(min(len(changed), 1500))
        match chance.randrange(5):
            case 0:
                changed[at] = chance.randrange(256)
            case 1:
                del changed[at : at + chance.randint(1, 40)]
            case 2:
                changed[at:at] = changed[at : at + chance.randint(1, 200)]
            case 3:
                called = chance.choice(GLOBALS).replace(" ", "\n").encode()
                changed[at:at] = (
                    b"c"
                    + called
                    + b"\n"
                    + dumped("touch exploded")
                    + chance.choice([b"\x85R", b"\x85\x81", b"b", b"Q"])
                )
            case _:
                changed[at : at + 8] = struct.pack("<Q", chance.choice([0, 2**31, 2**40, 2**62, 2**64 - 1]))
    return bytes(changed)


def mutate(folder: Path, count: int, start: int) -> None:
    originals = seeds()
    for number in range(start, start + count):
        chance = random.Random(number)
        original = chance.choice(originals)
        if original.startswith(b"PK") and chance.random() < 0.7:
            with zipfile.ZipFile(io.BytesIO(original)) as parts:
                name = next(one for one in parts.namelist() if one.endswith("data.pkl"))
                content = archive(mutated(parts.read(name), chance))
        else:
            content = mutated(original, chance)
        said = refused(folder / "mutated.pth", content)
        assert "\n" not in said, number
    assert [path.name for path in folder.iterdir()] == ["mutated.pth"]


def test_mutated_checkpoints_are_read_or_end_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    mutate(tmp_path, 300, 0)


@pytest.mark.slow
def test_thousands_of_mutated_checkpoints_are_read_or_end_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    mutate(tmp_path, 20_000, 1000)


OPCODES = sorted(opcode.code.encode("latin-1") for opcode in pickletools.opcodes)
PIECES = st.one_of(
    st.sampled_from(OPCODES),
    st.sampled_from([f"c{name}\n".replace(" ", "\n").encode() for name in GLOBALS]),
    st.sampled_from(
        [dumped(value) for value in ("touch exploded", "storage", (), 1, 2**70, "_modules", "_parameters")]
    ),
    st.binary(max_size=9),
)


def _assert_assembled(folder: Path, pieces: list[bytes]) -> None:
    pickled = b"\x80\x04" + b"".join(pieces) + b"."
    for content in (pickled, archive(pickled)):
        assert "\n" not in refused(folder / "assembled.pth", content)
    assert [path.name for path in folder.iterdir()] == ["assembled.pth"]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(pieces=st.lists(PIECES, max_size=40))
def test_pickles_of_any_opcodes_end_in_a_line(tmp_path: Path, pieces: list[bytes]) -> None:
    _assert_assembled(tmp_path, pieces)


@pytest.mark.slow
@settings(max_examples=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(pieces=st.lists(PIECES, max_size=80))
def test_thousands_of_pickles_of_any_opcodes_end_in_a_line(tmp_path: Path, pieces: list[bytes]) -> None:
    _assert_assembled(tmp_path, pieces)
