"""One trial's curves: a picture of every figure of its epochs, and the same figures as CSV."""

import io
import math
import threading

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hpo.ledger.records import TrialRecord
from hpo.views.frames import curves_frame, other_figures
from hpo.views.lettering import DEFAULT
from hpo.views.style import BLUE, OCHRE, TEAL, grid, styled
from trainables.config import EpochResult

_PANELS = (
    ("accuracy", {"val_accuracy": "validation"}),
    ("loss, nats", {"val_loss": "validation", "train_loss": "training"}),
    ("learning rate", {"learning_rate": "learning rate"}),
    ("images per second", {"images_per_second": "training"}),
)
"""A panel's axis, and the figures of an epoch that it shows with their names."""
_drawing = threading.Lock()
"""Matplotlib is not made for threads."""


def draw_curves(record: TrialRecord) -> bytes:
    """Return a PNG of a trial's curves, its best epoch marked; empty panels before its first epoch."""
    panels = _panels(record)
    rows = math.ceil(len(panels) / 2)
    with _drawing, styled([DEFAULT]):
        figure = Figure(figsize=(9, 3 * rows), layout="constrained")
        figure.suptitle(f"trial {record.number}, {record.state}")
        every = figure.subplots(rows, 2, squeeze=False).ravel()
        for axes in every[len(panels) :]:
            axes.remove()
        for axes, (label, shown) in zip(every, panels, strict=False):
            for colour, (name, legend) in zip((BLUE, OCHRE), shown.items(), strict=False):
                points = [(one.epoch, _figure(one, name)) for one in record.curve]
                # A loss that overflowed to infinity would leave no room for the others.
                finite = [(epoch, value) for epoch, value in points if value is not None and math.isfinite(value)]
                axes.plot(*zip(*finite, strict=True) if finite else ([], []), color=colour, marker=".", label=legend)
            if record.best is not None:
                axes.axvline(record.best.epoch, color=TEAL, linewidth=1, linestyle=":", label="best epoch")
                axes.legend(fontsize=8)
            axes.set_xlabel("epoch")
            axes.set_ylabel(label)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            grid(axes)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()


def _panels(record: TrialRecord) -> list[tuple[str, dict[str, str]]]:
    """Return the panels that have something to show, those of other figures after the usual ones."""
    known = [
        (label, shown)
        for label, shown in _PANELS
        if not record.curve or any(_figure(one, name) is not None for one in record.curve for name in shown)
    ]
    return [*known, *((name.replace("_", " "), {name: name.replace("_", " ")}) for name in other_figures([record]))]


def _figure(result: EpochResult, name: str) -> float | None:
    value = getattr(result, name) if name in EpochResult.__dataclass_fields__ else result.extra.get(name)
    return None if isinstance(value, str) else value


def epochs_as_csv(record: TrialRecord) -> str:
    """Return a trial's epochs, a row each: every figure, and where it ran."""
    return str(curves_frame([record]).drop(columns="trial").to_csv(index=False))
