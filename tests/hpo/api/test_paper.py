"""`plan_paper`: what is asked for is checked before anything runs."""

from pathlib import Path

import pytest

from hpo.api.paper import Paper, PaperOptions, plan_paper
from hpo.errors import UsageError
from tests.hpo.paper.test_experiment import SMALL

LONGEST = 120


def planned(study: str, **options: object) -> Paper:
    return plan_paper(None, options=PaperOptions(study=study, **options))  # type: ignore[arg-type]


def test_every_study_of_a_plan_must_be_able_to_have_its_name() -> None:
    fitting = "x" * (LONGEST - len("-inception-pets"))

    assert max(len(one.name) for one in planned(fitting, trials=0).planned) == LONGEST
    for options in ({"trials": 0, "as_published": True}, {"trials": 0, "seeds": 2}, {"trials": 1}):
        with pytest.raises(UsageError, match=f"1 to {LONGEST} bytes.*give a shorter --study"):
            planned(fitting, **options)
    with pytest.raises(UsageError, match="give a shorter --study"):
        planned(fitting, ablate="simclr")


@pytest.mark.parametrize(
    ("given", "simclr", "vit"),
    [
        (["simclr=own.pt"], "own.pt", "default"),
        (["simclr=/runs/a=b.pt"], "/runs/a=b.pt", "default"),
        (["/runs/a=b.pt"], "/runs/a=b.pt", "/runs/a=b.pt"),
        (["./a=b.pt", "vit=none"], "./a=b.pt", "none"),
        (["none"], "none", "none"),
        ([], "simclr-stl10", "default"),
        (["simclr=default", "none"], "default", "none"),
    ],
)
def test_weights_are_of_one_backbone_or_of_all(given: list[str], simclr: str, vit: str) -> None:
    weights = plan_paper(None, weights=given, options=PaperOptions()).weights

    assert (weights["simclr"], weights["vit"]) == (simclr, vit)


def test_weights_of_another_backbone_are_refused() -> None:
    with pytest.raises(UsageError, match="simclr2 is no backbone of the experiment; they are simclr, resnet18"):
        plan_paper(None, weights=["simclr2=own.pt"], options=PaperOptions())


def test_a_layer_that_trains_is_not_ablated_as_a_frozen_one() -> None:
    frozen = {
        (one.protocol.frozen_random_layer, one.protocol.head): {run.point.freeze_mode for run in one.runs}
        for one in planned("x", ablate="simclr").planned
    }

    assert frozen[True, "paper"] == {"none", "backbone"}
    assert frozen[False, "paper"] == {"backbone"}


def test_a_paper_without_deviations_has_no_ablation(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(SMALL, encoding="utf-8")

    with pytest.raises(UsageError, match="small has no deviation that could be taken back"):
        plan_paper(str(path), options=PaperOptions(ablate="a"))
