"""How busy 1,000 trials keep unequal cards: this project's placement against one trial a GPU, first come first served.

``python -m benchmarks.placement [--seeds 20] [--figure FILE]`` simulates the scheduling alone: nothing is trained.
``python -m benchmarks.placement --needs`` estimates the memory again and writes `NEEDS` (needs torch, 20 s).

Real are: `hpo.placement.Placement`, which says what a trial asks for and when the next is drawn; the search spaces that
trials are drawn from, at random and the enqueued ones first, one backbone's after the other's as with ``--backbone
all``; the estimates of their memory (Oxford-IIIT Pet's 37 classes, activations of 2 bytes). Followed are Ray's habits,
as seen in Ray 2.60: a trial goes where the largest fraction of what it asks for is left; of those that wait, the oldest
that fits goes first, but the process of a trial that ended serves one that asks for the same.

Assumed are the times. An epoch of Pet (2,760 training images, 920 of validation) costs the published multiplications
of a forward pass three times an image where the whole network trains, 1.5 times where the last stage does (one pass,
and back through a quarter of it; no stored features), none on the stored features of a frozen backbone, at
`TFLOPS` of useful arithmetic on an RTX 3060; and `STEP_S` a step, `EPOCH_S` an epoch and `SETUP_S` a trial of any kind.
An RTX 2070 counts as equally fast, the others as `Card.speed` says. A trial's own factor is log-normal. ASHA stops three
quarters of the trials at each of its rungs, whichever they are. A frozen trial keeps a quarter of a GPU busy, wherever
it runs, and is not slowed by three others; a batch that is split takes no longer. Starting a process takes no time.
"""

import argparse
import functools
import heapq
import json
import math
import statistics
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

import matplotlib.pyplot as plt
import numpy as np
import optuna

import search_spaces
from hpo.placement import FROZEN_SHARE, Node, Share, gigabytes, place
from hpo.spec import GRACE_PERIOD, REDUCTION_FACTOR, RunOptions
from trainables.config import FREEZE_MODES, PAPER_BACKBONES, FreezeMode, MemoryNeed, ModelConfig

NEEDS = Path(__file__).with_name("placement_needs.json")
TRIALS = 1000
GMACS = {"resnet18": 1.814, "resnet50": 4.089, "vgg13": 11.308, "inception_v3": 5.713, "vit_b_32": 4.409, "swin_t": 4.491}
"""Billions of multiplications of a forward pass, as torchvision 0.29 states them."""
PASSES: dict[FreezeMode, float] = {"none": 3.0, "partial": 1.5, "backbone": 0.0}
"""Forward passes that cost as much as a training image does."""
TRAINING_IMAGES, VALIDATION_IMAGES, CLASSES = 2760, 920, 37
TFLOPS = 8.0
STEP_S, EPOCH_S, SETUP_S = 0.005, 0.3, 2.0
NOISE = 0.2
"""Of a trial's seconds: deviation of their logarithm."""
ROUNDING = 1e-9


@dataclass(frozen=True)
class Card:
    """A desktop and its only GPU."""

    name: str
    cpus: int
    gb: float
    speed: float = 1.0
    """Of the RTX 3060's."""


RTX_3060, RTX_2070 = Card("RTX 3060", 12, 12), Card("RTX 2070", 16, 8)
RTX_2080_TI, RTX_3090 = Card("RTX 2080 Ti", 16, 11, 1.6), Card("RTX 3090", 24, 24, 2.2)
CLUSTERS = {
    "2 cards (12 and 8 GB)": (RTX_3060, RTX_2070),
    "64 cards (24 of 8, 16 of 11, 16 of 12, 8 of 24 GB)": (
        *[RTX_2070] * 24,
        *[RTX_2080_TI] * 16,
        *[RTX_3060] * 16,
        *[RTX_3090] * 8,
    ),
}


@dataclass(frozen=True)
class Trial:
    """What is known of a trial, and what becomes of it."""

    backbone: str
    mode: FreezeMode
    batch_size: int
    epochs: int
    """Until it ends or ASHA stops it."""
    factor: float
    """Of its seconds, its own."""

    @property
    def busy(self) -> float:
        """Share of a GPU that it keeps busy."""
        return FROZEN_SHARE if self.mode == "backbone" else 1.0

    @property
    def need(self) -> MemoryNeed:
        """Its memory."""
        return needs()[self.backbone, self.mode]

    def seconds(self, card: Card) -> float:
        """Return how long it runs on a card."""
        forward_s = 2e-3 * GMACS[PAPER_BACKBONES[self.backbone]] / TFLOPS / card.speed
        validation = VALIDATION_IMAGES if self.mode != "backbone" else 0
        images_s = forward_s * (TRAINING_IMAGES * PASSES[self.mode] + validation)
        epoch_s = images_s + STEP_S * math.ceil(TRAINING_IMAGES / self.batch_size) + EPOCH_S
        return SETUP_S + self.epochs * epoch_s * self.factor


