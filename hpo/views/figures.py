"""The pictures of a study: how the search went, its learning curves, and the test's confusion matrix."""

import csv
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hpo.ledger.records import TrialRecord
from hpo.views.lettering import Lettering, labels, lettering

logger = logging.getLogger(__name__)

_COLOURS = {"COMPLETE": "#1f6fb4", "PRUNED": "#b9b9b9", "FAIL": "#c8423b", "RUNNING": "#e5a23d"}
_BEST = "#d1495b"
_LONGEST_LABEL, _LONGEST_TITLE = 24, 80
_MOST_ROWS = 60
"""Classes of a confusion matrix; of more, the most confused pairs are shown."""
_MOST_PAIRS = 30


def draw_search(records: Sequence[TrialRecord], best: int | None, title: str, path: Path) -> None:
    """Draw the optimisation history beside the learning curves, as a PNG; if that fails, warn."""

    def draw(figure: Figure) -> None:
        figure.set_size_inches(12, 4.5)
        history, curves = figure.subplots(1, 2)
        _history(history, records)
        _curves(curves, records, best)

    with _costing_nothing(path):
        _write(path, title, lettering([title]), draw)


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
    with _costing_nothing(path):
        pairs, counts = np.unique(np.stack([true, predicted], axis=1), axis=0, return_counts=True)
        is_matrix = len(classes) <= _MOST_ROWS
        if not is_matrix:
            wrong = pairs[:, 0] != pairs[:, 1]
            order = np.argsort(-counts[wrong], kind="stable")[:_MOST_PAIRS]
            pairs, counts = pairs[wrong][order], counts[wrong][order]
        shown = range(len(classes)) if is_matrix else np.unique(pairs).tolist()
        letters = lettering([title, *(classes[one] for one in shown)])
        names = labels([classes[one] for one in shown], shown, letters, _LONGEST_LABEL)
        label = dict(zip(shown, names.texts, strict=True))
        images = np.bincount(true, minlength=len(classes))

        def draw(figure: Figure) -> None:
            if is_matrix:
                _matrix(figure, pairs, counts, images, names.texts)
            else:
                texts = [f"{label[one]} → {label[other]}" for one, other in pairs.tolist()]
                _pairs(figure, texts, counts, counts / images[pairs[:, 0]])

        if not is_matrix:
            wrong_images = int((true != predicted).sum())
            title += (
                f"\n{wrong_images} of {len(true)} images misclassified; the most confused of {len(classes)} classes"
            )
        _write(path, title, letters, draw)
        if names.numbered:
            table = path.with_name(f"{path.stem}_classes.csv")
            with table.open("w", encoding="utf-8", errors="replace", newline="") as file:
                csv.writer(file).writerows([("number", "class"), *((one, classes[one]) for one in names.numbered)])


@contextmanager
def _costing_nothing(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with a picture into a warning: nothing else may depend on it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # matplotlib, fonts, memory, disks: each in its own way
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        logger.warning("%s was not drawn (%s); the study's other files are whole", path, reason)


def _write(path: Path, title: str, letters: Lettering, draw: Callable[[Figure], None]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with warnings.catch_warnings(), rc_context({"font.family": list(letters.families), "text.parse_math": False}):
        # matplotlib's, of glyphs and layouts: for programmers.
        warnings.simplefilter("ignore")
        figure = Figure(layout="constrained")
        figure.suptitle("\n".join(letters.drawable(line)[:_LONGEST_TITLE] for line in title.splitlines()))
        draw(figure)
        try:
            figure.savefig(partial, dpi=120, format="png")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _matrix(figure: Figure, pairs: np.ndarray, counts: np.ndarray, images: np.ndarray, names: Sequence[str]) -> None:
    confusion = np.zeros((len(names), len(names)), dtype=np.int64)
    confusion[pairs[:, 0], pairs[:, 1]] = counts
    margin = 0.09 * max(map(len, names))
    size = max(4.5, 1.8 + 0.34 * len(names)) + margin
    figure.set_size_inches(size + 1.2, size)
    axes = figure.subplots()
    share = confusion / np.maximum(images[:, None], 1)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    for row, column in zip(*np.nonzero(confusion), strict=True):
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(confusion[row, column]), ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)


def _pairs(figure: Figure, texts: Sequence[str], counts: np.ndarray, shares: np.ndarray) -> None:
    figure.set_size_inches(10, 1.8 + 0.28 * max(len(texts), 1))
    axes = figure.subplots()
    bars = axes.barh(range(len(texts)), counts, color=_COLOURS["COMPLETE"])
    said = [f"{count} ({share:.0%})" for count, share in zip(counts, shares, strict=True)]
    axes.bar_label(bars, said, padding=3, fontsize=8)
    axes.set_yticks(range(len(texts)), texts)
    axes.axison = bool(texts)
    axes.invert_yaxis()
    axes.set_xlabel("test images (share of the true class)")
    axes.margins(x=0.15)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _history(axes: Axes, records: Sequence[TrialRecord]) -> None:
    scored = [(record, record.best.val_accuracy) for record in records if record.best is not None]
    for state, colour in _COLOURS.items():
        points = [(record.number, value) for record, value in scored if record.state == state]
        if points:
            numbers, values = zip(*points, strict=True)
            axes.scatter(numbers, values, color=colour, s=28, label=state)
    if scored:
        leading = np.maximum.accumulate([value for _, value in scored])
        axes.step([record.number for record, _ in scored], leading, where="post", color=_BEST, label="best so far")
        axes.legend(loc="lower right", fontsize=8)
    axes.set_xlabel("trial")
    axes.set_ylabel("validation accuracy (best epoch)")
    axes.set_title("optimisation history")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)


def _curves(axes: Axes, records: Sequence[TrialRecord], best: int | None) -> None:
    for record in records:
        epochs = [result.epoch for result in record.curve]
        values = [result.val_accuracy for result in record.curve]
        leading = record.number == best
        axes.plot(
            epochs,
            values,
            color=_BEST if leading else _COLOURS[record.state],
            linewidth=2.2 if leading else 1,
            alpha=1 if leading else 0.6,
            zorder=3 if leading else 2,
            marker="." if len(epochs) == 1 else None,
            label=f"trial {record.number} (best)" if leading else None,
        )
    if best is not None:
        axes.legend(loc="lower right", fontsize=8)
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation accuracy")
    axes.set_title("learning curves")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
