"""How busy 1,000 trials keep unequal cards: hpo's placement against one trial per GPU, first come, first served.

``python -m benchmarks.placement [--seeds 20] [--figure FILE]``: the scheduling alone is simulated, nothing is trained.
``python -m benchmarks.placement --estimate`` makes `NEEDS` again (15 s; the only part that needs torch).

Real are `hpo.placement.Placement`, which says what a trial asks for and when the next one is drawn; the search spaces,
drawn from at random, enqueued configurations first, one backbone's trials after another's as with ``--backbone all``;
and the estimates of the memory they need (the 37 classes of Oxford-IIIT Pet, activations of 2 bytes). Ray 2.60 is
followed in where it puts a trial, as it was seen to do: where the largest part of what it asks for is left; and in what
its source says, that a process whose trial ended serves the next one that asks for the same. Else the oldest that waits
and fits goes first, which is simpler than Ray's retries.

The times are assumptions. For an image of Pet (2,760 to train on, 920 to validate on) a forward pass takes its
network's published multiplications at `TFLOPS` on an RTX 3060, training `PASSES` of it: no features are stored but a
frozen backbone's. `STEP_S`, `EPOCH_S` and `SETUP_S` come on top, on any card. A trial's own factor is log-normal. At
each of its rungs ASHA stops three quarters of the trials, by lot, so that all ways have the same work. A frozen trial
keeps a quarter of a GPU busy and is not slowed by three others; a batch that is split takes no longer; starting a
process takes no time. Trials that fail take none either.
"""

import argparse
import dataclasses
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
from matplotlib.axes import Axes
from matplotlib.patches import Patch

import search_spaces
from hpo.machines.placement import FROZEN_SHARE, Node, Share, gigabytes, place
from hpo.spec import GRACE_PERIOD, REDUCTION_FACTOR, RunOptions
from trainables.config import FREEZE_MODES, PAPER_BACKBONES, FreezeMode, MemoryNeed, ModelConfig

NEEDS = Path(__file__).with_name("placement_needs.json")
TRIALS = 1000
TRAINING_IMAGES, VALIDATION_IMAGES, CLASSES = 2760, 920, 37
GMACS = {
    "resnet18": 1.814,
    "resnet50": 4.089,
    "vgg13": 11.308,
    "inception_v3": 5.713,
    "vit_b_32": 4.409,
    "swin_t": 4.491,
}
"""Billions of multiplications of a forward pass, from the metadata of torchvision 0.29."""
PASSES: dict[FreezeMode, float] = {"none": 3.0, "partial": 1.5, "backbone": 0.0}
"""Forward passes that training on an image takes: the way back is twice as long, that through the last stage a quarter
of it."""
TFLOPS = 8.0
"""Useful ones, in mixed precision: 326 images per second when a ResNet-50 is fine-tuned."""
STEP_S, EPOCH_S, SETUP_S = 0.005, 0.3, 2.0
NOISE = 0.2
"""Deviation of the logarithm of a trial's own factor."""
ROUNDING = 1e-9


@dataclass(frozen=True)
class Card:
    """A GPU, the only one of its desktop."""

    cpus: int
    gb: float
    speed: float
    """Relative to an RTX 3060."""


RTX_3060, RTX_2070 = Card(12, 12, 1.0), Card(16, 8, 1.0)
RTX_2080_TI, RTX_3090 = Card(16, 11, 1.6), Card(24, 24, 2.2)
CLUSTERS: dict[str, tuple[Card, ...]] = {
    "2 cards (12 and 8 GB)": (RTX_3060, RTX_2070),
    "64 cards (24 of 8 GB, 16 of 11, 16 of 12, 8 of 24)": (
        *[RTX_2070] * 24,
        *[RTX_2080_TI] * 16,
        *[RTX_3060] * 16,
        *[RTX_3090] * 8,
    ),
}


