"""A paper's page: what it concluded and what was measured of it, its figures redrawn, and what stays open."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import hpo.paper.page.tables as tables
from hpo.paper.ablation import ablations
from hpo.paper.experiment import SOUND, Bar, Experiment, Point, Protocol
from hpo.paper.measured import Cell, Conditions, Measured, StudyOutcome, by_protocol
from hpo.paper.page.against import contest_drawing, contests
from hpo.paper.page.bars import chart
from hpo.paper.page.forests import ablation_drawing, forest
from hpo.paper.page.wording import protocol_words
from hpo.paper.verdicts import VERDICTS, Comparison, Judgement, Verdict, described, judge
from hpo.report.facts import Tile
from hpo.report.page import Section, write
from hpo.views.summary import duration

_MARKS: dict[Verdict, str] = {
    "confirmed": "\N{CHECK MARK}",
    "contradicted": "\N{MULTIPLICATION X}",
    "undecided": "\N{WHITE CIRCLE}",
}
_MOST_NAMED = 6
"""Comparisons that a sentence names."""


def write_page(
    experiment: Experiment,
    cells: Sequence[Cell],
    studies: Sequence[StudyOutcome],
    folder: Path,
    conditions: Conditions,
) -> Path:
    """Write the page of an experiment with its figures and tables, and return the page.

    Args:
        experiment: At the scale at which it was measured; with the backbones that were run.
        cells: All that was measured, under whichever protocols, in any order; of two with the same configuration,
            protocol and seed the last counts.
        studies: Of the backbones that have one.
        folder: Where the page goes, as ``report.html`` with ``figures/`` and ``tables/``; an earlier one is replaced.
        conditions: What it was measured on.
    """
    cells = list({(one.protocol, one.point, one.seed): one for one in cells}.values())
    protocols = by_protocol(cells)
    main = next(iter(protocols), SOUND)
    measured = protocols.get(main, {})
    shown = _shown(experiment, protocols)
    judgements = judge(experiment, measured)
    sections = [
        _answer(experiment, cells, measured, main, judgements, conditions),
        _conclusions(experiment, judgements),
        _figures(experiment, shown),
        *_ablation(cells),
        *_studies(experiment, protocols.get(SOUND, {}), studies),
        _literature(experiment, conditions),
        _how(experiment, cells, [*shown], conditions),
        _open(experiment, cells, measured, conditions),
    ]
    return write(folder, f"Measured again: {experiment.title}", experiment.source, sections, [tables.cells(cells)])


def _shown(experiment: Experiment, protocols: Mapping[Protocol, Measured]) -> dict[Protocol, Measured]:
    """Return the protocols that stand beside the published accuracies: the main one, and the other of the two known."""
    known = [one for one in (SOUND, experiment.protocol) if one in protocols]
    chosen = [*list(protocols)[:1], *known]
    return {one: protocols[one] for one in dict.fromkeys(chosen)}


def _answer(
    experiment: Experiment,
    cells: Sequence[Cell],
    measured: Measured,
    main: Protocol,
    judgements: Sequence[Judgement],
    conditions: Conditions,
) -> Section:
    points, all_points = set(measured), set(experiment.model_copy(update={"chosen": None}).points())
    seeds = sorted({len(some) for some in measured.values()})
    once = sum(len(some) == 1 for some in measured.values())
    counts, is_scaled = Counter(one.verdict for one in judgements), experiment.scale != 1
    images = {len(cell.labels) for cell in cells}
    said = []
    if conditions.dataset != experiment.dataset:
        said.append(
            f"This was measured on `{conditions.dataset}`, not on the paper's `{experiment.dataset}`. Published"
            " accuracies are shown for reference alone: no measured one is expected to equal them, and the verdicts"
            f" speak of `{conditions.dataset}`."
        )
    said.append(
        f"Networks were built and judged {protocol_words(main, experiment)} (see How it was run)"
        + (f", with {experiment.scale:g} times the published epochs." if experiment.scale != 1 else ".")
    )
    if once:
        said.append(
            f"{'Each configuration was' if once == len(measured) else f'{once} of {len(measured)} configurations were'}"
            " trained with one seed. Their intervals, and verdicts on them, cover the choice of test images, and not"
            " what another seed would have given."
        )
    tiles = [
        *(Tile(f"conclusions {name}", str(counts[name]), f"of {len(judgements)}") for name in VERDICTS),
        Tile(
            "configurations measured",
            str(len(points & all_points)),
            f"of {len(all_points)}{' at this scale' * is_scaled}; {_seeds(seeds)}",
        ),
        Tile("held-out test images", f"{max(images, default=0):,}", conditions.dataset),
    ]
    return Section("answer", "The answer", said, tiles=tiles)


def _seeds(counts: Sequence[int]) -> str:
    """Return how many seeds configurations have, in words."""
    words = " to ".join(map(str, dict.fromkeys((min(counts, default=0), max(counts, default=0)))))
    return f"{words} seed{'s' * (words != '1')}"


def _conclusions(experiment: Experiment, judgements: Sequence[Judgement]) -> Section:
    if not judgements:
        return Section("conclusions", "The paper's conclusions", [f"{experiment.name} names none."])
    said = [
        "A conclusion is confirmed if the claim behind it is confirmed for every backbone, contradicted if it is"
        " contradicted for one, and else undecided. A difference confirms a claim if it lies where the claim puts it,"
        " and contradicts it if it lies outside, by a test at 5 % that is adjusted for the comparisons of the"
        " conclusion (Holm); the intervals drawn are each comparison's own, so that one may lie within its claim and be"
        " undecided."
    ]
    return Section(
        "conclusions",
        "The paper's conclusions",
        said,
        facts=[
            (f"{_MARKS[one.verdict]} {one.verdict}", f"{one.conclusion.text} {_counted(one)}") for one in judgements
        ],
        drawings=[forest(one) for one in judgements if len(one.missing) < len(one.comparisons)],
        tables=[tables.comparisons(judgements)],
    )


def _counted(judgement: Judgement) -> str:
    """Return how many comparisons of a conclusion came out how, and which."""
    total = len(judgement.comparisons)
    if len(judgement.missing) == total:
        reasons = {one.missing.partition(":")[0] for one in judgement.missing}
        return f"None of {total} comparisons can be made: {', '.join(sorted(reasons))}."
    parts = [(name, judgement.having(name)) for name in VERDICTS]
    if len(judgement.missing) == 0 and sum(bool(found) for _, found in parts) == 1:
        return f"All {total} comparisons are {judgement.verdict}."
    said = [f"{len(found)} {name}{_named(found)}" for name, found in parts if found]
    if judgement.missing:
        said.append(f"{len(judgement.missing)} not measured{_named(judgement.missing)}")
    return f"Of {total} comparisons {', '.join(said)}."


def _named(found: Sequence[Comparison]) -> str:
    names = list(dict.fromkeys(one.backbone for one in found))
    return f" ({', '.join(names)})" if len(names) <= _MOST_NAMED else ""


def _figures(experiment: Experiment, shown: Mapping[Protocol, Measured]) -> Section:
    drawn = [chart(experiment, figure, shown) for figure in experiment.figures]
    return Section(
        "figures",
        "The paper's figures",
        drawings=[one for one in drawn if one is not None],
        tables=[tables.bars(experiment, shown)],
    )


def _ablation(cells: Sequence[Cell]) -> list[Section]:
    found = ablations(cells)
    if not found:
        return []
    said = [
        "The same configuration, with one switch of the protocol set otherwise, by the same seeds and on the same test"
        " images. A fresh layer below the last one is part of the paper's head: with another head it is gone, too."
    ]
    drawings = [ablation_drawing(one) for one in found]
    return [Section("ablation", "What each switch costs", said, drawings=drawings, tables=[tables.ablation(found)])]


def _studies(experiment: Experiment, sound: Measured, studies: Sequence[StudyOutcome]) -> list[Section]:
    """Return the studies beside the grids of the same protocol as theirs, the sound one."""
    found = contests(experiment, sound, studies)
    if not found:
        return []
    better = [one.study.backbone for one in found if one.gain is not None and one.gain[0] > 0]
    worse = [one.study.backbone for one in found if one.gain is not None and one.gain[1] < 0]
    known = [one for one in found if one.grid is not None]
    better_than = f"Better than the best of the paper's grid: {', '.join(better) or 'none'}"
    said = [f"{better_than}; worse: {', '.join(worse) or 'none'}; of the others it is not known."]
    if known:
        spent = sum(one.study.gpu_seconds for one in known)
        grid = sum(one.grid.gpu_seconds for one in known if one.grid)
        said.append(f"The studies trained for {duration(spent)} altogether, their grids for {duration(grid)}.")
    title = "A study of each backbone"
    return [Section("studies", title, said, drawings=[contest_drawing(found)], tables=[tables.studies(found)])]


def _literature(experiment: Experiment, conditions: Conditions) -> Section:
    if not experiment.literature:
        return Section("literature", "Elsewhere", ["No other accuracies are named."])
    said = [f"On `{experiment.dataset}`; metrics are not all the same, and neither are images' sizes."]
    if conditions.dataset != experiment.dataset:
        said.append(f"None of it can be compared with what was measured on `{conditions.dataset}`.")
    return Section("literature", "Elsewhere", said, tables=[tables.literature(experiment)])


def _how(experiment: Experiment, cells: Sequence[Cell], shown: Sequence[Protocol], conditions: Conditions) -> Section:
    other = "" if conditions.dataset == experiment.dataset else f"; the paper used {experiment.dataset}"
    size = f"{conditions.image_size} px" if conditions.image_size else "that of the weights"
    total = sum(
        {
            (cell.protocol, cell.seed, *(getattr(cell.point, name) for name in tables.CELL[:-1])): cell.gpu_seconds
            for cell in sorted(cells, key=lambda one: one.gpu_seconds)
        }.values()
    )
    facts = [
        ("paper", experiment.source),
        ("dataset", f"{conditions.dataset}, {conditions.n_classes} classes{other}"),
        ("image size", size),
        ("epochs", f"{experiment.scale:g} times the published ones" if experiment.scale != 1 else "as published"),
        ("weights", _weights(conditions)),
        ("device time", duration(total)),
        ("machines", "; ".join(conditions.machines) or "not known"),
        *([("last command", conditions.command)] if conditions.command else []),
    ]
    return Section("how", "How it was run", facts=facts, tables=[tables.protocols(experiment, shown)])


def _weights(conditions: Conditions) -> str:
    named: dict[str, list[str]] = {}
    for backbone, weights in conditions.weights.items():
        named.setdefault(weights, []).append(backbone)
    return "; ".join(f"{weights} ({', '.join(backbones)})" for weights, backbones in named.items()) or "not known"


def _open(experiment: Experiment, cells: Sequence[Cell], measured: Measured, conditions: Conditions) -> Section:
    said = []
    if conditions.dataset != experiment.dataset:
        said.append(
            f"Nothing here was measured on `{experiment.dataset}`: whether the paper's accuracies come back is open."
        )
    everything = experiment.model_copy(update={"chosen": None})
    missing = Counter(point.backbone for point in everything.points() if point not in measured)
    if missing:
        named = ", ".join(f"{count} of {name}" for name, count in missing.items())
        said.append(f"Not measured are {sum(missing.values())} of {len(everything.points())} configurations: {named}.")
    if experiment.scale != 1:
        said.append(
            "What holds for these epochs need not hold for the published ones: a learning rate that is too small for 2"
            " epochs may be right for 50."
        )
    diverged = list(dict.fromkeys(described(cell.point) for cell in cells if cell.diverged))
    if diverged:
        said.append(
            f"The loss was no number in some runs, which ended there and count as they were judged then:"
            f" {'; '.join(diverged)}."
        )
    if any(len(some) == 1 for some in measured.values()):
        said.append("How much accuracies vary by the seed is not known where there is one; give several seeds.")
    said += [*experiment.notes, *(f"{one.title}: {one.note}" for one in experiment.figures if one.note)]
    disagreeing = _disagreements(experiment)
    if disagreeing:
        said.append(
            "The paper's own figures do not agree on some configurations that are the same: "
            + "; ".join(
                f"{point.backbone} {' and '.join(map('{:.2f}'.format, values))}" for point, values in disagreeing
            )
            + ". Smaller differences between published and measured mean nothing."
        )
    said.append("The paper trained each configuration once, so that no spread of its accuracies is known.")
    return Section("open", "What stays open", said)


def _disagreements(experiment: Experiment) -> list[tuple[Point, list[float]]]:
    """Return the configurations of which several accuracies are published, the most different first."""
    found: dict[Point, set[float]] = {}
    unscaled = experiment.model_copy(update={"scale": 1.0})
    bars: list[Bar] = [bar for figure in unscaled.figures for bar in unscaled.bars(figure)]
    for bar in bars:
        if bar.published is not None:
            found.setdefault(bar.point, set()).add(bar.published)
    several = [(point, sorted(values)) for point, values in found.items() if len(values) > 1]
    return sorted(several, key=lambda one: one[1][0] - one[1][-1])
