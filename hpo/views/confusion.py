"""What a model takes for what, drawn into axes: a matrix of up to `MOST_ROWS` classes, of more the worst pairs."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator

from hpo.views.lettering import Labels, Lettering, labels, lettering
from hpo.views.style import BLUE, INK

MOST_ROWS = 60
"""Classes of a confusion matrix; of more, the most confused pairs are shown."""
_MOST_PAIRS = 30
_LONGEST_LABEL = 24
RIGHT, CONFUSED = "#2f86d1", "#e2591b"
"""Between the palette's light and dark colours, since pixels cannot follow a reader's scheme."""
_FAINTEST = 0.18
"""Opacity of the smallest share that is not 0."""
DARKEST = 0.55
"""Opacity of a whole class: what is written on it has a contrast of 4.5 or more, in light and in dark."""


@dataclass(frozen=True)
class Confusions:
    """How often which class was taken for which."""

    true: np.ndarray
    """(N,) int64 class of each image."""
    predicted: np.ndarray
    """(N,) int64 class that it was taken for."""
    classes: tuple[str, ...]
    """Their names."""

    @cached_property
    def counted(self) -> tuple[np.ndarray, np.ndarray]:
        """(P, 2) int64 pairs of true and predicted class that occur, and the (P,) images of each."""
        return np.unique(np.stack([self.true, self.predicted], axis=1), axis=0, return_counts=True)

    @cached_property
    def images(self) -> np.ndarray:
        """(C,) int64 images of each class."""
        return np.bincount(self.true, minlength=len(self.classes))

    @property
    def is_matrix(self) -> bool:
        """Whether all classes can be drawn."""
        return len(self.classes) <= MOST_ROWS

    @cached_property
    def worst(self) -> tuple[np.ndarray, np.ndarray]:
        """`counted` without what is right, the most frequent first, by the larger share of its class where equal."""
        pairs, counts = self.counted
        is_wrong = pairs[:, 0] != pairs[:, 1]
        pairs, counts = pairs[is_wrong], counts[is_wrong]
        order = np.lexsort((pairs[:, 1], pairs[:, 0], -counts / self.images[pairs[:, 0]], -counts))
        return pairs[order], counts[order]

    @cached_property
    def letters(self) -> Lettering:
        """The fonts of the names that are drawn."""
        return lettering([self.classes[one] for one in self.shown])

    @cached_property
    def labels(self) -> Labels:
        """The names as they are drawn, by number: of all classes, or of those among the worst pairs."""
        return labels([self.classes[one] for one in self.shown], self.shown, self.letters, _LONGEST_LABEL)

    @cached_property
    def shown(self) -> list[int]:
        """The classes that are drawn, by number."""
        shown: list[int] = np.unique(self.worst[0][:_MOST_PAIRS]).tolist()
        return list(range(len(self.classes))) if self.is_matrix else shown

    @property
    def bars(self) -> int:
        """How many pairs `paint_pairs` draws."""
        return min(len(self.worst[0]), _MOST_PAIRS)


def paint_matrix(axes: Axes, confusions: Confusions, label_pt: float, count_pt: float | None) -> None:
    """Draw how often which class was taken for which: what is right in blue, what is confused in vermilion.

    Args:
        axes: Where.
        confusions: Of up to `MOST_ROWS` classes.
        label_pt: Size of the names, in points.
        count_pt: Size of the counts; None: they are left out.
    """
    pairs, counts = confusions.counted
    rows, columns = pairs.T
    share = counts / confusions.images[rows]
    classes = len(confusions.classes)
    pixels = np.zeros((classes, classes, 4))
    pixels[rows, columns, :3] = np.where((rows == columns)[:, None], to_rgb(RIGHT), to_rgb(CONFUSED))
    pixels[rows, columns, 3] = _FAINTEST + (DARKEST - _FAINTEST) * np.sqrt(share)
    axes.imshow(pixels, interpolation="nearest", aspect="equal")
    names = confusions.labels.texts
    slanted = max(map(len, names)) > 3
    axes.set_xticks(range(classes), names, rotation=50 if slanted else 0, ha="right" if slanted else "center")
    axes.set_yticks(range(classes), names)
    axes.tick_params(length=0, labelsize=label_pt)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    for row, column, count in zip(rows, columns, counts, strict=True) if count_pt is not None else ():
        text = axes.text(column, row, str(count), ha="center", va="center", color=INK, fontsize=count_pt)
        # It lies within the axes: to measure hundreds of them would take longer than to draw them.
        text.set_in_layout(False)


def paint_pairs(axes: Axes, confusions: Confusions) -> None:
    """Draw the pairs of classes that are confused most often, as bars."""
    pairs, counts = (one[:_MOST_PAIRS] for one in confusions.worst)
    label = dict(zip(confusions.shown, confusions.labels.texts, strict=True))
    texts = [f"{label[one]} → {label[other]}" for one, other in pairs.tolist()]
    bars = axes.barh(range(len(texts)), counts, color=BLUE)
    shares = counts / confusions.images[pairs[:, 0]]
    said = [f"{count} ({share:.0%})" for count, share in zip(counts, shares, strict=True)]
    axes.bar_label(bars, said, padding=3, fontsize=8)
    axes.set_yticks(range(len(texts)), texts)
    axes.axison = bool(texts)
    axes.invert_yaxis()
    axes.set_xlabel("images (share of the true class)")
    axes.margins(x=0.15)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