@dataclass(frozen=True)
class Trial:
    """What is drawn, and how much work it turns out to be."""

    backbone: str
    mode: FreezeMode
    batch_size: int
    epochs: int
    """Until it is complete or ASHA stops it."""
    factor: float
    """Its own, on its epochs' seconds."""

    @property
    def busy(self) -> float:
        """Share of a GPU that it keeps busy."""
        return FROZEN_SHARE if self.mode == "backbone" else 1.0

    @property
    def need(self) -> MemoryNeed:
        """The memory that it needs."""
        return needs()[self.backbone, self.mode]

    def seconds(self, card: Card) -> float:
        """Return how long it takes on a card."""
        pass_s = 2e-3 * GMACS[PAPER_BACKBONES[self.backbone]] / TFLOPS / card.speed
        validation_images = 0 if self.mode == "backbone" else VALIDATION_IMAGES
        images_s = pass_s * (TRAINING_IMAGES * PASSES[self.mode] + validation_images)
        epoch_s = images_s + STEP_S * math.ceil(TRAINING_IMAGES / self.batch_size) + EPOCH_S
        return SETUP_S + self.epochs * epoch_s * self.factor


@functools.cache
def needs() -> dict[tuple[str, FreezeMode], MemoryNeed]:
    """Return what `NEEDS` holds."""
    rows = json.loads(NEEDS.read_text(encoding="utf-8"))
    return {(row.pop("backbone"), row.pop("freeze_mode")): MemoryNeed(**row) for row in rows}


def estimate_needs() -> None:
    """Estimate the memory of each backbone in each freeze mode, and write `NEEDS`."""
    from trainables.training.memory import estimate

    rows = []
    for backbone in PAPER_BACKBONES:
        for mode in FREEZE_MODES:
            need = estimate(ModelConfig(backbone=backbone), mode, classes=CLASSES, augment="none", width=2)
            rows.append({"backbone": backbone, "freeze_mode": mode, **dataclasses.asdict(need)})
    NEEDS.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n", encoding="utf-8")


def draw_trials(seed: int, count: int = TRIALS) -> list[Trial]:
    """Draw trials from the backbones' search spaces, as many from each."""
    random = np.random.default_rng(seed)
    trials: list[Trial] = []
    for index, backbone in enumerate(PAPER_BACKBONES):
        space = search_spaces.builtin(backbone, "default")
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed * len(PAPER_BACKBONES) + index))
        for params in space.enqueue:
            study.enqueue_trial(dict(params))
        while len(trials) < round(count * (index + 1) / len(PAPER_BACKBONES)):
            params = search_spaces.suggest(space, study.ask())
            mode = cast(FreezeMode, params["freeze_mode"])
            epochs = stopped(int(params["epochs"]), random)
            factor = float(random.lognormal(sigma=NOISE))
            trials.append(Trial(backbone, mode, int(params["batch_size"]), epochs, factor))
    return trials


def stopped(epochs: int, random: np.random.Generator) -> int:
    """Return after how many of its epochs ASHA stops a trial; all, if it does not."""
    rung = GRACE_PERIOD
    while rung < epochs:
        if random.random() >= 1 / REDUCTION_FACTOR:
            return rung
        rung = round(rung * REDUCTION_FACTOR)
    return epochs


@dataclass
class Free:
    """What is left of a card and its desktop."""

    cpus: float
    gpus: float
    gb: float

    def holds(self, share: Share) -> bool:
        """Return whether a share is left."""
        return min(self.cpus - share.cpus, self.gpus - share.gpus, self.gb - share.vram_gb) >= -ROUNDING

    def take(self, share: Share) -> None:
        """Take a share away."""
        self.cpus, self.gpus, self.gb = self.cpus - share.cpus, self.gpus - share.gpus, self.gb - share.vram_gb

    def give(self, share: Share) -> None:
        """Give a share back."""
        self.cpus, self.gpus, self.gb = self.cpus + share.cpus, self.gpus + share.gpus, self.gb + share.vram_gb

    def part_left(self, share: Share) -> float:
        """Return how much of itself would be left behind a share: Ray's score of a node."""
        pairs = ((self.cpus, share.cpus), (self.gpus, share.gpus), (self.gb, share.vram_gb))
        return sum((have - asked) / have for have, asked in pairs if have > ROUNDING)


@dataclass
class Run:
    """A trial that was drawn, and the card and the seconds it is given."""

    trial: Trial
    share: Share
    drawn: float
    card: int = -1
    began: float = math.inf
    ended: float = math.inf


