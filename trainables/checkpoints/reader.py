"""Files that `torch.save` wrote, of any age: what they hold, and their tensors, without running what they carry.

Everything that a file states, an offset, a size, a stride, a storage's length, is compared with the file before
anything is allocated for it; tensors take no more memory than the file takes on the disk, and as float32 for half
precision twice that.
"""

import io
import math
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import torch
from torch import Tensor

from trainables.checkpoints.pickles import read_pickle
from trainables.checkpoints.torch_records import (
    SHOWN,
    StoredTensor,
    WeightsFileError,
    described,
    entries,
    shown,
    storage_part,
    stored_tensor,
)

_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""What files from before torch 1.6 begin with (torch/serialization.py)."""
_HALF = (torch.float16, torch.bfloat16)
_BIG_ENDIAN = "it was written by a machine of the other byte order; write it anew on a little-endian one"
_AGAIN = "bring or download it again"
_OTHER = "hpo reads what torch.save or safetensors wrote"
_OTHER_KINDS = {
    b"version https://git-lfs": "a pointer of Git LFS, not the weights themselves; `git lfs pull` fetches them",
    b"<": "a web page, not weights: the download gave a login or an error; download the file itself",
    b"{": "a text in JSON, not weights: the download gave an answer or an index; download the weights themselves",
    b"\x1f\x8b": "a gzip archive; unpack it, and name the checkpoint in it",
    b"bzh": "a bzip2 archive; unpack it, and name the checkpoint in it",
    b"\xfd7zxz": "an xz archive; unpack it, and name the checkpoint in it",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive; unpack it, and name the checkpoint in it",
    b"7z\xbc\xaf": "a 7z archive; unpack it, and name the checkpoint in it",
    b"\x89hdf": "an HDF5 file, as Keras writes; convert it to a PyTorch state dict",
    b"\x93numpy": "a NumPy array; convert it to a PyTorch state dict",
    b"\x89png": "a picture, not weights",
    b"\xff\xd8\xff": "a picture, not weights",
}
"""By what a file begins with, in lower case."""


@dataclass(frozen=True)
class Checkpoint:
    """A file's content, its tensors not read yet."""

    path: Path
    content: object
    """Plain containers and records; see `entries` and `is_tensor`."""
    storages: Mapping[str, tuple[int, int]]
    """By key: where in the file, and how many bytes."""

    def tensors(self, state: Mapping[str, object]) -> dict[str, Tensor]:
        """Read tensors, half precision as float32; those that share a storage in the file share it here.

        Args:
            state: Some of what `entries` gave; each value `is_tensor`.

        Raises:
            WeightsFileError: A tensor does not lie within its storage, or a storage not within the file.
        """
        tensors: dict[str, Tensor] = {}
        with self.path.open("rb") as file:
            storages = _Storages(file, self.storages)
            for name, value in state.items():
                stored = stored_tensor(value)
                assert stored is not None
                try:
                    tensors[name] = _tensor(storages, stored)
                except (ValueError, RuntimeError) as error:
                    raise WeightsFileError(
                        f"the file is damaged or was cut short ({shown(name)}: {_line(error)}); {_AGAIN}"
                    ) from error
        return tensors


