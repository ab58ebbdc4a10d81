"""An experiment as a file: the packaged paper's, what it publishes, and what is said of a wrong one."""

import functools
import re
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.errors import UsageError
from hpo.paper.experiment import PAPER, SOUND, Bar, Experiment, Figure, Point, Protocol, load, packaged, parse

BACKBONES = ("simclr", "resnet18", "resnet50", "vgg", "inception", "vit", "swin")
RATES = (0.001, 0.0008, 0.0005, 0.0004, 0.00035, 0.0003, 0.0001)
TABLE = (0.44, 0.43, 0.50, 0.51, 0.53, 0.51, 0.50)
COLUMNS = (
    *(("figure-3", level) for level in (0.001, 0.0001)),
    *(("figure-4", level) for level in (32, 64)),
    *(("figure-5", level) for level in ("none", "backbone")),
    *(("figure-6", level) for level in (10, 20, 50)),
)
PUBLISHED = """
| simclr | 0.48 | 0.51 | 0.50 | 0.51 | 0.51 | 0.18 | 0.48 | 0.46 | 0.51 |
| resnet18 | 0.79 | 0.89 | 0.88 | 0.89 | 0.89 | 0.87 | 0.90 | 0.88 | 0.89 |
| resnet50 | 0.84 | 0.93 | 0.92 | 0.93 | 0.93 | 0.89 | 0.94 | 0.92 | 0.93 |
| vgg | 0.15 | 0.88 | 0.85 | 0.85 | 0.88 | 0.88 | 0.86 | 0.85 | 0.88 |
| inception | 0.79 | 0.91 | 0.92 | 0.92 | 0.91 | 0.86 | 0.92 | 0.92 | 0.91 |
| vit | 0.11 | 0.87 | 0.81 | 0.87 | 0.87 | 0.92 | 0.80 | 0.87 | 0.87 |
| swin | 0.84 | 0.95 | 0.93 | 0.94 | 0.95 | 0.93 | 0.94 | 0.94 | 0.95 |
"""
"""The paper's figures, in the order of `COLUMNS`."""

CONFIGURATIONS = {
    ("figure-3", 0.001): (0.001, 64, "none", 50),
    ("figure-3", 0.0001): (0.0001, 64, "none", 50),
    ("figure-4", 32): (0.0001, 32, "none", 50),
    ("figure-4", 64): (0.0001, 64, "none", 50),
    ("figure-5", "none"): (0.0001, 64, "none", 50),
    ("figure-5", "backbone"): (0.0001, 64, "backbone", 50),
    ("figure-6", 10): (0.0001, 64, "none", 10),
    ("figure-6", 20): (0.0001, 64, "none", 20),
    ("figure-6", 50): (0.0001, 64, "none", 50),
}

SMALL = """
name = "small"
title = "A small one"
source = "Nobody (2026)"
dataset = "digits"
backbones = ["a", "b"]

[[figures]]
id = "rates"
title = "Learning rates"
kind = "bars"
varies = "learning_rate"
levels = [0.1, 0.01]
fixed = { batch_size = 32, freeze_mode = "none", epochs = 4 }
published = { a = [0.5, "unknown"], b = [0.25, 1] }

[[conclusions]]
id = "rate"
text = "Less is more."

[[conclusions.tests]]
text = "0.01 is better"
figure = "rates"
first = 0.01
second = 0.1
above = 0.0
"""


@functools.cache
def paper() -> Experiment:
    return load()


def bar(figure: Figure, experiment: Experiment, backbone: str, level: object) -> Bar:
    return next(one for one in experiment.bars(figure) if one.point.backbone == backbone and one.level == level)


def test_every_published_bar_is_the_papers() -> None:
    experiment = paper()
    seen = 0

    for line in PUBLISHED.strip().splitlines():
        backbone, *accuracies = [cell.strip() for cell in line.strip("|").split("|")]
        for (figure, level), accuracy in zip(COLUMNS, accuracies, strict=True):
            found = bar(experiment.figure(figure), experiment, backbone, level)
            assert found.published == float(accuracy)
            rate, batch, freeze, epochs = CONFIGURATIONS[figure, level]
            assert found.point == Point(backbone, rate, batch, freeze, epochs)  # type: ignore[arg-type]
            seen += 1

    assert seen == 7 * 9
    assert seen == sum(len(experiment.bars(one)) for one in experiment.figures if one.kind == "bars")