class Way(Protocol):
    """A way of sharing cards among trials."""

    in_order: bool
    """Whether a trial that waits lets none overtake it."""

    def ask(self, trial: Trial) -> Share | None:
        """Return what a trial is to be given; None: it fails."""

    def wants(self, free: Sequence[Free], running: Sequence[Run], waiting: Sequence[Run]) -> bool:
        """Return whether to draw another trial."""

    def pick(self, free: Sequence[Free], share: Share) -> int | None:
        """Return which card a trial is given; None: it waits."""


class Own:
    """hpo's way, on Ray; or its shares alone, in order."""

    def __init__(self, cards: Sequence[Card], *, in_order: bool = False) -> None:
        self.in_order = in_order
        nodes = [Node(card.cpus, 1, card.gb, str(index)) for index, card in enumerate(cards)]
        self._placement = place(RunOptions(trials=TRIALS), nodes)

    def ask(self, trial: Trial) -> Share | None:
        """Ask for what hpo asks for; it splits batches that fit on no card."""
        fit = self._placement.fit(trial.mode, trial.batch_size, trial.need)
        return fit.share if fit else None

    def wants(self, free: Sequence[Free], running: Sequence[Run], waiting: Sequence[Run]) -> bool:
        """Draw when hpo does; in order, when none waits and some card has room."""
        if self.in_order:
            return not waiting and any(card.gpus >= FROZEN_SHARE - ROUNDING for card in free)
        return self._placement.has_room([(run.share, str(run.card)) for run in running], [run.share for run in waiting])

    def pick(self, free: Sequence[Free], share: Share) -> int | None:
        """Pick as Ray does."""
        holding = (index for index, card in enumerate(free) if card.holds(share))
        return max(holding, key=lambda index: free[index].part_left(share), default=None)


class Alone:
    """Gives each trial the smallest free card that holds its whole batch; it fails where there is none so large."""

    def __init__(self, cards: Sequence[Card], *, in_order: bool = True) -> None:
        self.in_order = in_order
        self._largest_gb = max(card.gb for card in cards)

    def ask(self, trial: Trial) -> Share | None:
        """Ask for a GPU."""
        gb = gigabytes(trial.need, trial.batch_size)
        return Share(0, 1, gb) if gb <= self._largest_gb else None

    def wants(self, free: Sequence[Free], running: Sequence[Run], waiting: Sequence[Run]) -> bool:  # noqa: ARG002
        """Draw while a card is free that none of those that wait can have."""
        if self.in_order and waiting:
            return False
        return any(card.gpus >= 1 and not any(card.holds(run.share) for run in waiting) for card in free)

    def pick(self, free: Sequence[Free], share: Share) -> int | None:
        """Pick the smallest."""
        holding = (index for index, card in enumerate(free) if card.holds(share))
        return min(holding, key=lambda index: free[index].gb, default=None)


FIRST_COME, OVERTAKING = "one per GPU, first come, first served", "one per GPU, any that fits"
SHARES, OWN = "hpo's shares, first come, first served", "hpo"
WAYS: dict[str, Callable[[Sequence[Card]], Way]] = {
    FIRST_COME: Alone,
    OVERTAKING: functools.partial(Alone, in_order=False),
    SHARES: functools.partial(Own, in_order=True),
    OWN: Own,
}


@dataclass
class Outcome:
    """What became of all trials; times are in seconds from the start."""

    cards: int
    runs: list[Run] = field(default_factory=list)
    failed: int = 0

    @property
    def makespan(self) -> float:
        """When the last trial ended."""
        return max(run.ended for run in self.runs)

    @property
    def idle(self) -> float:
        """Share of the cards' time in which they were not kept busy."""
        return self._idle_until(self.makespan)

    @property
    def idle_before_end(self) -> float:
        """The same until the last trial began: from then on, no way could keep all cards busy."""
        return self._idle_until(max(run.began for run in self.runs))

    def _idle_until(self, until: float) -> float:
        busy = sum(run.trial.busy * max(0.0, min(run.ended, until) - run.began) for run in self.runs)
        return 1 - busy / (self.cards * until)

    @property
    def longest_wait(self) -> float:
        """The longest that a trial waited after it was drawn."""
        return max(run.began - run.drawn for run in self.runs)

    @property
    def waiting(self) -> float:
        """Share of the time in which some drawn trial waited."""
        waited = until = 0.0
        for run in sorted(self.runs, key=lambda run: run.drawn):
            waited += max(0.0, run.began - max(run.drawn, until))
            until = max(until, run.began)
        return waited / self.makespan


