"""The exception for problems that a user can fix."""


class UserError(Exception):
    """A problem that the user can fix. The message is one line: what, where, remedy; no traceback is shown."""


def one_line(error: Exception) -> str:
    """The message of a library's error, to be quoted in a UserError."""
    return " ".join(str(error).split()) or type(error).__name__