def test_the_published_table_is_the_papers() -> None:
    experiment = paper()

    bars = experiment.bars(experiment.figure("table-simclr"))

    assert [one.published for one in bars] == [*TABLE]
    assert [one.point for one in bars] == [Point("simclr", rate, 32, "none", 20) for rate in RATES]
    assert [one.published for one in experiment.bars(experiment.figure("text-batch-256"))] == [0.46]


def test_the_paper_has_50_points_in_35_runs() -> None:
    experiment = paper()

    assert experiment.backbones == BACKBONES
    assert len(experiment.points()) == len(set(experiment.points())) == 50
    assert len(experiment.runs()) == 35
    assert experiment.runs()[Point("vit", 0.0001, 64, "none", 50)] == (10, 20, 50)
    assert experiment.runs()[Point("simclr", 0.0001, 32, "none", 50)] == (20, 50)
    assert sum(len(epochs) for epochs in experiment.runs().values()) == 50


def test_the_published_protocol_differs_from_the_sound_one_in_every_switch() -> None:
    assert paper().protocol.differs_in(SOUND) == tuple(Protocol.model_fields)
    assert paper().study_trials == 60
    assert packaged() == (PAPER,)


def test_the_literature_is_the_papers_neighbours() -> None:
    found = {one.accuracy: (one.metric, one.second_hand) for one in paper().literature}

    assert found.keys() == {0.925, 0.94, 0.935, 0.9378, 0.836}
    assert found.pop(0.836) == ("mean per-class accuracy", True)
    assert set(found.values()) == {("accuracy", False)}


def test_a_scaled_experiment_trains_fewer_epochs_and_its_equal_points_are_one() -> None:
    scaled = paper().scaled(0.1)

    assert {one.epochs for one in scaled.points()} == {1, 2, 5}
    assert bar(scaled.figure("figure-6"), scaled, "vit", 20).published == 0.87
    assert len(paper().scaled(0.001).points()) == 35
    assert {one.epochs for one in paper().scaled(0.001).points()} == {1}
    assert len(paper().scaled(0.001).runs()) == 35


@settings(max_examples=40, deadline=None)
@given(st.floats(0.001, 4), st.sets(st.sampled_from(BACKBONES), min_size=1))
def test_runs_cover_the_points_of_the_chosen_backbones(factor: float, backbones: set[str]) -> None:
    experiment = paper().scaled(factor).only([*backbones])

    covered = {
        Point(run.backbone, run.learning_rate, run.batch_size, run.freeze_mode, epochs)
        for run, read in experiment.runs().items()
        for epochs in read
    }

    assert covered == {*experiment.points()}
    assert {one.backbone for one in experiment.points()} == backbones
    assert len(experiment.bars(experiment.figure("figure-3"))) == 14


@pytest.mark.parametrize("factor", [0, -1, float("nan"), float("inf")])
def test_a_scale_that_is_no_positive_number_is_refused(factor: float) -> None:
    with pytest.raises(UsageError, match="--scale must be a number above 0"):
        paper().scaled(factor)


def test_a_backbone_of_another_paper_is_refused() -> None:
    with pytest.raises(UsageError, match=r"alexnet: not in jimenez-hale-2023; its backbones are simclr, "):
        paper().only(["vit", "alexnet"])
    with pytest.raises(UsageError, match="no backbone was named"):
        paper().only([])


def test_an_experiment_of_ones_own_is_read(tmp_path: Path) -> None:
    file = tmp_path / "small.toml"
    file.write_text(SMALL, encoding="utf-8-sig")

    experiment = load(str(file))

    figure = experiment.figures[0]
    assert [one.published for one in experiment.bars(figure)] == [0.5, None, 0.25, 1.0]
    assert experiment.protocol == SOUND


