"""What a ``final`` folder says of its model: which network it is, how its images are prepared, what it learned from.

It is read from the folder alone, so that a folder that was copied to another machine is as good as a study's.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import URL

from hpo.errors import HpoError
from hpo.ledger.migrations import read_spec
from hpo.paths import StudyPaths, command
from hpo.spec import StudySpec
from trainables.errors import InputError
from trainables.inference.preprocessing import Preprocessing, from_json
from trainables.trainable import has_final_model

WEIGHTS, CONFIG, PREPROCESSING, CARD = "model.safetensors", "config.toml", "preprocessing.json", "README.md"


@dataclass(frozen=True)
class FinalModel:
    """A final model's files, read but for its weights."""

    weights: Path
    """The safetensors file."""
    spec: StudySpec
    """The study's, without its search space."""
    preprocessing: Preprocessing


def is_model(named: str) -> bool:
    """Return whether what a user named is a model's folder or file; else it is a study."""
    return "/" in named or named.endswith(".safetensors") or (Path(named) / WEIGHTS).is_file()


def model_of_study(paths: StudyPaths, url: str | URL) -> FinalModel:
    """Read the final model of a study.

    Raises:
        UsageError: There is no such study.
        HpoError: It has no final model, or not all of its files.
    """
    again = command("retrain", [paths])
    if not (paths.final / WEIGHTS).is_file():
        # Optuna is not loaded where it is not needed.
        from hpo.ledger.studies import open_study

        name = open_study(url, paths.name).spec.trainable
        if not has_final_model(name):
            raise HpoError(f"study {paths.name} has no final model: its trials run {name}.")
        raise HpoError(f"study {paths.name} has no final model in {paths.final}; `{again}` makes one.")
    try:
        return read_model(paths.final)
    except InputError as error:
        raise HpoError(f"{error} `{again}` makes the model anew.") from error


def read_model(path: Path) -> FinalModel:
    """Read a final model from its folder, or from the folder of its ``model.safetensors``.

    Folders of hpo 0.2.0 and before have no ``preprocessing.json``: their study's specification says the same.

    Raises:
        InputError: There is none, or a file of it is missing or damaged.
    """
    path = path.expanduser()
    weights = path / WEIGHTS if path.is_dir() else path
    if not weights.is_file():
        raise InputError(f"{weights}: there is no such file; a model is a study's final folder, or its {WEIGHTS}.")
    document = _document(weights.parent / CONFIG)
    try:
        spec = _spec(document["study"])
        classes = tuple(str(name) for name in document["classes"])
    except (LookupError, TypeError, ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{weights.parent / CONFIG}: this is no model's configuration ({reason}).") from error
    return FinalModel(weights, spec, _preprocessing(weights.parent / PREPROCESSING, spec, classes))


def _document(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}), and says what the network is; bring the whole final folder."
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: the file is damaged ({error}).") from error


def _spec(study: Mapping[str, Any]) -> StudySpec:
    stored = {name: value for name, value in study.items() if name != "name"}
    if "schema_version" in stored:
        search = {**stored["search"], "space": {}}
        return read_spec({**stored, "search": search}, str(study["name"]))
    # TOML has no None, which hpo 0.1.0 therefore left out.
    return read_spec({"weights_sha256": None, "image_size": None, **stored, "space": {}}, str(study["name"]))


def _preprocessing(path: Path, spec: StudySpec, classes: tuple[str, ...]) -> Preprocessing:
    if path.is_file():
        try:
            return from_json(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path} cannot be read ({error}).") from error
    from trainables.networks.identity import geometry_of

    return Preprocessing(exif=spec.data.exif, geometry=geometry_of(spec.model), classes=classes)
