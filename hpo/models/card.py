"""The model card of a final model, ``README.md`` in its folder, after Mitchell et al. (2019), "Model Cards for Model
Reporting": what it is, what it learned from, how good it is and on what, and what it cannot do."""

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from hpo.ledger.ledger import Ledger
from hpo.ledger.records import TrialRecord
from hpo.paths import StudyPaths, command
from hpo.views.markdown import plain, table
from hpo.views.tables import final_lines

if TYPE_CHECKING:
    from trainables.inference.description import Description

_SHOWN_CLASSES = 40


def card(
    ledger: Ledger, chosen: TrialRecord, result: Mapping[str, Any], described: "Description", paths: StudyPaths
) -> str:
    """Return a model card as Markdown.

    Args:
        ledger: The study.
        chosen: The trial whose configuration the model has.
        result: What the retrain gave, as the ledger keeps it.
        described: The network.
        paths: Where the study's files are.
    """
    classes = described.preprocessing.classes
    low, high = result["test_accuracy_ci95"]
    sections = [
        f"# {plain(ledger.name)}",
        f"An image classifier of {len(classes)} classes: {plain(described.architecture)} with"
        f" {described.n_parameters:,} parameters, fine-tuned on {plain(ledger.spec.data.dataset)}. On held-out test"
        f" images its accuracy is {result['test_accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f}).",
        "## Use",
        *_use(described, paths),
        "## Data",
        table(("", ""), _data(ledger, result, described)),
        "## Result",
        "\n".join(f"- {plain(line)}" for line in _result(result)),
        "`metrics.json` and `classification_report.txt` have the figures of each class, `test_predictions.csv` what it"
        " says of each test image, `confusion_matrix.png` the classes that it confuses.",
        "## Configuration",
        table(("", ""), _configuration(ledger, chosen, result)),
        "## The weights that it began with",
        table(("", ""), _weights(ledger, described)),
        "## Limits",
        "\n".join(f"- {line}" for line in _limits(result, described)),
    ]
    return "\n\n".join(sections) + "\n"


def _use(described: "Description", paths: StudyPaths) -> Iterator[str]:
    yield f"With hpo: `{command('predict', [paths], 'IMAGE')}`; this folder may stand in place of the study."
    elsewhere = f"`{command('export', [paths], '--model', 'torch-export')}` writes a file that needs torch alone."
    if described.code is None:
        yield (
            "The network has parts that are not torch's own, so no few lines build it without hpo and its own code;"
            f" {elsewhere}"
        )
    else:
        needs = "torch, torchvision, safetensors and Pillow"
        if ":" in described.architecture:
            module = described.architecture.partition(":")[0]
            yield f"Without hpo, in this folder, with {needs}, and your module {plain(module)}; {elsewhere}"
        else:
            yield f"Without hpo, in this folder, with {needs} alone:"
        yield f"```python\n{described.code}```"
    yield (
        "`preprocessing.json` says how an image is prepared, in this order: `exif` (`turn`: upright, by its EXIF"
        " orientation), RGB, `resize` (of the shorter side, in pixels, antialiased) by `interpolation`, `crop` (the"
        " side of the square in the centre), division by 255, `mean` and `std`. `classes` are the names of the outputs."
    )


def _data(ledger: Ledger, result: Mapping[str, Any], described: "Description") -> Iterator[tuple[str, Any]]:
    data, splits, classes = ledger.spec.data, ledger.splits, described.preprocessing.classes
    names = ", ".join(classes[:_SHOWN_CLASSES])
    more = f" and {len(classes) - _SHOWN_CLASSES} more (preprocessing.json)" if len(classes) > _SHOWN_CLASSES else ""
    given = splits.get("validation_is_given", False)
    drawn = "the dataset's own" if given else f"drawn from the training split, {data.val_fraction:g} of each class"
    yield "dataset", data.dataset
    yield "classes", f"{len(classes)}: {names}{more}"
    yield "images to train on", splits["train"]
    yield "images to validate with", f"{splits['validation']} ({drawn})"
    yield "held-out test images", result["test_images"]
    yield "final model learned from", "both" if result["on"] == "train+val" else "those to train on alone"
    if data.label_fraction < 1:
        yield "share of the training labels", data.label_fraction
    if data.skipped_images:
        yield "images left out", f"{len(data.skipped_images)} (config.toml names them)"
    yield "augmentation", data.augment
    yield "orientation", "turned upright by EXIF" if data.exif == "turn" else "as the file stores it"
    if data.splits_sha256:
        yield "digest of the splits", data.splits_sha256


def _result(result: Mapping[str, Any]) -> Iterator[str]:
    yield from final_lines(dict(result)).split("\n")
    yield f"mean of the classes' recalls {result['mean_per_class_accuracy']:.4f}"
    yield f"accuracy on the images that it learned from {result['training_accuracy']:.4f}"


def _configuration(ledger: Ledger, chosen: TrialRecord, result: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    model = ledger.spec.model
    yield "trial", f"{result['trial']} of study {ledger.name}, which has {ledger.n_trials}"
    yield from chosen.params.items()
    yield "head", model.head
    yield "precision of training", model.precision
    yield "seed of the study", ledger.spec.seed
    yield "recipe", "Adam; the weights are averaged over the last quarter of the epochs"
    yield "written by", ", ".join(f"{name} {version(name)}" for name in ("hpo", "torch", "torchvision"))


def _weights(ledger: Ledger, described: "Description") -> Iterator[tuple[str, Any]]:
    yield "source", described.origin
    yield "licence", described.licence
    if ledger.spec.model.weights_sha256:
        yield "SHA-256", ledger.spec.model.weights_sha256
    if ledger.spec.model.code_sha256:
        yield "SHA-256 of the module's file", ledger.spec.model.code_sha256


def _limits(result: Mapping[str, Any], described: "Description") -> Iterator[str]:
    yield "It gives every image one of its classes, also images of something else."
    yield "Its probabilities are a softmax's and were not calibrated: 0.9 need not mean right in nine of ten."
    yield (
        "The accuracy holds for images like the test images. Other cameras, places and times were not tried, and the"
        " interval says nothing of them."
    )
    looks = result["test_looks"]
    if looks > 1:
        yield (
            f"The test images were looked at {looks} times in this study. If what was seen guided a choice, the"
            " accuracy is too high."
        )
    if result["seeds"]["stdev"] is None:
        yield "One model was trained; how much the accuracy varies with the seed is not known (`--seeds`)."
    if described.code is not None:
        yield (
            "The lines above take images of 8 bits; hpo brings 16 bits to 8 by division by 257, which Pillow's"
            " `convert` does not."
        )
    yield "The terms of the training images are not known to hpo."