def test_a_missing_file_names_the_packaged_experiments(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"no.toml: cannot be read .*one of {PAPER}"):
        load(str(tmp_path / "no.toml"))


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ('title = "A small one"', "", "title: missing; the keys here are name, title,"),
        ('title = "A small one"', 'titel = "x"', "titel: unknown; the keys here are name, title,"),
        ('title = "A small one"', 'title = "x"\nscale = 2', "scale: unknown; it is an option of the command"),
        ('name = "small"', 'name = "a b"', "name: string should match pattern"),
        ('["a", "b"]', '["a", "b", "b"]', "backbones: b stands there twice"),
        ('["a", "b"]', '["a"]', "figures[0].published.b: no such backbone; there are a."),
        ('"bars"', '"pie"', "figures[0].kind: input should be 'bars' or 'table', but it is 'pie'."),
        ("[0.1, 0.01]", "[0.1, 0.1]", "figures[0].levels: each may stand there once"),
        ("[0.1, 0.01]", "[0.1, -0.01]", "figures[0].levels: -0.01 is no learning rate"),
        ("[0.25, 1]", "[0.25, 1, 1]", "figures[0].published.b: one accuracy per level is needed"),
        ("[0.25, 1]", "[0.25, 92]", "figures[0].published.b[1]: input should be less than or equal to 1"),
        ("epochs = 4", "epochs = 0", "figures[0].fixed.epochs: input should be greater than or equal to 1"),
        (", epochs = 4", "", "figures[0].fixed.epochs: missing; all but learning_rate, which varies, are needed"),
        ("epochs = 4", "epochs = 4, learning_rate = 1", "figures[0].fixed.learning_rate: the parameter that varies"),
        ('figure = "rates"', 'figure = "rate"', "conclusions[0].tests[0].figure: no figure is called 'rate'"),
        ("first = 0.01", "first = 0.02", "conclusions[0].tests[0].first: 0.02 is no level of rates"),
        ("second = 0.1", "second = 0.01", "conclusions[0].tests[0].second: the same as first"),
        ("above = 0.0", "", "conclusions[0].tests[0].above: a test needs above, below or both"),
        ("above = 0.0", "above = 0.1\nbelow = 0.1", "conclusions[0].tests[0].above: must be less than below"),
        ("above = 0.0", 'above = 0.0\nagainst = "c"', "conclusions[0].tests[0].against: c is not in rates"),
        ("above = 0.0", 'above = 0.0\nbackbones = ["c"]', "conclusions[0].tests[0].backbones: c is not in rates"),
        ("name =", "name", "is not valid TOML"),
    ],
)
def test_a_mistake_is_named_with_file_and_key(was: str, becomes: str, said: str) -> None:
    assert was in SMALL

    with pytest.raises(UsageError) as error:
        parse(SMALL.replace(was, becomes), "own.toml")

    assert f"own.toml: {said}" in str(error.value)


def test_all_mistakes_are_named_at_once() -> None:
    wrong = SMALL.replace('"bars"', '"pie"').replace('title = "A small one"', "").replace("epochs = 4", "epochs = 0.5")

    with pytest.raises(UsageError) as error:
        parse(wrong, "own.toml")

    assert len(str(error.value).splitlines()) == 3


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=60), st.integers(0, len(SMALL)))
def test_whatever_stands_in_a_file_it_is_read_or_refused(text: str, position: int) -> None:
    try:
        parse(SMALL[:position] + text + SMALL[position:], "own.toml")
    except UsageError as error:
        said = str(error)
    else:
        said = "own.toml: "

    assert said.startswith("own.toml: ")


def test_the_documented_file_is_an_experiment() -> None:
    page = (Path(__file__).parents[3] / "docs" / "paper.md").read_text(encoding="utf-8")
    example = re.search(r"```toml\n(.*?)```", page, re.DOTALL)

    assert example is not None
    assert parse(example[1], "docs/paper.md").runs()
    accuracies = sum(len(paper().bars(one)) for one in paper().figures)
    assert f"{accuracies} accuracies of {len(paper().points())} configurations, in {len(paper().runs())} runs" in page


def test_the_packaged_file_is_in_the_distribution() -> None:
    text = (files("hpo.paper") / f"{PAPER}.toml").read_text(encoding="utf-8")

    assert parse(text, PAPER) == paper()


def test_the_example_of_the_documentation_has_the_papers_protocol() -> None:
    example = load(str(Path(__file__).parents[3] / "docs" / "simclr-flaws.toml"))

    assert example.protocol == load().protocol
    assert {point.freeze_mode for point in example.points()} == {"none", "backbone"}
