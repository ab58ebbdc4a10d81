"""The pictures of a study as files: how the search went, and the test's confusion matrix."""

import csv
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from hpo.ledger.records import TrialRecord
from hpo.views.confusion import Confusions, paint_matrix, paint_pairs
from hpo.views.lettering import lettering
from hpo.views.search import drawn_curves, paint_curves, paint_history
from hpo.views.style import styled

logger = logging.getLogger(__name__)

_LONGEST_TITLE = 80


def draw_search(records: Sequence[TrialRecord], best: int | None, title: str, path: Path) -> None:
    """Draw the optimisation history beside the learning curves, as a PNG; if that fails, warn."""
    scored = [one for one in records if one.best is not None]

    def draw(figure: Figure) -> None:
        figure.set_size_inches(12, 4.8)
        history, curves = figure.subplots(1, 2)
        history.set_title("optimisation history")
        paint_history(history, scored)
        curves.set_title("learning curves")
        paint_curves(curves, drawn_curves(scored, best), best)

    with _costing_nothing(path):
        _write(path, title, (), draw)


def draw_confusion(true: np.ndarray, predicted: np.ndarray, classes: Sequence[str], title: str, path: Path) -> None:
    """Draw which classes are taken for which, as a PNG of bounded size; if that fails, warn.

    Up to 60 classes are drawn as a matrix, of more the most confused pairs. A class that its label does not tell from
    all others gets its number, and a table of these is written beside the picture, as ``NAME_classes.csv``.

    Args:
        true: (N,) int64 class of each image.
        predicted: (N,) int64 class that it was taken for.
        classes: Their names.
        title: The picture's.
        path: The picture.
    """
    found = Confusions(true, predicted, tuple(classes))

    def draw(figure: Figure) -> None:
        if found.is_matrix:
            size = max(4.5, 1.8 + 0.34 * len(classes)) + 0.09 * max(map(len, found.labels.texts))
            figure.set_size_inches(size, size)
            paint_matrix(figure.subplots(), found, label_pt=10, count_pt=7)
        else:
            figure.set_size_inches(10, 1.8 + 0.28 * max(found.bars, 1))
            paint_pairs(figure.subplots(), found)

    with _costing_nothing(path):
        if not found.is_matrix:
            wrong = int((true != predicted).sum())
            title += f"\n{wrong} of {len(true)} images misclassified; the most confused of {len(classes)} classes"
        _write(path, title, found.letters.families, draw)
        if found.labels.numbered:
            table = path.with_name(f"{path.stem}_classes.csv")
            with table.open("w", encoding="utf-8", errors="replace", newline="") as file:
                rows = ((one, classes[one]) for one in found.labels.numbered)
                csv.writer(file).writerows([("number", "class"), *rows])


@contextmanager
def _costing_nothing(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with a picture into a warning: nothing else may depend on it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # matplotlib, fonts, memory, disks: each in its own way
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        logger.warning("%s was not drawn (%s); the study's other files are whole", path, reason)


def _write(path: Path, title: str, families: Sequence[str], draw: Callable[[Figure], None]) -> None:
    """Draw a figure in fonts that have its title, and in `families`."""
    partial = path.with_name(f".{path.name}.partial")
    letters = lettering([title])
    with styled(list(dict.fromkeys((*letters.families, *families)))):
        figure = Figure(layout="constrained")
        figure.suptitle("\n".join(letters.drawable(line)[:_LONGEST_TITLE] for line in title.splitlines()))
        draw(figure)
        try:
            figure.savefig(partial, dpi=120, format="png")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
