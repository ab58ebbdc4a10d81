"""What a report says of a study in words and tables."""

import datetime
import importlib.metadata
from dataclasses import dataclass
from typing import Any

import search_spaces
from hpo.final.significance import PairedTest, paired_tests, wilson_interval
from hpo.ledger.records import TrialRecord, accuracy
from hpo.paths import command
from hpo.report.source import StudySource
from hpo.report.tables import p_value, percent, shown
from hpo.report.timeline import active_seconds, stretches
from hpo.views.summary import duration
from trainables.trainable import has_final_model


@dataclass(frozen=True)
class Tile:
    """A number that answers a question."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Tied:
    """A trial that validation cannot tell from the best one; the best one itself is among them."""

    number: int
    params: str
    accuracy: float
    p_value: float | None
    """Against the best one; None: it is the best one."""
    seconds: float
    """What its epochs took."""


def asked(source: StudySource) -> list[tuple[str, str]]:
    """Return what was asked for, as (question, answer)."""
    spec, search = source.spec, source.spec.search
    data, model, splits = spec.data, spec.model, source.splits
    images = [
        f"{splits[name]:,} {word}"
        for name, word in (("train", "to train"), ("validation", "to validate"))
        if name in splits
    ]
    weights = model.weights_name or model.weights
    asha = f"grace period {search.grace_period}, reduction factor {search.reduction_factor:g}" if search.asha else "off"
    return [
        *([] if has_final_model(spec.trainable) else [("trainable", spec.trainable)]),
        ("dataset", data.dataset),
        ("images", ", ".join([*images, f"{len(splits.get('classes', ()))} classes"])),
        ("backbone", f"{model.backbone}, weights {weights}, {model.head} head"),
        ("image size", f"{model.image_size} px" if model.image_size else "that of the weights"),
        ("augmentation", data.augment),
        ("labels kept", percent(data.label_fraction)),
        ("sampler", search.sampler),
        ("ASHA", asha),
        *((f"space: {name.replace('_', ' ')}", _range(described)) for name, described in _space(source).items()),
        ("tried first", "; ".join(_short(dict(entry)) for entry in source.space.enqueue) or "nothing"),
        ("machines", "; ".join(_machines(source)) or "none yet"),
        ("trials", f"{len(source.records)} of {source.options.trials}"),
        ("seed", str(spec.seed)),
    ]


def tiles(source: StudySource) -> list[Tile]:
    """Return the answer, in a few numbers."""
    final, best, start = source.final, source.best, source.start
    found = []
    if final is not None:
        low, high = final["test_accuracy_ci95"]
        found.append(
            Tile("held-out test accuracy", f"{final['test_accuracy']:.4f}", f"95 % interval {low:.4f} to {high:.4f}")
        )
    if best is not None:
        found.append(
            Tile("best on validation", f"{accuracy(best):.4f}", f"trial {best.number}, {_interval(source, best)}")
        )
    if start is not None:
        note = f"trial {start.number}, validation, {_interval(source, start)}"
        found.append(Tile("the enqueued start alone", f"{accuracy(start):.4f}", note))
    counts = ", ".join(f"{count} {state.lower()}" for state, count in source.states.items() if count)
    found.append(Tile("trials", str(len(source.records)), counts or "none yet"))
    wall = active_seconds(stretches(source.records))
    if wall:
        found.append(Tile("training time", duration(source.seconds), f"within {duration(wall)} of running"))
    return found


def answer(source: StudySource) -> list[str]:
    """Return the answer in sentences: what is best, what is not known yet, and what would find it out."""
    best, final = source.best, source.final
    if best is None:
        again = command("resume", [source.paths])
        return [f"No trial has ended with an epoch yet: there is no best configuration. `{again}` continues the study."]
    assert best.best is not None
    said = [
        f"The best configuration is that of trial {best.number}: {_short(best.params)}. Its best epoch was"
        f" {best.best.epoch} of {best.params.get('epochs', len(best.curve))}."
    ]
    if best.state == "PRUNED":
        said.append("No trial ran to its end; this one was stopped early.")
    if not has_final_model(source.spec.trainable):
        said.append(
            f"Its accuracy is what {source.spec.trainable} says of its validation; there is no final model and no"
            " held-out test accuracy."
        )
    elif final is None:
        again = command("retrain", [source.paths])
        said.append(
            f"There is no final model yet, and so no held-out test accuracy: `{again}` trains one and tests it."
        )
    else:
        model = "Its final model" if final["trial"] == best.number else f"The final model, of trial {final['trial']},"
        said.append(
            f"{model} has {final['test_accuracy']:.4f} on {final['test_images']} held-out test images, after"
            f" {_count(source.test_looks, 'look')} at test data in this study."
        )
        if final.get("best_trial", final["trial"]) != best.number:
            said.append(f"A better trial has come since; `{command('retrain', [source.paths])}` takes it up.")
        seeds = final["seeds"]
        if seeds["stdev"] is not None:
            said.append(
                f"Over {len(seeds['test_accuracies'])} seeds: mean {seeds['mean']:.4f}, standard deviation"
                f" {seeds['stdev']:.4f}."
            )
    said.append(_of_start(source, best))
    if source.states["RUNNING"]:
        said.append(f"{_count(source.states['RUNNING'], 'trial')} had not ended when this page was made.")
    return said


def _of_start(source: StudySource, best: TrialRecord) -> str:
    """What the study would have been with the configuration that was tried first."""
    start = source.start
    if not source.space.enqueue:
        return "The search space names no configuration to try first, so that there is no start to compare with."
    if start is None:
        return "The configuration that the search space names first has no epoch yet."
    if start.number == best.number:
        return "It is the one that was tried first: the search has found nothing better."
    gain = accuracy(best) - accuracy(start)
    tests = paired_tests(best, [start], source.splits.get("validation_labels", "")) or []
    chance = f" (McNemar's test on the same images: p = {p_value(tests[0].p_value)})" if tests else ""
    return (
        f"With the configuration that was tried first alone (trial {start.number}, {_short(start.params)}) validation"
        f" accuracy would have been {accuracy(start):.4f}, {gain:.4f} {'lower' if gain >= 0 else 'higher'}{chance}. Its"
        " held-out accuracy was not measured: a study looks at test with its best alone."
    )


def tied(source: StudySource) -> list[Tied] | None:
    """Return the ended trials within the validation noise of the best, the cheapest first.

    None where no predictions were kept.
    """
    best = source.best
    tests = paired_tests(best, source.ended, source.splits.get("validation_labels", "")) if best is not None else None
    if best is None or tests is None:
        return None
    by_number = {one.number: one for one in source.records}
    rows = [_tied(best, None), *(_tied(by_number[one.number], one) for one in tests if one.is_tied)]
    return sorted(rows, key=lambda one: one.seconds)


def conclusions(source: StudySource, rows: list[Tied] | None) -> list[str]:
    """Return what can and what cannot be concluded."""
    best, final = source.best, source.final
    if best is None:
        return ["Nothing yet."]
    said = []
    if rows is None:
        others = ", as studies of hpo 0.1.0 did not" if has_final_model(source.spec.trainable) else ""
        said.append(
            "Which trials are as good as the best cannot be said: this study kept no predictions of its validation"
            f" images{others}."
        )
    else:
        compared = sum(one.val_predictions is not None for one in source.ended) - 1
        if len(rows) == 1:
            said.append(
                f"Each of the {compared} other trials is worse than the best by more than chance."
                if compared
                else "There is no other trial to compare the best with."
            )
        else:
            cheapest = rows[0]
            said.append(
                f"{len(rows) - 1} of {compared} other trials lie within the validation noise of the best (McNemar's"
                " exact test on the same images, p of 0.05 or more). That they are equal is not shown: a"
                " difference that is smaller than the noise would look the same."
            )
            if cheapest.number != best.number:
                said.append(
                    f"The cheapest of them is trial {cheapest.number} ({cheapest.params}): {duration(cheapest.seconds)}"
                    f" of training instead of {duration(best.seconds_trained)}."
                )
            else:
                said.append("The best one is the cheapest of them.")
        said.append(
            "The tests are not corrected for their number. Of trials that are as good as the best, one in twenty is"
            " expected to look worse; and the best of many is in part the luckiest."
        )
    if final is not None and "validation" in final:
        validation = final["validation"]
        above, (low, high) = validation["above_test"], validation["above_test_ci95"]
        verdict = "within chance" if low <= 0 <= high else "more than chance"
        said.append(
            f"Validation was {abs(above):.4f} {'above' if above >= 0 else 'below'} held-out test, {verdict} (95 %"
            f" interval {low:+.4f} to {high:+.4f}): the better estimate of new images is test."
        )
    if source.test_looks > 1:
        said.append(
            f"Test data was looked at {source.test_looks} times. Whoever chooses by them needs new images to know how"
            " good the choice is."
        )
    if source.states["FAIL"]:
        said.append(f"{_count(source.states['FAIL'], 'trial')} failed, and says nothing of its configuration.")
    return said


def made_at() -> str:
    """Return when and with what the report is made."""
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    return f"hpo {importlib.metadata.version('hpo')}, {now}"


def _tied(record: TrialRecord, test: PairedTest | None) -> Tied:
    against = None if test is None else test.p_value
    return Tied(record.number, _short(record.params), accuracy(record), against, record.seconds_trained)


def _interval(source: StudySource, record: TrialRecord) -> str:
    images = source.splits.get("validation")
    if not images:
        return "interval not known"
    low, high = wilson_interval(round(accuracy(record) * images), images)
    return f"{low:.4f} to {high:.4f}"


def _machines(source: StudySource) -> list[str]:
    """The hosts and devices that took part."""
    found = dict.fromkeys((one.host, one.device) for one in stretches(source.records))
    return [f"{host}, {device}" for host, device in found]


def _space(source: StudySource) -> dict[str, Any]:
    parameters: dict[str, Any] = search_spaces.to_dict(source.space)["parameters"]
    return parameters


def _range(described: Any) -> str:
    tables = described if isinstance(described, list) else [described]
    return "; ".join(map(_one_range, tables))


def _one_range(table: dict[str, Any]) -> str:
    if "choices" in table:
        text = ", ".join(shown(one) for one in table["choices"])
    else:
        kind = ", logarithmic" if table.get("log") else f", step {shown(table['step'])}" if "step" in table else ""
        text = f"{shown(table['low'])} to {shown(table['high'])}{kind}"
    when = "; ".join(
        f"{name.replace('_', ' ')} {' or '.join(map(shown, values))}" for name, values in table.get("when", {}).items()
    )
    return f"{text} (for {when})" if when else text


def _short(params: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {shown(value)}" for name, value in params.items())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
