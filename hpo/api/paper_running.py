"""A paper's studies run, what a search finds beside them, and the page of it all; or what they would cost."""

import dataclasses
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.api.options import Location, MachineOptions
from hpo.api.paper import MOST_SEEDS, Paper, ablation
from hpo.errors import HpoError
from hpo.live.screen import Screen
from hpo.paths import dataset_name
from trainables.config import ModelConfig
from trainables.trainable import FINETUNE, PUBLISHED

if TYPE_CHECKING:
    from hpo.ledger.ledger import Ledger
    from hpo.paper.runs.cost import Cost
    from hpo.paper.runs.plan import PlannedStudy
    from hpo.spec import SearchConfig, StudySpec
    from hpo.studies.lifecycle import Ended

logger = logging.getLogger(__name__)


def estimate(paper: Paper, machines: MachineOptions) -> "tuple[list[Cost], dict[str, float | None], str]":
    """Return what a plan costs by backbone, what its studies cost at most, in hours, and why something is not known.

    Each backbone takes a few steps on this machine; nothing is fetched. Where it is not known how many images test,
    they count as many as those that validate.
    """
    with Screen() as screen:
        screen.doing(f"{paper.experiment.name}: measuring a step of each backbone")

        from joblib import cpu_count

        from hpo.machines.gpus import cards
        from hpo.paper.runs.cost import Images, costs, modes, study_hours
        from hpo.studies.counting import count_images
        from trainables.errors import InputError
        from trainables.published.speed import measure

        config = dataclasses.replace(paper.data.config)
        try:
            train, validation, classes = count_images(config, machines.data_dir)
        except InputError as error:
            return costs(paper.planned, None, {}, 1), {}, f"hours are not estimated: {error}"
        test = paper.experiment.test_images if paper.dataset == paper.experiment.dataset else None
        images = Images(train, validation, test if test is not None else validation, classes)
        speeds = {}
        for (backbone, mode), batch in modes(paper.planned).items():
            screen.doing(f"{backbone}: measuring a step of training, freeze mode {mode}")
            protocol = next(one.protocol for one in paper.planned if one.backbone == backbone)
            network = paper.model(backbone, protocol)
            speeds[backbone, mode] = measure(
                network, mode, batch, classes=classes, threads=cpu_count(), data_dir=machines.data_dir
            )
    devices = max(1, len(cards()))
    most = {
        one.model.backbone: study_hours(paper.trials, _longest(one), images, speeds, one.model.backbone, devices)
        for one in (_searches(paper) if paper.trials else [])
    }
    return costs(paper.planned, images, speeds, devices), most, ""


def run_paper(paper: Paper, *, machines: MachineOptions, location: Location, out: Path | None, command: str) -> Path:
    """Run an experiment's studies, or continue them, then those of a search, and write the page; return it.

    Args:
        paper: From `plan_paper`.
        machines: Where it runs, on how much, for how long.
        location: Where studies are.
        out: The page's folder; None: ``reports/STUDY-DATASET`` in the folder of studies.
        command: The command that continues after an interruption.

    Raises:
        UsageError: Something cannot be used, or a study of a planned name has another specification.
        InterruptedStudy: Ctrl-C stopped it; the message is the command that continues it.
        HpoError: A study failed; the others ran to their end, and are in the page.
    """
    from hpo.interrupts import stoppable

    begun = time.monotonic()
    with stoppable(command):
        grids = dataclasses.replace(machines, retrain=False)
        ended = _together(_grids(paper), paper, grids, location, command)
        failures = ended.failures
        if paper.trials and ended.in_time and (left := _after(machines, time.monotonic() - begun, command)):
            failures += _together(_searches(paper), paper, left, location, command).failures
        for failure in failures[:-1]:
            logger.error("error: %s", failure)
        try:
            page = write_paper(paper, location, out, command)
        except HpoError as error:
            # Why nothing was measured says more than that nothing was.
            raise failures[-1] if failures else error from None
    if failures:
        logger.info("the page of what was measured: %s", page)
        raise failures[-1]
    return page


def write_paper(paper: Paper, location: Location, out: Path | None, command: str) -> Path:
    """Write the page of what was measured so far, by whichever protocols, and return it.

    Raises:
        HpoError: Nothing was.
    """
    from hpo.ledger import studies
    from hpo.paper.measured import Conditions
    from hpo.paper.page.build import write_page
    from hpo.paper.runs.collect import cells, outcome

    ledgers = {one.name: one for one in studies.list_studies(location.url)}
    own = [ledgers[one.name] for one in paper.planned if one.name in ledgers]
    known = {one.spec.model.backbone: one.spec for one in own}
    grids, searches = [*_every(paper)], _searches(paper)
    asked = {**{one.name: one.search for one in grids}, **{one.name: one.search for one in searches}}
    comparable = {
        name: ledgers[name]
        for name, search in asked.items()
        if known and name in ledgers and _is_comparable(ledgers[name], search, known)
    }
    measured = cells(grids, comparable)
    if not measured:
        raise HpoError(f"{paper.study}: nothing was measured yet.")
    searched = [comparable[ask.name] for ask in searches if ask.name in comparable]
    found = [one for ledger in searched if (one := outcome(ledger)) is not None]
    conditions = Conditions(
        dataset=paper.dataset,
        n_classes=len(own[0].splits["classes"]),
        image_size=paper.options.image_size,
        weights={
            one.spec.model.backbone: one.spec.model.weights_name or one.spec.model.weights
            for one in comparable.values()
        },
        machines=_machines([*comparable.values()]),
        command=command,
    )
    folder = out or location.studies / "reports" / f"{paper.study}-{dataset_name(paper.dataset)}"
    return write_page(paper.experiment, measured, found, folder, conditions)


