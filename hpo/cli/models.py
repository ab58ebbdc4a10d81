"""`hpo predict`: what a final model says of a user's images."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from hpo.api.options import Location
from hpo.choices import PredictionFormat
from hpo.cli import completion
from hpo.cli.groups import grouped
from hpo.errors import HpoError

logger = logging.getLogger("hpo")


@grouped
def predict(
    *,
    model: Annotated[
        str,
        typer.Argument(
            metavar="STUDY|MODEL",
            help="A study, a final folder (with a slash in its path), or its file.",
            autocompletion=completion.studies,
        ),
    ],
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE...", help="Files, folders with all that is below them; -: a list on stdin."),
    ],
    form: Annotated[
        PredictionFormat, typer.Option("--format", help="json: one object a line; csv: a head and a row each.")
    ] = "text",
    location: Location,
) -> None:
    """Classify images with a study's final model: the class, its probability, and the next four.

    An image that cannot be read is named and left out, and the exit code is then 1.
    """
    from hpo.models.folder import is_model, model_of_study, read_model
    from hpo.models.formats import formatted
    from hpo.models.images import named_images, sources
    from hpo.models.predict import Prediction, predictions

    found = read_model(Path(model)) if is_model(model) else model_of_study(location.paths(model), location.url)
    seen, bad = 0, 0

    def counted(one: Prediction) -> Prediction:
        nonlocal seen, bad
        seen += 1
        if one.error is not None:
            bad += 1
            logger.warning("%s", one.error)
        return one

    said = predictions(found, sources(named_images(images, sys.stdin.buffer)))
    for line in formatted(map(counted, said), form):
        sys.stdout.write(line)
    if bad:
        raise HpoError(f"{bad} of {seen} images could not be read; the others were classified.")
