"""Tables of a report: the same rows for the page, where they are rounded, and for CSV, where they are not."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hpo.report.predictions import Confusion, per_class
from hpo.report.source import StudySource
from hpo.report.timeline import Lane, machine_rows
from hpo.views.confusion import Confusions
from hpo.views.frames import curves_frame, trial_row
from hpo.views.summary import duration

Format = Callable[[Any], str]


@dataclass(frozen=True)
class Column:
    """One column."""

    key: str
    """Of the rows, and its name in the CSV file."""
    label: str
    show: Format | None = None
    """How a value is shown, and that the column is one of numbers; None: text, as it is."""


@dataclass(frozen=True)
class Table:
    """Rows with the columns that the page shows; the CSV file has all that the rows hold."""

    name: str
    """Of its file, without a suffix."""
    title: str
    columns: tuple[Column, ...]
    rows: Sequence[dict[str, Any]]

    @property
    def csv(self) -> str:
        """The rows as CSV, unrounded."""
        stream = io.StringIO()
        names = dict.fromkeys(name for row in self.rows for name in row)
        # pandas refuses names that are not UTF-8.
        writer = csv.DictWriter(stream, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return stream.getvalue()


def shown(value: object) -> str:
    """Return a value for people: ``0.0032``, ``3.2e-05``, ``64``, ``none``."""
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def share(value: float) -> str:
    """Show an accuracy."""
    return f"{value:.4f}"


def percent(value: float) -> str:
    """Show a share of something."""
    return f"{value:.0%}".replace("%", "\N{NO-BREAK SPACE}%")


def p_value(value: float) -> str:
    """Show a p-value."""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def trials(source: StudySource) -> Table:
    """Return every trial."""
    names = source.space.parameters
    rows = [trial_row(one) for one in source.records]
    # A parameter of a condition that did not hold has no value.
    rows = [{"number": row["number"], "state": row["state"], **dict.fromkeys(names), **row} for row in rows]
    # What is the same for all trials stands above, and in the CSV file.
    optional = [
        column
        for column in (
            Column("memory_gb", "GPU GB", "{:.1f}".format),
            Column("host", "machine"),
            Column("device", "device"),
            Column("error", "reason"),
        )
        if len({row[column.key] for row in rows}) > 1
    ]
    columns = (
        Column("number", "trial", str),
        Column("state", "state"),
        Column("best_val_accuracy", "validation", share),
        Column("best_epoch", "best epoch", str),
        Column("epochs_trained", "epochs run", str),
        *parameters(names, rows),
        Column("seconds_trained", "training", duration),
        *optional,
    )
    return Table("trials", "Every trial", columns, rows)


def parameters(names: Iterable[str], rows: Sequence[dict[str, Any]]) -> list[Column]:
    """Return the columns of parameters; a choice of words is no column of numbers."""
    words = {name for row in rows for name, value in row.items() if isinstance(value, str | bool)}
    return [Column(name, name.replace("_", " "), None if name in words else shown) for name in names]


def curves(source: StudySource) -> Table:
    """Return every epoch, for the CSV file alone."""
    rows: Any = curves_frame(source.records).to_dict("records")
    return Table("curves", "Every epoch", (), rows)


def importances(source: StudySource) -> Table:
    """Return the importance of each parameter under each seed, for the CSV file alone."""
    rows = [
        {"parameter": name, "seed": seed, "importance": float(value)}
        for name, values in source.importances.items()
        for seed, value in enumerate(values)
    ]
    return Table("importances", "Importances", (), rows)


def machines(lanes: Sequence[Lane], active: float) -> Table:
    """Return what each device did."""
    columns = (
        Column("host", "machine"),
        Column("device", "device"),
        Column("trials_at_a_time", "at a time", str),
        Column("trials", "trials", str),
        Column("epochs", "epochs", str),
        Column("trained_seconds", "training", duration),
        Column("idle_share", "idle", percent),
    )
    return Table("machines", "Machines", columns, machine_rows(lanes, active))


def classes(found: Confusions) -> Table:
    """Return each class, with its number where a figure calls some by it."""
    columns = (
        *([Column("number", "number", "#{}".format)] if found.labels.numbered else []),
        Column("class", "class"),
        Column("images", "images", str),
        Column("recall", "recall", "{:.3f}".format),
        Column("recall_low", "from", "{:.3f}".format),
        Column("recall_high", "to", "{:.3f}".format),
        Column("precision", "precision", "{:.3f}".format),
        Column("f1", "F1", "{:.3f}".format),
    )
    return Table("classes", "Each class, with the 95 % interval of its recall", columns, per_class(found))


def confusions(found: Sequence[Confusion]) -> Table:
    """Return confused pairs, for the CSV file alone."""
    rows = [
        {"true": one.true, "predicted": one.predicted, "images": one.count, "share_of_true": one.share} for one in found
    ]
    return Table("confusions", "Confused pairs", (), rows)