class Simulation:
    """Trials on cards, from one trial's end to the next one's."""

    def __init__(self, trials: Iterable[Trial], cards: Sequence[Card], way: Way) -> None:
        self._left = deque(trials)
        self._cards, self._way = cards, way
        self._free = [Free(card.cpus, 1, card.gb) for card in cards]
        self._running: list[Run] = []
        self._waiting: list[Run] = []
        self._ends: list[tuple[float, int]] = []
        self._now = 0.0
        self.outcome = Outcome(len(cards))

    def run(self) -> Outcome:
        """Run all trials."""
        self._go_on()
        while self._ends:
            self._end_next()
            self._go_on()
        return self.outcome

    def _go_on(self) -> None:
        """Draw and begin trials, as Tune does in turn, until there is no more to do."""
        while self._draw() + self._begin_waiting():
            pass

    def _draw(self) -> int:
        before = len(self._left)
        while self._left and self._way.wants(self._free, self._running, self._waiting):
            trial = self._left.popleft()
            share = self._way.ask(trial)
            if share is None:
                self.outcome.failed += 1
            else:
                self._waiting.append(Run(trial, share, self._now))
        return before - len(self._left)

    def _begin_waiting(self) -> int:
        begun = 0
        for run in list(self._waiting):
            card = self._way.pick(self._free, run.share)
            if card is not None:
                self._begin(run, card)
                begun += 1
            elif self._way.in_order:
                break
        return begun

    def _begin(self, run: Run, card: int) -> None:
        self._free[card].take(run.share)
        run.card, run.began, run.ended = card, self._now, self._now + run.trial.seconds(self._cards[card])
        heapq.heappush(self._ends, (run.ended, len(self.outcome.runs)))
        self.outcome.runs.append(run)
        self._waiting.remove(run)
        self._running.append(run)

    def _end_next(self) -> None:
        self._now, index = heapq.heappop(self._ends)
        over = self.outcome.runs[index]
        self._running.remove(over)
        self._free[over.card].give(over.share)
        if not self._way.in_order:
            same = next((run for run in self._waiting if run.share == over.share), None)
            if same is not None:
                self._begin(same, over.card)


Outcomes = dict[str, dict[str, list[Outcome]]]
"""By cluster and way, one per seed."""


def simulate(seeds: int) -> Outcomes:
    """Run each way on each cluster with the trials of each seed."""
    drawn = [draw_trials(seed) for seed in range(seeds)]
    return {
        name: {way: [Simulation(trials, cards, make(cards)).run() for trials in drawn] for way, make in WAYS.items()}
        for name, cards in CLUSTERS.items()
    }


