"""What a plan costs: its runs, their epochs, and the hours that they would take on this machine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpo.paper.runs.plan import PlannedStudy
from trainables.config import FreezeMode

if TYPE_CHECKING:
    from trainables.published.speed import Speed


@dataclass(frozen=True)
class Images:
    """How many images there are in each split."""

    train: int
    validation: int
    test: int
    classes: int


@dataclass(frozen=True)
class Cost:
    """What one backbone's runs cost."""

    backbone: str
    runs: int
    epochs: int
    hours: float | None
    """On this machine, with nothing else to do; None: not measured."""
    measured: str = ""
    """With how many images, and on what."""


Speeds = Mapping[tuple[str, FreezeMode], "Speed"]
"""By backbone and freeze mode."""


def costs(planned: Sequence[PlannedStudy], images: Images | None, speeds: Speeds, devices: int) -> list[Cost]:
    """Return what each backbone's runs cost, in the order of the plan.

    Args:
        planned: The studies.
        images: None: not known, and no hours are given.
        speeds: What was measured; empty: nothing was.
        devices: How many runs this machine trains at a time as fast as one.
    """
    found = []
    for backbone in dict.fromkeys(study.backbone for study in planned):
        own = [study for study in planned if study.backbone == backbone]
        hours = None
        if images is not None and speeds:
            hours = sum(_seconds(study, images, speeds) for study in own) / 3600 / devices
        speed = next((one for (name, _), one in speeds.items() if name == backbone), None)
        said = f"{speed.images} images a step on {speed.device}" if speed else ""
        found.append(Cost(backbone, sum(len(one.runs) for one in own), sum(one.epochs for one in own), hours, said))
    return found


def study_hours(
    trials: int, longest: int, images: Images | None, speeds: Speeds, backbone: str, devices: int
) -> float | None:
    """Return the most that a study of so many trials can take: each fine-tunes for the longest, and none is stopped."""
    speed = speeds.get((backbone, "none"))
    if images is None or speed is None:
        return None
    epoch_s = images.train * speed.training_s + images.validation * speed.judging_s
    return trials * longest * epoch_s / 3600 / devices


def modes(planned: Sequence[PlannedStudy]) -> dict[tuple[str, FreezeMode], int]:
    """Return the batch size at which each backbone is to be measured in each freeze mode: its most frequent one."""
    batches: dict[tuple[str, FreezeMode], list[int]] = {}
    for run in (run for study in planned for run in study.runs):
        batches.setdefault((run.point.backbone, run.point.freeze_mode), []).append(run.point.batch_size)
    return {key: max(dict.fromkeys(sizes), key=sizes.count) for key, sizes in batches.items()}


def _seconds(study: PlannedStudy, images: Images, speeds: Speeds) -> float:
    """Return what a study's runs take, one after the other on one device."""
    total, stored = 0.0, 0.0
    for run in study.runs:
        speed = speeds[study.backbone, run.point.freeze_mode]
        judged = images.validation * speed.judging_s
        total += len(run.reads) * images.test * speed.judging_s
        if _stores_features(study, run.point.freeze_mode):
            # A frozen part is passed once per image and machine; what is left to train takes next to nothing.
            stored = max(stored, images.train * speed.judging_s + judged)
        else:
            total += run.point.epochs * (images.train * speed.training_s + judged)
    return total + stored


def _stores_features(study: PlannedStudy, mode: FreezeMode) -> bool:
    """As `trainables.training.feature_store.applies` and the protocol decide it."""
    protocol = study.protocol
    return mode == "backbone" and protocol.head != "paper" and protocol.evaluation_mode == "eval"
