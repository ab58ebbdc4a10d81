"""The one exception that trainables raise for a mistake that a person can fix, and whose fault an exception is."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one or two lines: what was wrong, where, and what to do. It is shown as it is, without a
    traceback, so it must make sense on its own.
    """


def is_of_environment(error: BaseException) -> bool:
    """Return whether what a trial raised is due to its environment, which all trials of its study share.

    That is its images, its weights, its code, a disk, a permission: another configuration would have met the same, and
    this one would have trained on another day. What remains is the configuration's own: a step that cannot be computed,
    or for which there is no memory.
    """
    return isinstance(error, InputError | OSError | ImportError | SyntaxError)
