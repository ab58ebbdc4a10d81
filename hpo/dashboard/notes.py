"""What the dashboard says of a study and of a trial in Markdown: from the ledger, at the moment that it is read."""

from collections.abc import Callable
from typing import Any

from hpo.ledger.ledger import Ledger
from hpo.ledger.records import TrialRecord, best_records
from hpo.views.markdown import in_words, plain, table
from hpo.views.summary import StudySummary, left_in_words, summary
from hpo.views.tables import final_lines

_BREAK = "Above: from the ledger, always current. Below: what people write here, kept with the study."

FACTS: dict[str, Callable[[TrialRecord], float | str | None]] = {
    "best validation accuracy": lambda record: round(record.best.val_accuracy, 4) if record.best else None,
    "best epoch": lambda record: record.best.epoch if record.best else None,
    "epochs run": lambda record: len(record.curve),
    "training seconds": lambda record: round(record.seconds_trained, 1),
    "seconds from start to end": lambda record: round(record.seconds, 1) if record.seconds is not None else None,
    "peak GPU memory, GiB": lambda record: round(record.memory_gb["measured"], 2) if record.memory_gb else None,
    "machine": lambda record: ", then ".join(record.hosts) or None,
    "device": lambda record: _devices(record),
}
"""What is shown of each trial in a table, and in columns that can be sorted; None: not known."""
_ALONE = ("trainable", "trainable_sha256", "seed")
"""Fields of a specification that are in no group."""
TEXT_FACTS = ("machine", "device")
"""Those that are no numbers."""


def study_note(ledger: Ledger, writer: str | None, resume: str) -> str:
    """Return a study's state and specification.

    Args:
        writer: The process that runs it; None: none does.
        resume: The command that continues it.
    """
    shown = summary(ledger)
    states = ", ".join(f"{count} {state}" for state, count in shown.states.items() if count) or "none yet"
    left = f", {left_in_words(shown.time_left)}" if writer and shown.time_left is not None else ""
    lines = [
        f"## {plain(ledger.name)}",
        f"**{sum(shown.states.values())} of {shown.target} trials**: {states}{left}.",
        plain(_doing(shown, writer, resume)),
    ]
    for record in best_records(ledger.records(), 1):
        if record.best is not None:
            params = ", ".join(f"{name} {in_words(value)}" for name, value in record.params.items())
            lines.append(
                f"**Best so far**: trial {record.number}, validation accuracy {record.best.val_accuracy:.4f} at epoch"
                f" {record.best.epoch} ({params})."
            )
    if ledger.final is not None:
        said = final_lines(ledger.final).split("\n")
        lines.append("\n".join(["**Final model**:", "", *(f"- {plain(line)}" for line in said)]))
    return "\n\n".join([*lines, *_specification(ledger)])


def _doing(shown: StudySummary, writer: str | None, resume: str) -> str:
    """Whether the study is being run, and what continues it."""
    if writer:
        return f"Being run by {writer}."
    ended = sum(shown.states.values()) - shown.states["RUNNING"]
    if ended < shown.target:
        return f"Not being run; `{resume}` continues it."
    return f"Not being run: it has all of its trials, and `{resume} --trials N` adds more."


def _specification(ledger: Ledger) -> list[str]:
    document = ledger.spec.model_dump(mode="json", exclude_none=True)
    parameters = document["search"].pop("space")["parameters"]
    groups = ((name, document[name]) for name in ("data", "model", "search"))
    rows = [(f"{group}: {name}", value) for group, fields in groups for name, value in fields.items()]
    return [
        "### Search space",
        table(("Parameter", "Drawn from"), parameters.items()),
        "### Specification",
        table(("Field", "Value"), [*rows, *((name, document[name]) for name in _ALONE if name in document)]),
    ]


def trial_note(ledger: Ledger, record: TrialRecord, writer: str | None, resume: str) -> str:
    """Return what happened to a trial; `writer` and `resume` as for `study_note`."""
    title = f"## Trial {record.number}: {record.state}"
    return "\n\n".join(
        [title, plain(_why(ledger, record, writer, resume)), table(("", ""), trial_facts(record).items())]
    )


def trial_facts(record: TrialRecord) -> dict[str, Any]:
    """Return what is known of `FACTS` of a trial."""
    facts = ((name, fact(record)) for name, fact in FACTS.items())
    return {name: value for name, value in facts if value is not None}


def _why(ledger: Ledger, record: TrialRecord, writer: str | None, resume: str) -> str:
    """Why a trial ended, or what becomes of it."""
    reached = f"epoch {len(record.curve)} of {record.params.get('epochs', '?')}"
    if record.state == "RUNNING":
        interrupted = f"Interrupted after {reached}; `{resume}` continues it from its checkpoint."
        return f"Running: {reached} is its newest." if writer else interrupted
    if record.state == "COMPLETE":
        return f"It trained to {reached}."
    if record.error is not None:
        return f"It ended after {reached}: {record.error}"
    if record.state == "PRUNED":
        keeps = ledger.spec.search.reduction_factor
        return f"ASHA stopped it at {reached}: it was not among the best 1/{keeps:g} of the trials at that rung."
    return f"It failed after {reached}."


def _devices(record: TrialRecord) -> str | None:
    known = dict.fromkeys(place.device for place in record.places if place is not None)
    return ", then ".join(known) or record.device


def joined(generated: str, own: str) -> str:
    """Return a note's text: what the ledger says, then what people wrote."""
    return f"{generated}\n\n---\n\n*{_BREAK}*\n\n{own}"


def own_part(body: str) -> str:
    """Return what people wrote of a note that they saved; all of it where they removed the line that divides it."""
    _, found, own = body.partition(f"*{_BREAK}*")
    return own.strip() if found else body.strip()
