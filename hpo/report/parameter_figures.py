"""What a study's parameters did, as figures: slices, importances, and the two most important ones together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

import search_spaces
from hpo.ledger.records import TrialRecord, accuracy
from hpo.report.drawing import SIZE, Drawing, draw
from hpo.report.source import StudySource
from hpo.report.tables import shown
from hpo.views.search import point_size, scatter_states
from hpo.views.style import BLUE, INK, PAPER, grid
from search_spaces import ParamValue, SearchSpace

_STEPS = 30
"""Points of a range's axis under the contour."""
_OTHERS = 50
"""Trials whose other parameters the contour averages over."""


@dataclass(frozen=True)
class Scale:
    """One parameter's axis."""

    name: str
    choices: tuple[ParamValue, ...]
    """In the order of the axis, 0, 1, ...; empty: a range."""
    is_log: bool
    """Whether the axis shows decimal logarithms."""
    is_whole: bool
    """Whether there are whole numbers alone."""

    @property
    def label(self) -> str:
        """The parameter's name for people."""
        return self.name.replace("_", " ")

    def place(self, value: ParamValue) -> float:
        """Return where a value lies on the axis."""
        if self.choices:
            return float(self.choices.index(value))
        return math.log10(float(value)) if self.is_log else float(value)


def scales(space: SearchSpace) -> dict[str, Scale]:
    """Return the axis of each parameter; one that is a range anywhere on a logarithmic scale is shown on one."""
    found = {}
    for name, described in search_spaces.to_dict(space)["parameters"].items():
        tables = described if isinstance(described, list) else [described]
        choices = tuple(dict.fromkeys(value for table in tables for value in table.get("choices", ())))
        is_whole = all(isinstance(table.get("low", 0), int) for table in tables)
        found[name] = Scale(name, choices, any(table.get("log", False) for table in tables), is_whole)
    return found


def parameter_drawings(source: StudySource) -> list[Drawing]:
    """Return the figures that a study's trials allow; none where no parameter varied."""
    scored = [one for one in source.records if one.best is not None]
    known = scales(source.space)
    varied = [one for one in known.values() if len({record.params.get(one.name) for record in scored}) > 1]
    drawings = [_slices(varied, scored)] if varied else []
    if source.importances:
        drawings.append(_importances(source))
    if len(source.importances) > 1:
        drawings.append(_contour([known[name] for name in source.importances], source.records))
    return drawings


def _slices(varied: Sequence[Scale], scored: Sequence[TrialRecord]) -> Drawing:
    columns = min(2, len(varied))
    rows = math.ceil(len(varied) / columns)

    def paint(figure: Figure) -> None:
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for axes, scale in zip(panels, varied, strict=False):
            known = [one for one in scored if scale.name in one.params]
            places = np.asarray([scale.place(one.params[scale.name]) for one in known])
            if scale.choices:
                places = places + np.random.default_rng(0).uniform(-0.16, 0.16, len(places))
            scatter_states(axes, known, places.tolist())
            parameter_axis(axes, scale, "x")
            grid(axes, "y")
        for axes in panels[len(varied) :]:
            axes.remove()
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=4)
        figure.supylabel("validation accuracy, best epoch", fontsize=10.5)

    caption = "Each trial's accuracy by each parameter that varied; trials of one choice are spread a little sideways."
    names = ", ".join(scale.label for scale in varied)
    alt = f"Validation accuracy of {len(scored)} trials by {names}."
    return draw("slices", "Slices", caption, alt, paint, (SIZE[0], SIZE[1] if rows == 1 else 5.0))


def _importances(source: StudySource) -> Drawing:
    found = source.importances
    names = list(found)[::-1]
    means = [float(found[name].mean()) for name in names]
    low, high = ([float(np.quantile(found[name], q)) for name in names] for q in (0.05, 0.95))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        labels = [name.replace("_", " ") for name in names]
        axes.barh(labels, means, color=BLUE, height=0.55)
        axes.hlines(labels, low, high, color=INK, linewidth=1.6)
        axes.plot(low, labels, "|", color=INK, markersize=9)
        axes.plot(high, labels, "|", color=INK, markersize=9)
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of the importance")
        grid(axes, "x")

    trials = sum(one.best is not None and one.state != "RUNNING" for one in source.records)
    caption = (
        f"Which parameters tell the best quarter of {trials} trials from the rest (PED-ANOVA). Lines: 5 to 95 % over"
        " 30 seeds, each another bootstrap sample of the trials. Where they overlap, the order is not known."
    )
    shares = "; ".join(f"{name.replace('_', ' ')} {found[name].mean():.2f}" for name in found)
    return draw("importances", "Parameter importances", caption, f"Mean importances: {shares}.", paint)


