"""The errors that the command line reports, and the exit code of each.

HpoError (1)               the study or a command failed
├─ NoPlaceError (1)             a checkpoint cannot be kept; the study can be resumed once that is fixed
├─ EnvironmentFailureError (1)  what trials need is gone: images, weights, code, a disk; it can be resumed
├─ NothingFitsError (1)         no configuration fits on the machines
├─ DeadEndError (1)             all that is left waits for machines that are gone
├─ UsageError (2)               bad usage or input: nothing was created
│  └─ NotOursError (2)               a study of an Optuna database that hpo did not make
└─ InterruptedStudy (130)       stopped by the user; it can be resumed
"""


class HpoError(Exception):
    """A failure that a person can understand: one or two lines that name the cause and the fix."""

    exit_code = 1


class NoPlaceError(HpoError):
    """A checkpoint cannot be kept or read: its disk is full, or its place is unreachable."""


class EnvironmentFailureError(HpoError):
    """A trial could not train for a reason that lies outside its configuration: images, weights, code, a disk."""


class NothingFitsError(HpoError):
    """No configuration of a study's search space fits on the machines that it has."""


class DeadEndError(HpoError):
    """All that is left of a run waits for machines that are gone."""


class UsageError(HpoError):
    """Something the user gave cannot be used, and nothing was created."""

    exit_code = 2


class NotOursError(UsageError):
    """A study of an Optuna database that hpo did not make."""


class InterruptedStudy(HpoError):  # noqa: N818 - an interruption is no error
    """The user stopped the study; the message is the command that continues it."""

    exit_code = 130
