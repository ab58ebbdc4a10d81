"""The one exception that trainables raise for a mistake that a person can fix."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one or two lines: what was wrong, where, and what to do. It is shown as it is, without a
    traceback, so it must make sense on its own.
    """
