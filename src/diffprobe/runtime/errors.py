"""The one exception that a user may see."""


class UserError(Exception):
    """Something the user can put right: one line that names what, where and the remedy. No traceback is shown."""


def one_line(error: Exception) -> str:
    """What an error of a library says, as part of a UserError's line."""
    return " ".join(str(error).split()) or type(error).__name__
