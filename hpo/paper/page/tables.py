"""The tables of the page: each rounded in the page, and unrounded in its CSV file."""

from collections.abc import Mapping, Sequence
from typing import Any

from hpo.paper.ablation import Ablation
from hpo.paper.experiment import Experiment, Protocol
from hpo.paper.measured import Cell, Measured
from hpo.paper.page.against import Contest
from hpo.paper.page.bars import measured_accuracy
from hpo.paper.page.forests import flip_words
from hpo.paper.page.wording import SWITCHES, protocol_words, switch_words
from hpo.paper.verdicts import Comparison, Judgement
from hpo.report.tables import Column, Table, p_value, percent, share, shown
from hpo.views.summary import duration

CELL = ("backbone", "learning_rate", "batch_size", "freeze_mode", "epochs")


def signed(value: float) -> str:
    """Show a difference of accuracies."""
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def bars(experiment: Experiment, measured: Mapping[Protocol, Measured]) -> Table:
    """Return each published accuracy beside the measured one."""
    rows: list[dict[str, Any]] = []
    for figure in experiment.figures:
        for bar in experiment.bars(figure):
            row: dict[str, Any] = {
                "figure": figure.title.partition(":")[0],
                **{name: getattr(bar.point, name) for name in CELL},
                "varies": figure.varies,
                "level": bar.level,
                "published": bar.published,
            }
            for protocol, cells in measured.items():
                found, key = measured_accuracy(cells, bar), protocol_words(protocol, experiment).replace(" ", "_")
                beyond = found.value - bar.published if found and bar.published is not None else None
                row |= {
                    key: found and found.value,
                    f"{key}_low": found and found.low,
                    f"{key}_high": found and found.high,
                    f"{key}_minus_published": beyond,
                }
            rows.append(row)
    columns = [
        Column("figure", "figure"),
        Column("backbone", "backbone"),
        Column("learning_rate", "learning rate", shown),
        Column("batch_size", "batch", str),
        Column("freeze_mode", "freeze"),
        Column("epochs", "epochs", str),
        Column("published", "published", lambda value: f"{value:.2f}"),
    ]
    for protocol in measured:
        label = protocol_words(protocol, experiment)
        key = label.replace(" ", "_")
        columns += [
            Column(key, f"measured, {label}", share),
            Column(f"{key}_low", "from", share),
            Column(f"{key}_high", "to", share),
            Column(f"{key}_minus_published", "measured \N{MINUS SIGN} published", signed),
        ]
    return Table("bars", "Every published accuracy, and the one measured with its configuration", tuple(columns), rows)


def comparisons(judgements: Sequence[Judgement]) -> Table:
    """Return each comparison behind the verdicts."""
    rows = [_comparison(judgement, one) for judgement in judgements for one in judgement.comparisons]
    columns = (
        Column("conclusion", "conclusion"),
        Column("claim", "claim"),
        Column("backbone", "backbone"),
        Column("verdict", "verdict"),
        Column("published", "published", signed),
        Column("difference", "measured", signed),
        Column("low", "from", signed),
        Column("high", "to", signed),
        Column("seeds", "seeds", str),
        Column("p_confirmed", "p that the claim is wrong", p_value),
        Column("p_contradicted", "p that it is right", p_value),
        Column("mcnemar", "p of no difference (McNemar)", p_value),
        Column("why_not", "why it was not measured"),
    )
    unmissed = all(one["why_not"] is None for one in rows)
    return Table("comparisons", "Each comparison", columns[:-1] if unmissed else columns, rows)


def _comparison(judgement: Judgement, one: Comparison) -> dict[str, Any]:
    found = one.measured
    return {
        "conclusion": judgement.conclusion.id,
        "claim": one.claim.text,
        "backbone": one.backbone,
        "published": one.published,
        "difference": found and found.value,
        "low": found and found.low,
        "high": found and found.high,
        "seeds": found and found.n_seeds,
        "p_confirmed": found and one.p_confirmed,
        "p_contradicted": found and one.p_contradicted,
        "mcnemar": one.mcnemar,
        "verdict": one.verdict,
        "why_not": one.missing or None,
    }


def protocols(experiment: Experiment, measured: Sequence[Protocol]) -> Table:
    """Return the switches of the published protocol, beside those of the measured ones."""
    labels = [protocol_words(one, experiment) for one in measured]
    rows = [
        {
            "switch": name,
            "what": switch_name,
            "published": switch_words(name, getattr(experiment.protocol, name)),
            **{label: switch_words(name, getattr(one, name)) for label, one in zip(labels, measured, strict=True)},
        }
        for name, switch_name in ((name, SWITCHES[name][0]) for name in Protocol.model_fields)
    ]
    columns = (
        Column("what", "switch"),
        Column("published", "the paper"),
        *(Column(label, f"measured, {label}") for label in labels),
    )
    return Table("protocols", "How networks were built and judged", columns, rows)


