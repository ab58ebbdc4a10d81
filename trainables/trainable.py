"""What a trial runs: what a trainable must offer, those that there are, and how a user's own is found and checked."""

import dataclasses
import difflib
import inspect
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, SupportsFloat

from trainables.config import EpochResult, TrainableConfig
from trainables.errors import InputError
from trainables.user_code import code_sha256, imported

FINETUNE = "finetune"
SIMCLR_PRETRAIN = "simclr-pretrain"
PUBLISHED = "published"

BUILT_IN = {
    FINETUNE: "trainables.training.trial:finetune",
    SIMCLR_PRETRAIN: "trainables.contrastive.trial:run_trial",
    PUBLISHED: "trainables.published.run:run_published",
}
"""Trainables by their names; any other is a user's own ``package.module:function``."""


class Trainable(Protocol):
    """What a trial runs: a function that yields one result per epoch.

    - It yields the epochs 1, 2, ... up to `TrainableConfig.epochs`, each as soon as it is trained, and stops where ASHA
      asks for no more: it is closed. A result that is not finite is the last.
    - The same configuration gives the same numbers; all randomness comes from `TrainableConfig.seed`.
    - `EpochResult.val_accuracy` is what the study maximises, from 0 to 1, and what ASHA compares epoch by epoch.
    - Before it yields an epoch, it may `save` all that it needs to continue after it. Given that as `resume_from`, it
      yields the epochs that lie behind again, with the same figures, and continues. One that does not save begins at
      epoch 1 after an interruption, which costs time and no result.
    - It raises `trainables.errors.InputError` for what a user can fix,
      `trainables.training.checkpoint.CheckpointError` for a state that it cannot continue, and is then begun anew.
      Anything else counts as a failure of its configuration.
    """

    def __call__(
        self,
        config: TrainableConfig,
        *,
        resume_from: bytes | None,
        save: Callable[[bytes], None] | None,
    ) -> Iterator[EpochResult]:
        """Train one configuration and yield each epoch's result."""


def has_final_model(name: str) -> bool:
    """Return whether a study of a trainable ends with a model that is tested on held-out images."""
    return name == FINETUNE


def freezes(name: str) -> bool:
    """Return whether a trainable trains a network in one of the freeze modes, as fine-tuning does."""
    return name in (FINETUNE, PUBLISHED)


def reads_test(name: str) -> bool:
    """Return whether trials of a trainable read held-out test, so that nothing may choose configurations by them."""
    return name == PUBLISHED


def is_own(name: str) -> bool:
    """Return whether a trainable is a user's own."""
    return name not in BUILT_IN


def check_name(name: str) -> None:
    """See that a trainable may have this name, without a look at its code.

    Raises:
        InputError: It may not; the message suggests the nearest.
    """
    if is_own(name) and ":" not in name:
        near = difflib.get_close_matches(name, BUILT_IN, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(
            f"--trainable {name}: unknown trainable; {hint}Known are {', '.join(BUILT_IN)}, and"
            " package.module:function for your own."
        )


def resolve(name: str) -> Trainable:
    """Return a trainable by its name.

    Raises:
        InputError: There is none, or it is no function that could be called like one.
    """
    check_name(name)
    try:
        found: Trainable = imported(BUILT_IN.get(name, name))
    # A user's module may raise anything.
    except Exception as error:
        raise InputError(
            f"--trainable {name}: cannot be imported ({type(error).__name__}: {error}); give package.module:function,"
            " importable from here."
        ) from error
    if not is_own(name):
        return found
    try:
        inspect.signature(found).bind(None, resume_from=None, save=None)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"--trainable {name}: cannot be called ({error}); it must be a function (config, *, resume_from, save)."
        ) from error
    return found


def digest(name: str) -> str | None:
    """Return the digest of the file of a user's own trainable; None: it is one of this project, or in no file.

    Raises:
        InputError: There is no such trainable.
    """
    resolve(name)
    return code_sha256(name) if is_own(name) else None