def shown(outcomes: Outcomes) -> str:
    """Return the results in Markdown, one table per cluster."""
    seeds = len(outcomes[next(iter(outcomes))][OWN])
    lines = [f"{TRIALS} trials; medians of {seeds} seeds (smallest to largest)"]
    for cluster, by_way in outcomes.items():
        lines += [
            "",
            f"| {cluster} | idle | idle until the last trial began | makespan, h | of the first way's"
            " | a drawn trial waited, at most, min | in so much of the time | failed trials |",
            "|---|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for way, runs in by_way.items():
            pairs = zip(runs, by_way[FIRST_COME], strict=True)
            cells = (
                spread([100 * run.idle for run in runs], 1, " %"),
                spread([100 * run.idle_before_end for run in runs], 1, " %"),
                spread([run.makespan / 3600 for run in runs], 2),
                spread([run.makespan / first.makespan for run, first in pairs], 2),
                spread([run.longest_wait / 60 for run in runs], 1),
                spread([100 * run.waiting for run in runs], 0, " %"),
                spread([run.failed for run in runs], 0),
            )
            lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def spread(values: Sequence[float], digits: int, unit: str = "") -> str:
    """Return the median and the range of values."""
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return f"{middle}{unit}" if low == high else f"{middle}{unit} ({low} to {high})"


COLOURS: dict[FreezeMode, str] = {"none": "#31688e", "partial": "#35b779", "backbone": "#e8a33d"}
LABELS: dict[FreezeMode, str] = {"none": "fine-tuned", "partial": "last stage", "backbone": "frozen"}
EXCERPT_MIN = 60
EXCERPT_OF = "inception"
"""The first of the backbones with trials that only the larger of two cards holds."""


def draw(outcomes: Outcomes, path: Path) -> None:
    """Draw the idle shares of all ways, and an hour of two of them on the two cards."""
    figure, axes = plt.subplot_mosaic(
        [["shares", FIRST_COME], ["shares", OWN]], figsize=(11, 4.8), layout="constrained", width_ratios=[1, 1.6]
    )
    draw_shares(axes["shares"], outcomes)
    of_two = next(iter(outcomes.values()))
    for way in (FIRST_COME, OWN):
        draw_excerpt(axes[way], of_two[way][0])
        axes[way].set_title(way, loc="left", fontsize="medium")
    axes[FIRST_COME].tick_params(labelbottom=False)
    axes[OWN].set_xlabel(f"minutes from the first {EXCERPT_OF} trial on")
    kinds = [Patch(color=COLOURS[mode], label=LABELS[mode]) for mode in FREEZE_MODES]
    idle = Patch(facecolor="white", edgecolor="grey", label="idle")
    figure.legend(handles=[*kinds, idle], ncols=4, loc="outside upper right", frameon=False, fontsize="small")
    figure.savefig(path, dpi=150)


def draw_shares(axes: Axes, outcomes: Outcomes) -> None:
    """Draw the median and the range of each way's idle share until the last trial began."""
    for offset, (cluster, by_way) in zip((-0.13, 0.13), outcomes.items(), strict=True):
        shares = [[100 * run.idle_before_end for run in runs] for runs in by_way.values()]
        middles = [statistics.median(values) for values in shares]
        errors = [
            [middle - min(values) for middle, values in zip(middles, shares, strict=True)],
            [max(values) - middle for middle, values in zip(middles, shares, strict=True)],
        ]
        places = [index + offset for index in range(len(by_way))]
        axes.errorbar(middles, places, xerr=errors, fmt="o", capsize=3, label=cluster.partition(" (")[0])
    axes.set_yticks(range(len(WAYS)), [way.replace(", ", ",\n", 1) for way in WAYS])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("idle share of the GPUs until the last trial began, %")
    axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    axes.spines[["top", "right"]].set_visible(False)


def draw_excerpt(axes: Axes, outcome: Outcome) -> None:
    """Draw what ran on the two cards, each frozen trial as high as the part of a GPU that it keeps busy."""
    start = min(run.began for run in outcome.runs if run.trial.backbone == EXCERPT_OF)
    free_at = {(card, quarter): 0.0 for card in range(2) for quarter in range(4)}
    for run in sorted(outcome.runs, key=lambda run: run.began):
        free = [quarter for quarter in range(4) if free_at[run.card, quarter] <= run.began + ROUNDING]
        quarters = free[: round(4 * run.trial.busy)]
        free_at.update({(run.card, quarter): run.ended for quarter in quarters})
        axes.barh(
            1.15 * run.card + quarters[0] / 4,
            (run.ended - run.began) / 60,
            run.trial.busy,
            (run.began - start) / 60,
            align="edge",
            color=COLOURS[run.trial.mode],
            edgecolor="white",
            linewidth=0.4,
        )
    axes.set_xlim(0, EXCERPT_MIN)
    axes.set_ylim(-0.05, 2.2)
    axes.set_yticks([0.5, 1.65], ["12 GB", "8 GB"])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)


def main() -> None:
    """Simulate, and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--figure", type=Path, help="a picture of the idle shares")
    parser.add_argument("--estimate", action="store_true", help="make the table of memory needs again")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if options.estimate:
        estimate_needs()
        return
    outcomes = simulate(options.seeds)
    sys.stdout.write(shown(outcomes))
    if options.figure:
        draw(outcomes, options.figure)


if __name__ == "__main__":
    main()
