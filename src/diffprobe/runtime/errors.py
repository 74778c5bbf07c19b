"""The one exception that a user may see."""


class UserError(Exception):
    """Something the user can put right: one line that names what, where and the remedy. No traceback is shown."""