def read_checkpoint(path: Path) -> Checkpoint:
    """Read what a file of `torch.save` holds, zip or legacy, without its tensors.

    Raises:
        WeightsFileError: It is something else, cut short or damaged.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(512)
        file.seek(0)
        try:
            if start.startswith(b"PK"):
                return _read_zip(path, file)
            if start.startswith(b"\x80"):
                return _read_legacy(path, file)
        except (ValueError, LookupError, EOFError, struct.error, RuntimeError, zipfile.BadZipFile) as error:
            raise WeightsFileError(f"the file is damaged or was cut short ({_line(error)}); {_AGAIN}") from error
    raise WeightsFileError(_other_file(start))


def _read_zip(path: Path, file: io.BufferedReader) -> Checkpoint:
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in members if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        names = ", ".join(shown(name) for name in list(members)[:SHOWN])
        raise WeightsFileError(
            f"a zip that torch.save did not write ({names or 'it is empty'}); unpack it, and name the checkpoint in it"
        )
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in members:
        raise WeightsFileError(
            "a TorchScript program, not weights; write its weights with"
            " torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')"
        )

    def part(info: zipfile.ZipInfo) -> tuple[int, int]:
        if info.compress_type != zipfile.ZIP_STORED:
            raise WeightsFileError("a checkpoint that was zipped anew, compressed; bring it as torch.save wrote it")
        file.seek(info.header_offset)
        signature, lengths = struct.unpack("<4s22x4s", file.read(30))
        if signature != b"PK\x03\x04":
            raise ValueError("a part is not where its list says")
        # https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.7: the name's length and the extra field's.
        return info.header_offset + 30 + sum(struct.unpack("<HH", lengths)), info.file_size

    if f"{folder}byteorder" in members and _part(file, part(members[f"{folder}byteorder"])) != b"little":
        raise WeightsFileError(_BIG_ENDIAN)
    content = read_pickle(io.BytesIO(_part(file, part(members[pickles[0]])))).content
    prefix = f"{folder}data/"
    storages = {name.removeprefix(prefix): part(info) for name, info in members.items() if name.startswith(prefix)}
    return Checkpoint(path, content, storages)


def _read_legacy(path: Path, file: io.BufferedReader) -> Checkpoint:
    stream = io.BytesIO(file.read())
    size = len(stream.getbuffer())
    first = read_pickle(stream).content
    if first != _LEGACY_MAGIC:
        raise WeightsFileError(f"a pickle that torch.save did not write, which holds {described(first)}; {_OTHER}")
    protocol, system, pickle, keys = (read_pickle(stream) for _ in range(4))
    if protocol.content != _LEGACY_PROTOCOL or not _is_texts(keys.content):
        raise ValueError("its header is not torch's")
    if (entries(system.content) or {}).get("little_endian") is False:
        raise WeightsFileError(_BIG_ENDIAN)
    widths = {storage.key: storage.dtype.itemsize for storage in map(storage_part, pickle.persistent_ids) if storage}
    storages: dict[str, tuple[int, int]] = {}
    for key in keys.content:
        if key not in widths:
            raise ValueError("it holds a storage that nothing uses")
        (count,) = struct.unpack("<Q", stream.read(8))
        storages[key] = stream.tell(), count * widths[key]
        _check_within(size, *storages[key])
        stream.seek(sum(storages[key]))
    return Checkpoint(path, pickle.content, storages)


def _is_texts(content: object) -> TypeGuard[list[str]]:
    return isinstance(content, list) and all(isinstance(one, str) for one in content)


def _part(file: io.BufferedReader, place: tuple[int, int]) -> bytes:
    _check_within(file.seek(0, io.SEEK_END), *place)
    file.seek(place[0])
    return file.read(place[1])


def _check_within(size: int, start: int, count: int) -> None:
    if not 0 <= start <= start + count <= size:
        raise ValueError(f"a part of {count} bytes at byte {start} of a file of {size}")


class _Storages:
    """Reads a file's storages, each once."""

    def __init__(self, file: io.BufferedReader, places: Mapping[str, tuple[int, int]]) -> None:
        self.file, self.places = file, places
        self.read: dict[str, Tensor] = {}
        self.typed: dict[tuple[str, torch.dtype], Tensor] = {}
        self.size = self.left = file.seek(0, io.SEEK_END)

    def get(self, key: str, dtype: torch.dtype) -> Tensor:
        """Return a storage's elements, (elements,); half precision as float32.

        Raises:
            ValueError: The file does not hold it.
        """
        if (key, dtype) not in self.typed:
            content = self._bytes(key)
            elements = content[: len(content) // dtype.itemsize * dtype.itemsize].view(dtype)
            # The whole storage, since any number of tensors may share it.
            self.typed[key, dtype] = elements.float() if dtype in _HALF else elements
        return self.typed[key, dtype]

    def _bytes(self, key: str) -> Tensor:
        if key not in self.read:
            if key not in self.places:
                raise ValueError(f"no storage {shown(key)}")
            start, count = self.places[key]
            _check_within(self.size, start, count)
            # Parts of a hostile zip may overlap.
            self.left -= count
            if self.left < 0:
                raise ValueError("storages larger than the file")
            storage = torch.empty(count, dtype=torch.uint8)
            self.file.seek(start)
            if self.file.readinto(storage.numpy().data) != count:
                raise ValueError("a storage cut short")
            self.read[key] = storage
        return self.read[key]


def _tensor(storages: _Storages, stored: StoredTensor) -> Tensor:
    """Cut a tensor out of its storage.

    Raises:
        ValueError: It does not lie within it.
    """
    elements = storages.get(stored.storage, stored.dtype)
    count = math.prod(stored.size)
    reached = sum((size - 1) * stride for size, stride in zip(stored.size, stored.stride, strict=True)) + 1
    if count > len(elements) or stored.start + (reached if count else 0) > len(elements):
        raise ValueError(f"more elements than the {len(elements)} of its storage")
    return elements.as_strided(stored.size, stored.stride, stored.start)


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _other_file(start: bytes) -> str:
    """Say what a file is that begins with `start`, and the fix."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for beginning, said in _OTHER_KINDS.items():
        if text.startswith(beginning) or start.startswith(beginning):
            return said
    if start[257:262] == b"ustar":
        return "a tar archive; unpack it, and name the checkpoint in it"
    if not start.strip(b"\0"):
        return f"the file {'is damaged: it begins with zeros' if start else 'is empty'}; {_AGAIN}"
    return f"the file is damaged or no weights: it begins with {start[:16]!r}; {_OTHER}"
