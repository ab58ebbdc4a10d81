"""The NVIDIA cards of this machine, as their driver describes them: torch, which knows too, takes long to import."""

import dataclasses
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from hpo.errors import UsageError

_QUERY = (
    *("nvidia-smi", "--query-gpu=index,name,memory.total,driver_version,uuid"),
    "--format=csv,noheader,nounits",
)
_LINE = re.compile(r"([0-9]+)\s*,\s*(.+?)\s*,\s*([^,]+?)\s*,\s*([^,]+?)\s*,\s*([^,]+)")
_PATIENCE_S = 20.0
"""A driver in trouble lets nvidia-smi hang."""
_LONGEST_LABEL = 63
"""Characters that Ray allows in a label's value: letters, digits, and between them also ``-``, ``_`` and ``.``."""


@dataclass(frozen=True)
class Card:
    """One NVIDIA card."""

    index: int
    """Its number on the PCI bus, as nvidia-smi counts; CUDA counts so with ``CUDA_DEVICE_ORDER=PCI_BUS_ID``."""
    name: str
    memory_gb: float
    """GiB; 0: the driver does not say."""
    driver: str
    """The driver's version."""
    uuid: str
    """``GPU-`` and a number."""


@dataclass(frozen=True)
class Part:
    """What one node of a cluster offers of this machine: a card with a fair share of the CPUs, or the whole machine."""

    cpus: int
    gpus: int = 0
    vram_gb: float | None = None
    """GiB of its card; None: there is none, or it does not say."""
    name: str | None = None
    """Its card's name."""
    card: int | None = None
    """Its card's number; None: there is none, or it is only supposed."""

    def __str__(self) -> str:
        memory = f" of {self.vram_gb:g} GB" if self.vram_gb else ""
        gpu = f", {self.name}{memory}" if self.name else ", no GPU"
        return f"{self.cpus} CPUs{gpu}"


def cards() -> tuple[Card, ...]:
    """Return the cards that this process may use; none where there is no driver, or it does not answer.

    ``CUDA_VISIBLE_DEVICES`` is honoured.
    """
    try:
        answer = subprocess.run(_QUERY, capture_output=True, text=True, timeout=_PATIENCE_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return visible(parse(answer.stdout), os.environ.get("CUDA_VISIBLE_DEVICES"))


def parse(table: str) -> tuple[Card, ...]:
    """Read nvidia-smi's table, a card per line: ``0, NVIDIA GeForce RTX 3060, 12288, 535.183.01, GPU-...``, in MiB."""
    found = []
    for line in table.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is not None:
            index, name, memory, driver, uuid = match.groups()
            # Cards that share the machine's memory have none of their own to report: "[N/A]".
            gigabytes = float(memory) / 1024 if re.fullmatch(r"\d+(\.\d+)?", memory) else 0.0
            found.append(Card(int(index), name, gigabytes, driver, uuid))
    return tuple(found)


def visible(found: tuple[Card, ...], listed: str | None) -> tuple[Card, ...]:
    """Return the cards that `listed` names, which is the value of ``CUDA_VISIBLE_DEVICES``; None: all.

    The card of a MIG part (``MIG-...``) is not looked up, so its memory is unknown.
    """
    if listed is None:
        return found
    names = [name.strip() for name in listed.split(",")]
    if any(name.startswith("MIG-") for name in names):
        return tuple(dataclasses.replace(card, memory_gb=0.0) for card in found[: len(names)])
    chosen = []
    for name in names:
        named = [card for card in found if name == str(card.index) or _begins(card.uuid, name)]
        # CUDA, too, ignores all names after the first that is no card.
        if not named:
            break
        chosen.append(named[0])
    return tuple(chosen)


def _begins(uuid: str, name: str) -> bool:
    """CUDA accepts the beginning of a card's UUID as its name."""
    return name.startswith("GPU-") and uuid.startswith(name)


def label_of(name: str) -> str:
    """Return a card's name as a value of Ray's labels: ``NVIDIA_GeForce_RTX_3060``."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:_LONGEST_LABEL].strip("_.-")


def name_of(label: str) -> str:
    """Return the name that `label_of` was given, as far as the label keeps it."""
    return label.replace("_", " ")


def parts(
    found: Sequence[Card], machine_cpus: int, *, cpus: int | None, gpus: int | None, vram_gb: float | None
) -> tuple[Part, ...]:
    """Divide a machine into nodes, one per card: Ray cannot tell a node's cards apart (ray#7486, ray#45955).

    Args:
        found: The machine's cards.
        machine_cpus: Its CPUs.
        cpus: CPUs to offer; None: all.
        gpus: Cards to offer, or, where there is none, to suppose; None: all.
        vram_gb: GiB of each; None: what its driver says.

    Raises:
        UsageError: There are not so many cards, or no card that could have `vram_gb`.
    """
    if gpus is not None and found and gpus > len(found):
        raise UsageError(f"--gpus {gpus}: this machine has {len(found)}.")
    count = len(found) if gpus is None else gpus
    total = machine_cpus if cpus is None else cpus
    if not count:
        if vram_gb is not None:
            raise UsageError("--vram-gb: there is no card to offer; --gpus N offers N, or supposes them.")
        return (Part(total),)
    shares = [max(1, (total + count - 1 - i) // count) for i in range(count)]
    offered: Sequence[Card | None] = found[:count] or [None] * count
    return tuple(
        Part(
            cpus=share,
            gpus=1,
            vram_gb=vram_gb or (card.memory_gb if card else None) or None,
            name=card.name if card else "logical",
            card=card.index if card else None,
        )
        for share, card in zip(shares, offered, strict=True)
    )
