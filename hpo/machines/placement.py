"""What a trial asks of the cluster: CPUs, a GPU or a share of one and its memory; and when the next trial can start."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hpo.errors import UsageError
from hpo.spec import RunOptions
from trainables.config import SMALLEST_MICRO_BATCH, FreezeMode, MemoryNeed

VRAM = "vram_gb"
"""Ray's name for the memory of a node's GPUs, in GiB, which `hpo cluster` registers."""

FROZEN_SHARE = 0.25
"""Share of a GPU for a trial with a frozen backbone: it trains a head on stored features, which keeps no GPU busy."""

CONTEXT_GB = 0.6
"""GiB that CUDA's context and libraries take of a card before the first tensor; not seen on a card by this project."""

MARGIN = 1.1
"""For what the allocator rounds up and the workspaces of convolutions; on top of what was measured, too."""

_ROUNDING = 1e-9
"""Shares such as 1/3 do not add up exactly."""


@dataclass(frozen=True)
class Node:
    """What one of Ray's nodes offers."""

    cpus: float
    gpus: float = 0.0
    vram_gb: float = 0.0
    """Memory of all its GPUs, in GiB; 0: it does not say."""
    address: str = ""
    """Its machine's address."""

    @property
    def card_gb(self) -> float:
        """Memory of one of its GPUs, in GiB; 0: it has none, or does not say."""
        return self.vram_gb / self.gpus if self.gpus else 0.0


def registered(card_gb: float) -> float:
    """Return a card's memory as a node registers it with Ray, which takes whole GiB only: 23.99 is 24, 7.8 is 7."""
    return float(math.floor(card_gb + 0.05))


def as_node(resources: Mapping[str, float]) -> Node:
    """Return a node from its resources as Ray lists them."""
    # Ray gives each node a resource that is named for its machine's address.
    addresses = (name.removeprefix("node:") for name in resources if name.startswith("node:") and "__" not in name)
    return Node(resources.get("CPU", 0.0), resources.get("GPU", 0.0), resources.get(VRAM, 0.0), next(addresses, ""))


@dataclass(frozen=True)
class Share:
    """What one trial takes of a node."""

    cpus: float
    gpus: float
    vram_gb: float = 0.0

    @property
    def resources(self) -> dict[str, float]:
        """Ray's name for it."""
        memory = {VRAM: self.vram_gb} if self.vram_gb else {}
        return {"CPU": self.cpus, "GPU": self.gpus, **memory}

    @property
    def threads(self) -> int:
        """CPU threads that the trial may use: its CPUs, at least one."""
        return max(1, int(self.cpus))


class Slot(NamedTuple):
    """Where a trial runs."""

    host: str
    """Address of the machine."""
    device: str
    card: str | None = None
    """Ray's number of the GPU on its machine; None: a CPU."""


@dataclass(frozen=True)
class Fit:
    """How a trial fits on a card."""

    share: Share
    micro_batch: int | None
    """Images on the card at a time; None: the whole batch."""


