"""Start and continue studies: one, or several that share the machines."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, overload

from hpo.api.options import DataOptions, Location, MachineOptions, ModelOptions, SearchOptions
from hpo.api.study import Study, open_study
from hpo.live.screen import Screen
from hpo.paths import study_names

if TYPE_CHECKING:
    from hpo.studies.lifecycle import Ended


@overload
def run(
    backbone: str,
    *,
    trials: int | None = None,
    study: str | None = None,
    seed: int = 0,
    data: DataOptions = DataOptions(),
    model: ModelOptions = ModelOptions(),
    search: SearchOptions = SearchOptions(),
    machines: MachineOptions = MachineOptions(),
    location: Location = Location(),
) -> Study: ...


@overload
def run(
    backbone: list[str],
    *,
    trials: int | None = None,
    study: str | None = None,
    seed: int = 0,
    data: DataOptions = DataOptions(),
    model: ModelOptions = ModelOptions(),
    search: SearchOptions = SearchOptions(),
    machines: MachineOptions = MachineOptions(),
    location: Location = Location(),
) -> list[Study]: ...


def run(
    backbone: str | list[str],
    *,
    trials: int | None = None,
    study: str | None = None,
    seed: int = 0,
    data: DataOptions = DataOptions(),
    model: ModelOptions = ModelOptions(),
    search: SearchOptions = SearchOptions(),
    machines: MachineOptions = MachineOptions(),
    location: Location = Location(),
) -> Study | list[Study]:
    """Run a study, or continue the one of that name; retrain the best and look at held-out test once.

    Args:
        backbone: simclr, resnet18, resnet50, vgg, inception, vit, swin, ``torchvision:NAME`` or
            ``package.module:function``; a list: a study each, at the same time on the same machines, and ``all`` is
            the first seven.
        trials: Trials that each study is to reach, 1 or more; None, for a grid alone: all of it.
        study: The study's name, STUDY-BACKBONE of several; None: BACKBONE-DATASET.
        seed: Seed of the splits, the sampler and the trials, 0 to 2**63 - 1.
        data: Which images, and how they are split.
        model: Which weights and head.
        search: What a trial runs, the search space, the sampler, and ASHA.
        machines: Where it runs, on how much, for how long.
        location: Where studies are.

    Returns:
        The study; of a list, one for each backbone, in order.

    Raises:
        UsageError: Something cannot be used, or a study of that name has another specification; nothing was created.
        InterruptedStudy: Ctrl-C stopped it; the message is the command that continues it.
        HpoError: A study failed; others of the list ran to their end.
    """
    backbones = [backbone] if isinstance(backbone, str) else backbone
    run_together(
        backbones,
        trials=trials,
        study=study,
        seed=seed,
        data=data,
        model=model,
        search=search,
        machines=machines,
        location=location,
    ).check()
    studies = [
        open_study(name, location) for name in study_names(backbones, data.dataset, study, search.trainable).values()
    ]
    return studies[0] if isinstance(backbone, str) and len(studies) == 1 else studies


def run_together(
    backbones: Sequence[str],
    *,
    trials: int | None,
    study: str | None,
    seed: int,
    data: DataOptions,
    model: ModelOptions,
    search: SearchOptions,
    machines: MachineOptions,
    location: Location,
) -> "Ended":
    """Run a study of each backbone as `run` does, and return how they ended.

    Raises:
        UsageError, InterruptedStudy: As `run` does.
    """
    names = study_names(list(backbones), data.dataset, study, search.trainable)
    with Screen() as screen:
        # Said before the imports, which take seconds.
        screen.doing(f"{_named(names.values())}: opening {data.dataset}")

        import search_spaces
        from hpo.ledger.studies import recorded_spec
        from hpo.machines.ahead import ray_ahead
        from hpo.spec import trials_of
        from hpo.studies.lifecycle import IN_A_TRIAL, start
        from trainables.trainable import check_name, has_final_model

        check_name(search.trainable)
        searches = {
            one: search.over(search_spaces.for_study(one, model.weights, search.space, search.trainable))
            for one in names
        }
        targets = {one: trials_of(searches[one], search.trainable, trials) for one in names}
        options = machines.options(max(targets.values()))
        if not has_final_model(search.trainable):
            options = options.model_copy(update={"retrain": False})
        recorded = {name: recorded_spec(location.url, name) for name in names.values()}
        with ray_ahead(options, IN_A_TRIAL) as ahead:
            # Imports torch, while Ray starts.
            from hpo.studies.new import new_study

            studies = [
                (
                    dataclasses.replace(
                        new_study(
                            data.config,
                            model.config(one),
                            searches[one],
                            options,
                            seed=seed,
                            trainable=search.trainable,
                            skip_bad_images=data.skip_bad_images,
                            geometry_of=model.geometry_of,
                            exif=data.exif,
                            existing=recorded[name],
                        ),
                        trials=targets[one],
                    ),
                    location.paths(name),
                )
                for one, name in names.items()
            ]
            return start(studies, options, location.url, screen, ahead)


def resume_together(
    names: Sequence[str], *, trials: int | None, address: str | None, timeout_s: float | None, location: Location
) -> "Ended":
    """Continue studies at the same time on the same machines, as `Study.resume` does, and return how they ended.

    Raises:
        UsageError, InterruptedStudy: As `Study.resume` does.
    """
    studies = [location.paths(name) for name in dict.fromkeys(names)]
    with Screen() as screen:
        screen.doing(f"{_named(one.name for one in studies)}: opening the ledger")

        from hpo.studies import lifecycle

        return lifecycle.resume(
            studies, location.url, trials=trials, address=address, timeout_s=timeout_s, screen=screen
        )


def _named(studies: Iterable[str]) -> str:
    names = list(studies)
    return f"{'study' if len(names) == 1 else 'studies'} {', '.join(names)}"