def _after(machines: MachineOptions, seconds: float, command: str) -> MachineOptions | None:
    """Return the options with the time that is left after `seconds` of it; None: time is up, and that was said."""
    if machines.timeout_s is None:
        return machines
    if machines.timeout_s > seconds:
        return dataclasses.replace(machines, timeout_s=machines.timeout_s - seconds)
    logger.warning("time is up (--timeout); the studies that search are still to be run, with: %s", command)
    return None


@dataclass(frozen=True)
class _Ask:
    """A study that is to be run."""

    name: str
    model: ModelConfig
    search: "SearchConfig"
    trainable: str
    seed: int
    trials: int


def _grids(paper: Paper) -> list[_Ask]:
    return [
        _Ask(one.name, paper.model(one.backbone, one.protocol), one.search, PUBLISHED, one.seed, len(one.runs))
        for one in paper.planned
    ]


def _searches(paper: Paper) -> list[_Ask]:
    """Return the studies that search where the paper had a grid."""
    import search_spaces
    from hpo.paper.runs.plan import scaled_space
    from hpo.spec import search_over

    asked = []
    for backbone in paper.backbones:
        space = search_spaces.for_study(backbone, paper.weights[backbone], None)
        search = search_over(
            scaled_space(space, paper.experiment.scale),
            sampler="tpe",
            asha=True,
            grace_period=None,
            reduction_factor=None,
        )
        name = paper.search_name(backbone)
        asked.append(_Ask(name, paper.model(backbone), search, FINETUNE, 0, max(paper.trials, 1)))
    return asked


def _together(
    asked: Sequence[_Ask],
    paper: Paper,
    machines: MachineOptions,
    location: Location,
    command: str,
) -> "Ended":
    """Run studies at the same time on the same machines."""
    with Screen() as screen:
        screen.doing(f"{paper.experiment.name}: opening {paper.dataset}")

        from hpo.ledger.studies import recorded_spec
        from hpo.machines.ahead import ray_ahead
        from hpo.studies.lifecycle import IN_A_TRIAL, start

        # A grid's runs learn from the training images alone; what is set beside them learns from no others.
        options = machines.options(max(one.trials for one in asked)).model_copy(update={"retrain_on": "train"})
        recorded = {one.name: recorded_spec(location.url, one.name) for one in asked}
        with ray_ahead(options, IN_A_TRIAL) as ahead:
            from hpo.studies.new import new_study

            studies = [
                (
                    dataclasses.replace(
                        new_study(
                            paper.data.config,
                            one.model,
                            one.search,
                            options,
                            seed=one.seed,
                            # Seeds are compared on the same images.
                            split_seed=0,
                            trainable=one.trainable,
                            skip_bad_images=paper.options.skip_bad_images,
                            geometry_of=None,
                            exif=paper.options.exif,
                            existing=recorded[one.name],
                        ),
                        trials=one.trials,
                    ),
                    location.paths(one.name),
                )
                for one in asked
            ]
            return start(studies, options, location.url, screen, ahead, command)


def _every(paper: Paper) -> "Iterator[PlannedStudy]":
    """Yield all studies that commands of this experiment may have run.

    The page shows the last that measured a configuration: an ablation's give way to those of the whole experiment.
    """
    from hpo.paper.experiment import SOUND
    from hpo.paper.runs.plan import plan

    common: dict[str, Any] = {
        "dataset": dataset_name(paper.dataset),
        "seeds": MOST_SEEDS,
        "weights": paper.weights,
    }
    everything = paper.experiment.model_copy(update={"chosen": None})
    for backbone in everything.backbones:
        yield from ablation(dataclasses.replace(paper, experiment=everything.only([backbone])), MOST_SEEDS)
    yield from plan(everything, [SOUND, paper.experiment.protocol], study=paper.study, **common)


_MAY_DIFFER = ("seed", "trainable", "model.head")
"""What the studies of one page need not have in common."""


def _is_comparable(ledger: "Ledger", search: "SearchConfig", known: "Mapping[str, StudySpec]") -> bool:
    """Return whether a study measured what this command asks for, on the same images; if not, that was said.

    Args:
        ledger: A study by its name.
        search: What a study of that name searches, as this command has it.
        known: The specifications of this command's own studies, by backbone.
    """
    from hpo.spec import differences

    own = ledger.spec
    same = known.get(own.model.backbone)
    asked = same or next(iter(known.values()))
    differing = [
        line
        for line in differences(own, asked.model_copy(update={"search": search}))
        # Of a backbone that this command does not run it does not say which weights it has.
        if (name := line.partition(":")[0]) not in _MAY_DIFFER
        and (same or not name.startswith("model.") or name in ("model.image_size", "model.precision"))
    ]
    if differing:
        logger.warning("study %s is left out of the page: %s", ledger.name, "; ".join(differing))
    return not differing


def _longest(study: _Ask) -> int:
    """Return the epochs of the longest trial that a search may draw."""
    import search_spaces

    return search_spaces.from_dict(study.search.space, study.name).max_epochs


def _machines(ledgers: "Sequence[Ledger]") -> tuple[str, ...]:
    """Return, a line each, on which devices of which machines the epochs ran."""
    places = {
        (place.host, place.device)
        for ledger in ledgers
        for record in ledger.records()
        for place in record.places
        if place is not None
    }
    return tuple(f"{device} at {host}" for host, device in sorted(places))
