"""The two things likewise says to a person: an error that stops, and a warning that does not."""


class LikewiseError(ValueError):
    """A user's mistake or unusable input, in one sentence: what was wrong, where, and what to do.

    The command line prints the message alone and exits with code 2; from Python it is a ``ValueError``.
    """


class Interrupted(Exception):
    """Training stopped by Ctrl-C or SIGTERM after its state was saved; the command line exits with code 130."""


class LikewiseWarning(UserWarning):
    """Something looks wrong but work goes on; the message says what, where, and what to do."""
