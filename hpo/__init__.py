"""Hyperparameter-optimisation studies for fine-tuning pretrained image backbones.

Run a study, look at what it found, and use its model:

    import hpo

    study = hpo.run(
        "resnet18",
        trials=10,
        data=hpo.DataOptions(dataset="digits"),
        model=hpo.ModelOptions(weights="none", image_size=32),
    )
    study.best.params      # the best configuration
    study.trials           # a pandas DataFrame, a row for each trial
    study.final            # its held-out test accuracy
    study.report()         # an HTML page that says it all
    study.predict(["cat.jpg", "holiday/"])      # what its model says of one's own images

`open_study("resnet18-digits")` finds it again, also while it runs elsewhere. The command line does the same through the
same functions: what one starts, the other resumes.
"""

# Without typing, whose import takes as long as Python's own start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hpo.api.embedding import Encoder, embed
    from hpo.api.options import DataOptions, Location, MachineOptions, ModelOptions, SearchOptions
    from hpo.api.running import run
    from hpo.api.study import Study, compare, list_studies, open_study
    from hpo.embeddings.files import SavedEmbeddings, save_embeddings
    from hpo.embeddings.result import Embeddings
    from hpo.errors import HpoError, InterruptedStudy, UsageError
    from hpo.models.predict import Prediction, predict

__all__ = [
    "DataOptions",
    "Embeddings",
    "Encoder",
    "HpoError",
    "InterruptedStudy",
    "Location",
    "MachineOptions",
    "ModelOptions",
    "Prediction",
    "SavedEmbeddings",
    "SearchOptions",
    "Study",
    "UsageError",
    "compare",
    "embed",
    "list_studies",
    "open_study",
    "predict",
    "run",
    "save_embeddings",
]

_MODULES = {
    "hpo.api.embedding": ("Encoder", "embed"),
    "hpo.api.options": ("DataOptions", "Location", "MachineOptions", "ModelOptions", "SearchOptions"),
    "hpo.api.running": ("run",),
    "hpo.api.study": ("Study", "compare", "list_studies", "open_study"),
    "hpo.embeddings.files": ("SavedEmbeddings", "save_embeddings"),
    "hpo.embeddings.result": ("Embeddings",),
    "hpo.errors": ("HpoError", "InterruptedStudy", "UsageError"),
    "hpo.models.predict": ("Prediction", "predict"),
}
"""What is imported when it is first used: every process of a study imports this package."""


def __getattr__(name: str) -> "Any":
    """Import what is asked for."""
    import importlib

    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
