"""One trial's curves: a picture of every figure of its epochs, and the same figures as CSV."""

import io
import math
import threading

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hpo.ledger.records import TrialRecord
from hpo.views.frames import curves_frame
from hpo.views.lettering import DEFAULT
from hpo.views.style import BLUE, OCHRE, TEAL, grid, styled

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
    with _drawing, styled([DEFAULT]):
        figure = Figure(figsize=(9, 6), layout="constrained")
        figure.suptitle(f"trial {record.number}, {record.state}")
        for axes, (label, shown) in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
            for colour, (name, legend) in zip((BLUE, OCHRE), shown.items(), strict=False):
                points = [(one.epoch, getattr(one, name)) for one in record.curve]
                # A loss that overflowed to infinity would leave no room for the others.
                finite = [(epoch, value) for epoch, value in points if math.isfinite(value)]
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


def epochs_as_csv(record: TrialRecord) -> str:
    """Return a trial's epochs, a row each: every figure, and where it ran."""
    return str(curves_frame([record]).drop(columns="trial").to_csv(index=False))
