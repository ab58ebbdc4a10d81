"""Predictions as lines of text, JSON or CSV, each as soon as it is there."""

import csv
import io
import json
from collections.abc import Iterable, Iterator

from hpo.choices import PredictionFormat
from hpo.models.predict import TOP, Prediction


def formatted(predictions: Iterable[Prediction], form: PredictionFormat) -> Iterator[str]:
    """Yield a line for each prediction; its line end is part of it.

    ``text`` has none for images that cannot be read. ``json`` is JSON Lines: one object a line, with ``image`` and
    either ``class``, ``probability`` and ``next``, or ``error``. ``csv`` begins with a head, the same for every model.
    """
    if form == "csv":
        places = [name for place in range(2, TOP + 1) for name in (f"class_{place}", f"probability_{place}")]
        yield _row(["image", "class", "probability", *places, "error"])
    for one in predictions:
        if form == "csv":
            ranked = [cell for name, share in one.ranking for cell in (name, _digits(share))]
            yield _row([one.image, *ranked, *[""] * (2 * TOP - len(ranked)), one.error or ""])
        elif form == "json":
            yield json.dumps(_as_object(one), ensure_ascii=False) + "\n"
        elif one.error is None:
            (name, share), *others = one.ranking
            after = ", ".join(f"{other} {small:.4f}" for other, small in others)
            yield f"{one.image}: {name} {share:.4f}{f' ({after})' if after else ''}\n"


def _as_object(one: Prediction) -> dict[str, object]:
    if one.error is not None:
        return {"image": one.image, "error": one.error}
    ranked = [{"class": name, "probability": _digits(share)} for name, share in one.ranking]
    return {"image": one.image, **ranked[0], "next": ranked[1:]}


def _digits(share: float) -> float:
    """Six significant digits: a float32 has seven."""
    return float(f"{share:.6g}")


def _row(cells: Iterable[object]) -> str:
    buffer = io.StringIO()
    # Only the line end's own signs are quoted where a name holds them.
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)
    return buffer.getvalue().removesuffix("\r\n") + "\n"