@functools.cache
def needs() -> dict[tuple[str, FreezeMode], MemoryNeed]:
    """Return the estimates of `NEEDS`."""
    rows = json.loads(NEEDS.read_text(encoding="utf-8"))
    return {(row.pop("backbone"), row.pop("freeze_mode")): MemoryNeed(**row) for row in rows}


def draw_trials(seed: int, count: int = TRIALS) -> list[Trial]:
    """Draw trials from the backbones' search spaces, as many of each, one backbone's after the other's."""
    random = np.random.default_rng(seed)
    trials: list[Trial] = []
    for index, backbone in enumerate(PAPER_BACKBONES):
        space = search_spaces.builtin(backbone, "default")
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed * len(PAPER_BACKBONES) + index))
        for params in space.enqueue:
            study.enqueue_trial(dict(params))
        while len(trials) < round(count * (index + 1) / len(PAPER_BACKBONES)):
            params = search_spaces.suggest(space, study.ask())
            mode, batch_size, epochs = params["freeze_mode"], int(params["batch_size"]), int(params["epochs"])
            factor = float(random.lognormal(sigma=NOISE))
            trials.append(Trial(backbone, cast(FreezeMode, mode), batch_size, stopped(epochs, random), factor))
    return trials


def stopped(epochs: int, random: np.random.Generator) -> int:
    """Return the epochs until ASHA stops a trial, or all."""
    rung = GRACE_PERIOD
    while rung < epochs:
        if random.random() > 1 / REDUCTION_FACTOR:
            return rung
        rung = round(rung * REDUCTION_FACTOR)
    return epochs


@dataclass
class Free:
    """What is left of a card's desktop."""

    cpus: float
    gpus: float
    gb: float

    def holds(self, share: Share) -> bool:
        """Return whether there is room."""
        room = (self.cpus - share.cpus, self.gpus - share.gpus, self.gb - share.vram_gb)
        return min(room) >= -ROUNDING

    def take(self, share: Share, sign: int = 1) -> None:
        """Take a share, or give it back with `sign` -1."""
        self.cpus -= sign * share.cpus
        self.gpus -= sign * share.gpus
        self.gb -= sign * share.vram_gb


@dataclass
class Asked:
    """A trial that was drawn."""

    trial: Trial
    share: Share
    drawn: float
    """When, in seconds; it `began` and will end later."""
    card: int = -1
    began: float = math.inf
    ended: float = math.inf


class Way(Protocol):
    """A way of sharing cards among trials."""

    in_order: bool
    """Whether no trial overtakes an older one."""

    def ask(self, trial: Trial) -> Share | None:
        """Return what a trial takes of a card; None: it fails, for it fits on none."""

    def wants(self, free: Sequence[Free], running: Sequence[Asked], waiting: Sequence[Asked]) -> bool:
        """Return whether another trial is drawn."""

    def pick(self, free: Sequence[Free], share: Share) -> int | None:
        """Return the card that a trial goes to, None where it has to wait."""


class Own:
    """hpo's way over Ray's; or, in order, one that draws a trial only when none waits."""

    def __init__(self, cards: Sequence[Card], *, in_order: bool = False) -> None:
        self.in_order = in_order
        self._placement = place(RunOptions(trials=TRIALS), [Node(card.cpus, 1, card.gb) for card in cards])

    def ask(self, trial: Trial) -> Share | None:
        """Ask what hpo asks of Ray; a batch that fits on no card is split."""
        fit = self._placement.fit(trial.mode, trial.batch_size, trial.need)
        return fit.share if fit else None

    def wants(self, free: Sequence[Free], running: Sequence[Asked], waiting: Sequence[Asked]) -> bool:
        """Draw when hpo does."""
        if self.in_order:
            return not waiting and any(card.gpus >= FROZEN_SHARE - ROUNDING for card in free)
        return self._placement.has_room([one.share for one in running], [one.share for one in waiting])

    def pick(self, free: Sequence[Free], share: Share) -> int | None:
        """Return where the largest fraction of what is asked for is left, as Ray's LeastResourceScorer does."""

        def left(index: int) -> float:
            card = free[index]
            pairs = ((card.cpus, share.cpus), (card.gpus, share.gpus), (card.gb, share.vram_gb))
            return sum((have - asked) / have for have, asked in pairs if have > ROUNDING)

        return max((index for index, card in enumerate(free) if card.holds(share)), key=left, default=None)


