"""The page: a map of the images, the neighbours of the one that is chosen, likely duplicates, outliers.

It is one file that asks the network for nothing and allows itself no script but its own.
"""

import base64
import datetime
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from hpo.embeddings.findings import NEIGHBOURS, SHOWN_OUTLIERS, SHOWN_PAIRS, Findings, shown_rows
from hpo.embeddings.result import Embeddings
from hpo.embeddings.sprite import sprite
from hpo.views.style import PALETTE
from trainables.embeddings.neighbours import nearest
from trainables.embeddings.projection import projections


@dataclass(frozen=True)
class Map:
    """Where the shown images lie."""

    rows: NDArray[np.int64]
    """(M,) the images that are shown, sorted."""
    places: dict[str, NDArray[np.float32]]
    """(M, 2) each: ``pca``, and ``tsne`` of enough images."""


def make_map(embeddings: Embeddings, findings: Findings, seed: int) -> Map:
    """Choose the images that are shown, and lay them out."""
    rows = shown_rows(findings, seed)
    return Map(rows, projections(embeddings.array[rows], seed % 2**32))


def render(embeddings: Embeddings, findings: Findings, drawn: Map) -> str:
    """Return the page."""
    environment = Environment(
        loader=PackageLoader("hpo.embeddings", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    assert environment.loader is not None
    script, style = (environment.loader.get_source(environment, name)[0] for name in ("page.js", "page.css"))
    pictures = sprite(embeddings.seen(drawn.rows.tolist()))
    data = {**_data(embeddings, findings, drawn), "side": pictures.side, "columns": pictures.columns}
    about, total = embeddings.about, len(embeddings)
    return environment.get_template("page.html").render(
        title=f"Images of {printable(_images(about))}",
        subtitle=f"as {printable(_network(about))} sees them: {about['features']:,} numbers per image, its embedding",
        total=total,
        shown=len(drawn.rows),
        facts=[(name, printable(value)) for name, value in _facts(embeddings)],
        has_tsne="tsne" in drawn.places,
        neighbours=NEIGHBOURS,
        pairs=len(findings.duplicates),
        shown_pairs=min(SHOWN_PAIRS, len(findings.duplicates)),
        outliers=min(SHOWN_OUTLIERS, len(findings.outliers)),
        least_cosine=_cosine(findings.least_cosine),
        has_classes=bool(embeddings.classes),
        made=f"hpo {about['hpo']}, {datetime.datetime.now().astimezone():%Y-%m-%d %H:%M %Z}",
        light=Markup(_variables(0)),
        dark=Markup(_variables(1)),
        style=Markup(style),
        script=Markup(script),
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        pictures=pictures.address,
        # What is in a script element ends at the first end tag, and nothing else in it is read as HTML.
        data=Markup(json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")),
    )


def printable(text: str) -> str:
    """Return text with a replacement character for what cannot be printed, such as a control character of a name."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def _data(embeddings: Embeddings, findings: Findings, drawn: Map) -> dict[str, Any]:
    rows = drawn.rows
    at = {int(row): place for place, row in enumerate(rows)}
    all_shown = len(rows) == len(embeddings)
    near = findings.neighbours if all_shown else nearest(embeddings.array[rows], NEIGHBOURS)
    return {
        "classes": [printable(name) for name in embeddings.classes],
        "images": [
            {
                "name": printable(embeddings.ids[row]),
                "label": int(embeddings.labels[row]),
                "split": embeddings.splits[row],
            }
            for row in rows.tolist()
        ],
        "maps": {name: _scaled(places) for name, places in drawn.places.items()},
        "neighbours": near.rows.tolist(),
        "cosines": [[_cosine(one) for one in row] for row in near.similarities.tolist()],
        "duplicates": [[at[a], at[b], _cosine(cosine)] for a, b, cosine in findings.duplicates[:SHOWN_PAIRS]],
        "outliers": [[at[row], f"{distance:.3f}"] for row, distance in findings.outliers[:SHOWN_OUTLIERS]],
    }


def _scaled(places: NDArray[np.float32]) -> list[list[float]]:
    """Bring a map into the unit square, its centre to the square's, both axes by the same factor."""
    low, high = places.min(axis=0), places.max(axis=0)
    extent = float((high - low).max()) or 1.0
    scaled = (places - (low + high) / 2) / extent + 0.5
    return [[round(float(x), 4), round(1 - float(y), 4)] for x, y in scaled]


def _cosine(value: float) -> str:
    """Return a cosine with as many digits as tell it from 1."""
    return next((text for digits in (4, 5, 6) if (text := f"{value:.{digits}f}")[0] != "1"), "1.0000")


def _images(about: Any) -> str:
    dataset = str(about["images_of"])
    return dataset.rpartition("/")[2] if "/" in dataset else dataset


def _network(about: Any) -> str:
    if about["model"] is not None:
        folder = Path(about["model"]).parent
        return f"the final {about['backbone']} of {(folder.parent if folder.name == 'final' else folder).name}"
    return f"{about['backbone']} with {_weights(about).rpartition('/')[2]}"


def _weights(about: Any) -> str:
    if about["model"] is not None:
        return str(about["model"])
    return f"random values (seed {about['seed']})" if about["weights"] == "none" else str(about["weights"])


def _facts(embeddings: Embeddings) -> list[tuple[str, str]]:
    about = embeddings.about
    geometry = about["geometry"]
    splits = ", ".join(f"{count:,} {name}" for name, count in about["splits"].items())
    facts = [
        ("images", f"{len(embeddings):,}" + (f" ({splits})" if splits else "")),
        ("of", str(about["images_of"])),
        ("backbone", str(about["backbone"])),
        ("weights", _weights(about)),
    ]
    if about["weights_sha256"]:
        facts.append(("SHA-256", str(about["weights_sha256"])))
    if geometry:
        facts.append(("prepared", f"shorter side {geometry['resize']} px, centre {geometry['crop']} px"))
    return facts


def _variables(scheme: int) -> str:
    return " ".join(f"--{name}: {colours[scheme]};" for name, colours in PALETTE.items())
