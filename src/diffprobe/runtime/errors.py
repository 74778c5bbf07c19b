"""The exceptions for problems that a user can fix."""

import errno
import os
import re

RETRY = "the file may be whole: check the disk or the network, then run again"
RIGHTS = "give this user the right to read it"
FILES = "raise the limit on open files (ulimit -n)"
LOCKED = "wait for the program that locks it, or set HDF5_USE_FILE_LOCKING=FALSE if the file system has no locks"
ACCESS = {  # what the system says of files that need not be damaged, and what to do
    errno.ENOENT: "check the path, or run the workflow to make it", errno.ENOTDIR: "check the path",
    errno.EISDIR: "check the path", errno.ELOOP: "check the path", errno.ENAMETOOLONG: "check the path",
    errno.EACCES: RIGHTS, errno.EPERM: RIGHTS,
    errno.EMFILE: FILES, errno.ENFILE: FILES,
    errno.EIO: RETRY, errno.ESTALE: RETRY, errno.ETIMEDOUT: RETRY, errno.EREMOTEIO: RETRY, errno.ENOTCONN: RETRY,
    errno.EAGAIN: LOCKED, errno.ENOLCK: LOCKED,
    errno.ENOMEM: "free some memory and run again",
}  # fmt: skip


WORDLESS: dict[type[BaseException], str] = {
    EOFError: "it ends too early",
    AssertionError: "parts of it are missing",
    MemoryError: "out of memory",
}


class UserError(Exception):
    """A problem that the user can fix. The message is one line: what, where, remedy; no traceback is shown."""


class AccessError(UserError):
    """A file that cannot be read and yet may be whole: rights, limits, locks, hardware. Never a reason to delete it."""


PLUGIN = "name the plugin that defines it in the config, or in diffprobe.load(..., plugins=[FILE])"


class UnknownKindError(ValueError):
    """A kind that a file names and that is not loaded: the file may be whole."""


# All that moves the cursor, clears the screen or turns the text's direction.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def for_terminal(text: str) -> str:
    """Text that may quote a name of somebody's file, for a terminal: characters that control it become escapes."""
    return CONTROL.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


def one_line(error: BaseException) -> str:
    """The message of a library's error, to be quoted in a UserError."""
    return " ".join(str(error).split()) or WORDLESS.get(type(error), type(error).__name__)


def access_error(where: object, error: BaseException) -> AccessError | None:
    """The error to raise where the system refused access to `where`; None of any other failure, such as damage."""
    number = error_number(error)
    if number not in ACCESS:
        return None
    return AccessError(f"{where}: cannot be read ({os.strerror(number)}); {ACCESS[number]}")


def error_number(error: BaseException) -> int | None:
    """The system's number of an error; libraries written in Rust give it in words, or by the class alone."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if match := re.search(r"\(os error (\d+)\)", str(error)):
        return int(match[1])
    classes = {FileNotFoundError: errno.ENOENT, PermissionError: errno.EACCES, MemoryError: errno.ENOMEM}
    return next((number for kind, number in classes.items() if isinstance(error, kind)), None)


def refused_access(where: object, error: BaseException) -> AccessError | None:
    """The same for a file inside a store, where one that is missing is damage."""
    return None if error_number(error) == errno.ENOENT else access_error(where, error)


def unreadable(where: object, error: BaseException, remedy: str) -> UserError:
    """The error to raise for a failure to read `where`; `remedy` is for damage, refused access has its own."""
    return access_error(where, error) or UserError(f"{where}: cannot be read ({one_line(error)}); {remedy}")