def parameter_axis(axes: Axes, scale: Scale, side: str) -> None:
    """Label an axis whose positions are `scale`'s with the parameter's values."""
    axis = axes.xaxis if side == "x" else axes.yaxis
    if scale.choices:
        axis.set_ticks(range(len(scale.choices)), [shown(one) for one in scale.choices])
        (axes.set_xlim if side == "x" else axes.set_ylim)(-0.5, len(scale.choices) - 0.5)
    elif scale.is_log:
        axis.set_major_locator(MaxNLocator(integer=True, nbins=4, min_n_ticks=1))
        axis.set_major_formatter(FuncFormatter(lambda place, _: shown(float(10**place))))
    else:
        axis.set_major_locator(MaxNLocator(nbins=5, integer=scale.is_whole))
    axis.set_label_text(scale.label)


def surface(columns: np.ndarray, values: np.ndarray, grids: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the partial dependence (Friedman 2001) of a random forest on its first two columns.

    Args:
        columns: (N, P) parameters of the trials, the two of the grid first.
        values: (N,) accuracies.
        grids: The (X,) and (Y,) places of the first and of the second.

    Returns:
        (Y, X) predicted accuracies, averaged over the other parameters of up to `_OTHERS` trials.
    """
    # Importing it takes a second, which a study with fewer trials is spared.
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(60, min_samples_leaf=2, random_state=0).fit(columns, values)
    first, second = np.meshgrid(*grids)
    others = columns[np.linspace(0, len(columns) - 1, min(len(columns), _OTHERS)).astype(int), 2:]
    points = np.column_stack([first.ravel(), second.ravel()])
    asked = np.concatenate([np.repeat(points, len(others), axis=0), np.tile(others, (len(points), 1))], axis=1)
    predicted: np.ndarray = forest.predict(asked).reshape(len(points), len(others)).mean(axis=1)
    return predicted.reshape(first.shape)


def _contour(ordered: Sequence[Scale], records: Sequence[TrialRecord]) -> Drawing:
    """Draw accuracy over the first two of `ordered`, which holds all parameters that varied."""
    scored = [one for one in records if one.best is not None and one.state != "RUNNING"]
    columns = np.asarray([[scale.place(one.params[scale.name]) for scale in ordered] for one in scored])
    values = np.asarray([accuracy(one) for one in scored])
    across, up = ordered[:2]
    grids = (_grid(across, columns[:, 0]), _grid(up, columns[:, 1]))
    predicted = surface(columns, values, grids)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        low, high = float(min(predicted.min(), values.min())), float(max(predicted.max(), values.max()))
        colours: Any = {"cmap": "cividis", "vmin": low, "vmax": high}
        mesh = axes.pcolormesh(*grids, predicted, shading="nearest", rasterized=True, **colours)
        generator = np.random.default_rng(0)
        jitter = [
            generator.uniform(-0.3, 0.3, len(scored)) if scale.choices else np.zeros(len(scored))
            for scale in (across, up)
        ]
        axes.scatter(
            columns[:, 0] + jitter[0], columns[:, 1] + jitter[1], c=values, s=point_size(34, len(scored)),
            edgecolors=PAPER, linewidths=point_size(1, len(scored)), **colours,
        )  # fmt: skip
        parameter_axis(axes, across, "x")
        parameter_axis(axes, up, "y")
        figure.colorbar(mesh, ax=axes, label="validation accuracy")

    caption = (
        f"The two most important parameters. Points are the {len(scored)} trials; the surface is a random forest's"
        " partial dependence, an aid to the eye where there are few of them."
    )
    row, column = np.unravel_index(int(predicted.argmax()), predicted.shape)
    alt = f"Predicted accuracy over {across.label} and {up.label}: highest, {predicted[row, column]:.3f}."
    return draw("contour", f"{across.label.capitalize()} and {up.label}", caption, alt, paint)


def _grid(scale: Scale, places: np.ndarray) -> np.ndarray:
    if scale.choices:
        return np.arange(len(scale.choices), dtype=float)
    return np.linspace(places.min(), places.max(), _STEPS)