def verify(name: str, sha256: str | None) -> None:
    """See that a trainable is still the one that a study recorded.

    Raises:
        InputError: It is another, or gone.
    """
    if digest(name) != sha256:
        raise InputError(
            f"--trainable {name}: the file of {name.partition(':')[0]} is not what the study was started with; restore"
            " it, or start a study under another name."
        )


def run(
    name: str, config: TrainableConfig, *, resume_from: bytes | None = None, save: Callable[[bytes], None] | None = None
) -> Iterator[EpochResult]:
    """Run a trainable and check what it yields.

    Raises:
        InputError: There is no such trainable, or it does not keep to `Trainable`; the message says how.
        Exception: What it raises itself.
    """
    yields = resolve(name)(config, resume_from=resume_from, save=save)
    if not isinstance(yields, Iterable):
        raise _broken(name, f"returned {_shown(yields)}, not a generator; it must yield its results")
    begun, expected = time.perf_counter(), 1
    for result in yields:
        checked = _checked(name, result, expected)
        now = time.perf_counter()
        yield checked if checked.seconds > 0 else dataclasses.replace(checked, seconds=now - begun)
        begun, expected = time.perf_counter(), expected + 1
    raise _broken(name, f"ended after epoch {expected - 1} of {config.epochs}")


def _checked(name: str, result: object, expected: int) -> EpochResult:
    """Return a result in plain Python types, as the ledger keeps it."""
    if not isinstance(result, EpochResult):
        raise _broken(
            name, f"yielded {_shown(result)} for epoch {expected}; it must yield trainables.config.EpochResult"
        )
    if result.epoch != expected:
        raise _broken(
            name,
            f"yielded epoch {result.epoch!r} where {expected} comes next; epochs count from 1, and a resumed trial"
            " yields those before its checkpoint again",
        )
    plain: dict[str, Any] = {"epoch": expected}
    for field in _NUMBERS:
        value = getattr(result, field)
        if value is None and field in _OPTIONAL:
            continue
        plain[field] = _number(name, expected, field, value)
    has_diverged = not dataclasses.replace(result, **plain).is_finite
    if has_diverged and math.isnan(plain["val_accuracy"]):
        # The ledger takes no NaN, and a score of what diverged is none.
        plain["val_accuracy"] = 0.0
    if not 0 <= plain["val_accuracy"] <= 1:
        raise _broken(
            name, f"yielded a val_accuracy of {result.val_accuracy!r} for epoch {expected}; it lies in 0 to 1"
        )
    if not isinstance(result.extra, Mapping):
        raise _broken(name, f"yielded {_shown(result.extra)} as extra of epoch {expected}; it must be a dict")
    extra = {
        _text(name, expected, key): value if isinstance(value, str) else _number(name, expected, f"extra {key}", value)
        for key, value in result.extra.items()
    }
    taken = extra.keys() & _TAKEN
    if taken:
        raise _broken(name, f"yielded an extra {min(taken)}, which is the name of another figure; choose another name")
    _text(name, expected, result.val_predictions)
    return dataclasses.replace(result, **plain, extra=extra)


def _number(name: str, epoch: int, field: str, value: object) -> float:
    try:
        # Also one of numpy or torch.
        if isinstance(value, SupportsFloat):
            return float(value)
    except (TypeError, ValueError, RuntimeError):
        pass
    raise _broken(name, f"yielded {_shown(value)} as {field} of epoch {epoch}; it must be a number")


def _text(name: str, epoch: int, value: object) -> str:
    if not isinstance(value, str):
        raise _broken(name, f"yielded {_shown(value)} for epoch {epoch} where a text is needed")
    return value


def _broken(name: str, what: str) -> InputError:
    return InputError(f"--trainable {name}: {what}.")


def _shown(value: object) -> str:
    return f"a {type(value).__name__}" if value is not None else "nothing"


_OPTIONAL = ("val_loss", "train_loss", "learning_rate", "images_per_second")
_TAKEN = {*EpochResult.__dataclass_fields__, "trial", "host", "device"}
_NUMBERS = ("val_accuracy", "seconds", *_OPTIONAL)
