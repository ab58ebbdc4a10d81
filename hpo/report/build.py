"""The report of one study and that of several: what is asked of the other modules, in the order of the page."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from hpo.paths import StudyPaths
from hpo.report import comparison, facts, tables
from hpo.report.examples import example_images
from hpo.report.outcome_figures import confusion_drawing, time_drawing
from hpo.report.page import Example, Section, write
from hpo.report.parameter_figures import parameter_drawings
from hpo.report.predictions import PAIRS, Predictions, confused_pairs
from hpo.report.search_figures import search_drawings
from hpo.report.source import StudySource
from hpo.report.tables import Column, Table
from hpo.report.timeline import active_seconds, lanes, stretches
from hpo.views.summary import duration
from trainables.errors import InputError

_MOST_TIED = 30
"""Trials within the noise of the best that the page lists."""


def report(sources: Sequence[StudySource], folder: Path) -> Path:
    """Write the report of one study, or of several side by side, into a folder, and return its page."""
    return _one(sources[0], folder) if len(sources) == 1 else _several(sources, folder)


def report_folder(studies: Sequence[StudyPaths]) -> Path:
    """Return where a report goes: a study's own folder, of several a folder ``reports`` among the studies."""
    if len(studies) == 1:
        return studies[0].report
    names = "-".join(sorted(one.name for one in studies))
    digest = hashlib.sha256(repr(sorted(one.name for one in studies)).encode()).hexdigest()[:8]
    return studies[0].studies / "reports" / f"{names if len(names.encode()) <= 100 else digest}"


def _one(source: StudySource, folder: Path) -> Path:
    rows = facts.tied(source)
    confused, data = _confused(source)
    sections = [
        Section("answer", "The answer", facts.answer(source), tiles=facts.tiles(source)),
        Section("conclusions", "What can be concluded", facts.conclusions(source, rows), tables=_tied(rows)),
        _search(source),
        _time(source),
        confused,
        Section("asked", "What was asked", facts=facts.asked(source)),
        Section(
            "trials", "Every trial", () if source.records else ["There are none yet."], tables=[tables.trials(source)]
        ),
    ]
    spec = source.spec
    subtitle = f"{spec.model.backbone} on {spec.data.dataset}"
    extra = [tables.curves(source), tables.importances(source), *data]
    return write(folder, f"Study {source.name}", subtitle, sections, extra)


def _tied(rows: list[facts.Tied] | None) -> list[Table]:
    if rows is None or len(rows) < 2:
        return []
    columns = (
        Column("number", "trial", str),
        Column("accuracy", "validation", tables.share),
        Column("p_value", "p against the best", tables.p_value),
        Column("seconds", "training", duration),
        Column("params", "configuration"),
    )
    title = "Within the validation noise of the best, the cheapest first"
    if len(rows) > _MOST_TIED:
        title += f" ({_MOST_TIED} of {len(rows)})"
    return [Table("tied", title, columns, [vars(one) for one in rows[:_MOST_TIED]])]


def _search(source: StudySource) -> Section:
    drawings = [*search_drawings(source), *parameter_drawings(source)]
    said = [] if drawings else ["No trial has an epoch yet, so that there is nothing to draw."]
    if drawings and not source.importances:
        said.append(
            "There are no parameter importances and no contour: they need eight ended trials that differ in accuracy"
            " and in a parameter."
        )
    return Section("search", "The search", said, drawings=drawings)


def _time(source: StudySource) -> Section:
    found = stretches(source.records)
    if not found:
        return Section("time", "Where the time went", ["No epoch has been trained yet."])
    rows, active = lanes(found), active_seconds(found)
    slowest = max(source.records, key=lambda one: one.seconds_trained)
    said = [
        f"All epochs together took {duration(source.seconds)}, within {duration(active)} in which the study ran. The"
        f" longest trial, {slowest.number}, took {duration(slowest.seconds_trained)} of them. Idle is the share of"
        f" those {duration(active)} in which no epoch was trained: starts, checkpoints, and waits for other trials."
    ]
    return Section(
        "time",
        "Where the time went",
        said,
        drawings=[time_drawing(source, rows)],
        tables=[tables.machines(rows, active)],
    )


def _confused(source: StudySource) -> tuple[Section, list[Table]]:
    title, found = "What the model confuses", source.predictions
    if found is None:
        reason = "neither a final model's predictions nor those of the best trial are kept"
        return Section("confusion", title, [f"Not known: {reason}."]), []
    pairs = confused_pairs(found, PAIRS)
    said = [] if pairs else ["It confuses no two classes."]
    if found.split == "validation":
        said.append(
            "There is no final model yet, or its predictions are gone; shown is the best trial on validation images."
        )
    pictures, reason = _pictures(source, found, [name for pair in pairs for name in pair.examples])
    if reason:
        said.append(f"There are no example images: {reason}")
    examples = [
        Example(
            f"{pair.true} taken for {pair.predicted}: {pair.count} of its images ({tables.percent(pair.share)})",
            tuple((name, pictures[name]) for name in pair.examples if name in pictures),
        )
        for pair in pairs
    ]
    section = Section(
        "confusion",
        title,
        said,
        drawings=[confusion_drawing(found)],
        examples=examples,
        tables=[tables.classes(found.confusions)],
    )
    return section, [tables.confusions(confused_pairs(found))]


def _pictures(source: StudySource, found: Predictions, names: list[str]) -> tuple[dict[str, str], str]:
    """Return the pictures by name, and why there are none."""
    if not names:
        return {}, "" if found.names else "the images' names are not known."
    try:
        return example_images(found, names, source.spec, source.options.data_dir), ""
    except (InputError, OSError) as error:
        return {}, str(error)


def _several(sources: Sequence[StudySource], folder: Path) -> Path:
    ranked = comparison.ranked(sources)
    pairs, left_out = comparison.mcnemar(ranked)
    splits = {(one.spec.data.dataset, one.spec.data.splits_sha256) for one in ranked}
    said = [f"The best on validation is {ranked[0].name} ({ranked[0].spec.model.backbone})."] if ranked[0].best else []
    if len(splits) > 1:
        said.append("Their validation images are not the same, so that their order says little.")
    said.append("Studies are sorted by validation; held-out test stands beside it and selects nothing.")
    tests = [
        "McNemar's exact test of each pair of final models that saw the same test images; p-values are adjusted for the"
        " number of pairs (Holm). That two models cannot be told apart does not show that they are equal."
    ]
    sections = [
        Section(
            "studies",
            "Side by side",
            said,
            drawings=comparison.comparison_drawings(ranked),
            tables=[comparison.studies(ranked)],
        ),
        Section("pairs", "Which of them differ", [*tests, *left_out], tables=[pairs]),
        Section("asked", "What was asked", tables=[comparison.asked(ranked)]),
    ]
    return write(folder, f"{len(ranked)} studies", ", ".join(one.name for one in ranked), sections, [])