@dataclass(frozen=True)
class Placement:
    """How a cluster is divided among trials."""

    nodes: tuple[Node, ...]
    whole: Share
    """Share of a trial that trains its backbone, or the last stage of it."""
    frozen: Share
    """Share of a trial that trains its head alone."""
    concurrency: int
    """Most trials at a time."""

    @property
    def cards_gb(self) -> tuple[float, ...]:
        """The memory of each kind of card, the smallest first; empty where there are none, or one does not say."""
        kinds = sorted({node.card_gb for node in self.nodes if node.gpus})
        return tuple(kinds) if all(kinds) else ()

    def fit(
        self, mode: FreezeMode, batch_size: int, need: MemoryNeed | None = None, correction: float = 1.0
    ) -> Fit | None:
        """Return what a trial asks for; None: it fits on no card, not even a few images at a time.

        A batch that fits on some card waits for that one; any other is split until it fits on the largest.

        Args:
            mode: The trial's freeze mode.
            batch_size: Its images per step.
            need: The memory that it needs; None: unknown, and none is asked for.
            correction: The ratio of such trials' measured need to the estimate.
        """
        share = self.frozen if mode == "backbone" else self.whole
        cards = self.cards_gb
        if need is None or not share.gpus or not cards:
            return Fit(share, None)
        images = batch_size
        while gigabytes(need, images, correction) > cards[-1]:
            if images <= SMALLEST_MICRO_BATCH:
                return None
            images = max(images // 2, SMALLEST_MICRO_BATCH)
        asked = math.ceil(gigabytes(need, images, correction))
        holds = next((card for card in cards if card >= asked), cards[-1])
        # One that has a card for itself asks for the whole card's memory: trials that ask for the same share processes.
        asked_gb = holds if share.gpus >= 1 else min(float(asked), holds)
        # Ray counts the memory of a node's cards together: the share of a card must keep what one of them holds.
        together = [node.card_gb for node in self.nodes if node.gpus > 1 and share.gpus < 1]
        gpus = max([share.gpus, *(asked_gb / card for card in together)])
        return Fit(Share(share.cpus, min(gpus, 1.0), asked_gb), images if images < batch_size else None)

    def has_room(self, running: Iterable[tuple[Share, str | None]], waiting: Sequence[Share]) -> bool:
        """Return whether another trial, be it a frozen one, could start now; Ray knows of the CPUs.

        A running trial counts on its own machine if the address is known: Ray does not pick the card that fits best.
        A trial that waits for a card keeps that card: no later trial may overtake it there, but the others continue.
        """
        running = list(running)
        if len(running) + len(waiting) >= self.concurrency:
            return False
        if not self.frozen.gpus:
            return True
        free = [_Free(node.gpus, node.vram_gb) for node in self.nodes if node.gpus]
        known_first = sorted(running, key=lambda one: (one[1] is not None, one[0].gpus, one[0].vram_gb), reverse=True)
        for share, address in known_first:
            there = [free[i] for i, node in enumerate(self._with_gpus) if node.address == address] or free
            _tightest(there, share).take(share)
        for share in waiting:
            card = _tightest(free, share)
            if card.holds(share):
                card.take(share)
            else:
                able = [free[i] for i, node in enumerate(self._with_gpus) if node.card_gb >= share.vram_gb]
                if able:
                    max(able, key=lambda card: card.gpus).close()
        return any(card.gpus + _ROUNDING >= self.frozen.gpus for card in free)

    @property
    def _with_gpus(self) -> list[Node]:
        return [node for node in self.nodes if node.gpus]


@dataclass
class _Free:
    """What is left of a node's GPUs."""

    gpus: float
    vram_gb: float

    def holds(self, share: Share) -> bool:
        return self.gpus + _ROUNDING >= share.gpus and self.vram_gb + _ROUNDING >= share.vram_gb

    def take(self, share: Share) -> None:
        self.gpus -= share.gpus
        self.vram_gb -= share.vram_gb

    def close(self) -> None:
        self.gpus = 0.0


def _tightest(free: list[_Free], share: Share) -> _Free:
    """The node with the least left that holds `share`, or, where none does, the one with the most."""
    holding = [card for card in free if card.holds(share)]
    if holding:
        return min(holding, key=lambda card: (card.vram_gb, card.gpus))
    return max(free, key=lambda card: (card.gpus, card.vram_gb))


def correction(mode: FreezeMode, memory_gb: Mapping[str, float] | None) -> float:
    """Return the ratio of a trial's measured need of memory to the estimate; 1 where it is not known.

    Where features are stored, a trial that found them needed less than one that computes them or the test's, so what
    was measured of a frozen part makes no estimate smaller.
    """
    if memory_gb is None:
        return 1.0
    ratio = memory_gb["measured"] / memory_gb["estimated"]
    return ratio if mode == "none" else max(ratio, 1.0)


def can_hold(nodes: Iterable[Node], share: Share) -> bool:
    """Return whether some node, were it empty, could run what takes `share`."""
    return any(_slots(node, share) and node.vram_gb + _ROUNDING >= share.vram_gb for node in nodes)


def gigabytes(need: MemoryNeed, images: int, correction: float = 1.0) -> float:
    """Return the GiB of a card that a trial takes with `images` images on it at a time, context and margin included."""
    return CONTEXT_GB + MARGIN * correction * need.bytes_at(images) / 2**30


def place(options: RunOptions, nodes: Iterable[Node]) -> Placement:
    """Divide the cluster among trials.

    Args:
        options: What the user asked for. None leaves the choice here: one GPU per trial if there are GPUs, or a share
            of one if the backbone is frozen, with an equal share of its node's CPUs; else one CPU per trial.
        nodes: Those of the cluster.

    Raises:
        UsageError: No node can hold a single trial.
    """
    nodes = tuple(nodes)
    has_gpus = any(node.gpus for node in nodes)
    gpus = options.gpus_per_trial if options.gpus_per_trial is not None else float(has_gpus)
    cpus = options.cpus_per_trial if options.cpus_per_trial is not None else _cpu_share(nodes, gpus)
    whole = frozen = Share(cpus, gpus)
    if gpus and options.gpus_per_trial is None and options.cpus_per_trial is None:
        frozen = Share(_cpu_share(nodes, FROZEN_SHARE), FROZEN_SHARE)
    if not any(_slots(node, whole) for node in nodes):
        offered = "; ".join(f"{node.cpus:g} CPUs, {node.gpus:g} GPUs" for node in nodes)
        raise UsageError(
            f"no machine can hold a trial of {cpus:g} CPUs and {gpus:g} GPUs (there are: {offered});"
            " lower --cpus-per-trial or --gpus-per-trial."
        )
    slots = sum(_slots(node, frozen) for node in nodes)
    return Placement(nodes, whole, frozen, min(slots, options.concurrency or slots))


def _cpu_share(nodes: tuple[Node, ...], gpus: float) -> float:
    """Return the CPUs of a share of a GPU: the same share of the GPU's CPUs, rounded down if that is 1 or more."""
    if not gpus:
        return 1.0
    shares = [node.cpus * gpus / node.gpus for node in nodes if node.gpus]
    least = min(shares, default=1.0)
    return float(math.floor(least)) if least >= 1 else least


def _slots(node: Node, share: Share) -> int:
    by_cpus = node.cpus / share.cpus if share.cpus else math.inf
    by_gpus = node.gpus / share.gpus if share.gpus else math.inf
    return math.floor(min(by_cpus, by_gpus) + _ROUNDING)