def ablation(found: Sequence[Ablation]) -> Table:
    """Return what each switch changes."""
    rows: list[dict[str, Any]] = []
    for one in found:
        point = {name: getattr(one.point, name) for name in CELL}
        rows.append(
            {**point, "changed": "nothing", "accuracy": one.accuracy.value, "low": one.accuracy.low}
            | {"high": one.accuracy.high, "seeds": one.accuracy.n_seeds}
        )
        for flip in one.flips:
            words = flip_words(flip.switches, one.base, flip.protocol).replace("\n", " ")
            rows.append(
                {**point, "changed": words, "accuracy": flip.accuracy.value, "low": flip.accuracy.low}
                | {"high": flip.accuracy.high, "seeds": flip.accuracy.n_seeds, "gain": flip.gain.value}
                | {"gain_low": flip.gain.low, "gain_high": flip.gain.high}
            )
    for row in rows:
        row.update({key: row.get(key) for key in ("gain", "gain_low", "gain_high")})
    columns = (
        Column("backbone", "backbone"),
        Column("freeze_mode", "freeze"),
        Column("changed", "changed"),
        Column("accuracy", "accuracy", share),
        Column("low", "from", share),
        Column("high", "to", share),
        Column("seeds", "seeds", str),
        Column("gain", "gain", signed),
        Column("gain_low", "from", signed),
        Column("gain_high", "to", signed),
    )
    return Table("ablation", "What each switch changes", columns, rows)


def studies(found: Sequence[Contest]) -> Table:
    """Return each study beside the best of its backbone's grid."""
    rows = [
        {
            "backbone": one.study.backbone,
            "trials": one.study.n_trials,
            "study": one.study_accuracy.value,
            "study_low": one.study_accuracy.low,
            "study_high": one.study_accuracy.high,
            "best": ", ".join(f"{name} {shown(value)}" for name, value in one.study.params.items()),
            "grid": one.grid_accuracy and one.grid_accuracy.value,
            "grid_points": one.grid and one.grid.n_points,
            "grid_best": one.grid
            and ", ".join(f"{name} {shown(getattr(one.grid.point, name))}" for name in CELL if name != "backbone"),
            "gain_low": one.gain and one.gain[0],
            "gain_high": one.gain and one.gain[1],
            "published": one.published,
            "study_seconds": one.study.gpu_seconds,
            "grid_seconds": one.grid and one.grid.gpu_seconds,
            "cost": one.cost,
        }
        for one in found
    ]
    columns = (
        Column("backbone", "backbone"),
        Column("trials", "trials", str),
        Column("study", "study", share),
        Column("grid", "best of the grid", share),
        Column("grid_points", "configurations measured", str),
        Column("gain_low", "study \N{MINUS SIGN} grid, from", signed),
        Column("gain_high", "to", signed),
        Column("published", "best published", lambda value: f"{value:.2f}"),
        Column("study_seconds", "study's time", duration),
        Column("grid_seconds", "grid's time", duration),
        Column("cost", "share", percent),
        Column("best", "the study's configuration"),
        Column("grid_best", "the grid's"),
    )
    return Table("studies", "Studies against the best of the grid", columns, rows)


def literature(experiment: Experiment) -> Table:
    """Return what others published of the paper's dataset."""
    rows = [
        {
            "model": one.model,
            "accuracy": one.accuracy,
            "metric": one.metric,
            "source": f"{one.source}{' (second hand)' * one.second_hand}",
        }
        for one in experiment.literature
    ]
    columns = (
        Column("model", "model"),
        Column("accuracy", "accuracy", share),
        Column("metric", "metric"),
        Column("source", "source"),
    )
    return Table("literature", f"Published of {experiment.dataset} by others", columns, rows)


def cells(measured: Sequence[Cell]) -> Table:
    """Return every cell, for the CSV file alone."""
    rows = [
        {
            **{name: getattr(cell.point, name) for name in CELL},
            "seed": cell.seed,
            **dict(cell.protocol),
            "judged_epoch": cell.epoch,
            "val_accuracy": cell.val_accuracy,
            "test_accuracy": cell.accuracy,
            "test_right": int(cell.right.sum()),
            "test_images": len(cell.labels),
            "device_seconds": cell.gpu_seconds,
            "diverged": cell.diverged,
        }
        for cell in measured
    ]
    return Table("cells", "Every cell", (), rows)