class Alone:
    """Gives each trial a card that holds its whole batch, the smallest that is free."""

    def __init__(self, cards: Sequence[Card], *, in_order: bool = True) -> None:
        self.in_order = in_order
        self._largest = max(card.gb for card in cards)

    def ask(self, trial: Trial) -> Share | None:
        """Ask for a card, and fail where none holds the batch."""
        gb = gigabytes(trial.need, trial.batch_size)
        return Share(0, 1, gb) if gb <= self._largest else None

    def wants(self, free: Sequence[Free], running: Sequence[Asked], waiting: Sequence[Asked]) -> bool:  # noqa: ARG002
        """Draw while a card is free for none that waits; in order, only when none waits."""
        if self.in_order and waiting:
            return False
        return any(card.gpus >= 1 and not any(card.holds(one.share) for one in waiting) for card in free)

    def pick(self, free: Sequence[Free], share: Share) -> int | None:
        """Return the smallest card that is free and holds the trial."""
        holding = (index for index, card in enumerate(free) if card.holds(share))
        return min(holding, key=lambda index: free[index].gb, default=None)


FIRST_COME, ANY, SHARED, OWN = (
    "one a GPU, first come first served",
    "one a GPU, any that fits",
    "hpo's shares, first come first served",
    "hpo",
)
WAYS: dict[str, Callable[[Sequence[Card]], Way]] = {
    FIRST_COME: Alone,
    ANY: functools.partial(Alone, in_order=False),
    SHARED: functools.partial(Own, in_order=True),
    OWN: Own,
}


@dataclass
class Outcome:
    """What became of a run, in seconds from its start."""

    cards: int
    runs: list[Asked] = field(default_factory=list)
    failed: int = 0

    @property
    def makespan(self) -> float:
        """When the last trial ended."""
        return max(run.ended for run in self.runs)

    @property
    def last_start(self) -> float:
        """When the last trial began; from then on, cards are idle for want of trials."""
        return max(run.began for run in self.runs)

    def idle(self, until: float) -> float:
        """Return the share of the cards' time until then in which they were not kept busy."""
        busy = sum(run.trial.busy * max(0.0, min(run.ended, until) - run.began) for run in self.runs)
        return 1 - busy / (self.cards * until)

    @property
    def longest_wait(self) -> float:
        """From a trial's draw to its begin."""
        return max(run.began - run.drawn for run in self.runs)

    @property
    def waiting(self) -> float:
        """Share of the time in which a drawn trial waited."""
        total = end = 0.0
        for run in sorted(self.runs, key=lambda run: run.drawn):
            total += max(0.0, run.began - max(run.drawn, end))
            end = max(end, run.began)
        return total / self.makespan


def simulate(trials: Iterable[Trial], cards: Sequence[Card], way: Way) -> Outcome:
    """Run trials on cards, each card's desktop alone with its GPU."""
    left = deque(trials)
    free = [Free(card.cpus, 1, card.gb) for card in cards]
    outcome = Outcome(len(cards))
    running: list[Asked] = []
    waiting: list[Asked] = []
    ends: list[tuple[float, int]] = []
    now = 0.0

    def begin(one: Asked, card: int) -> None:
        waiting.remove(one)
        free[card].take(one.share)
        one.card, one.began, one.ended = card, now, now + one.trial.seconds(cards[card])
        heapq.heappush(ends, (one.ended, len(outcome.runs)))
        running.append(one)
        outcome.runs.append(one)

    while True:
        drawn = True
        while drawn:
            drawn = False
            while left and way.wants(free, running, waiting):
                trial = left.popleft()
                share = way.ask(trial)
                if share is None:
                    outcome.failed += 1
                else:
                    waiting.append(Asked(trial, share, now))
                    drawn = True
            for one in list(waiting):
                card = way.pick(free, one.share)
                if card is not None:
                    begin(one, card)
                elif way.in_order:
                    break
        if not ends:
            return outcome
        now, number = heapq.heappop(ends)
        over = outcome.runs[number]
        running.remove(over)
        free[over.card].take(over.share, -1)
        # Tune keeps the process, and with it the card, for one that asks for the same.
        same = next((one for one in waiting if one.share == over.share), None)
        if same is not None and not way.in_order:
            begin(same, over.card)
