"""Run a job through the fork server: python -IS forkclient.py SOCKET SCRIPT ARGUMENTS...

The shell and Snakemake see this process as the job: what it is sent it passes on, and it ends as the job ends. It
imports next to nothing, so it starts in about 10 ms. Where no server takes the job, it becomes the job itself.
"""

import marshal
import os
import signal
import socket
import sys

PATIENCE = 120.0  # seconds for a server to load its packages, from a slow disk too
# Ctrl-Z: the server's session is not the terminal's, so a job there would ignore SIGTSTP but not SIGSTOP.
FORWARDED = {number: number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)}
FORWARDED |= {signal.SIGUSR1: signal.SIGUSR1, signal.SIGUSR2: signal.SIGUSR2, signal.SIGCONT: signal.SIGCONT}
FORWARDED |= {signal.SIGTSTP: signal.SIGSTOP}


def request(command: list[str]) -> int:
    """The descriptor of a file with what the job needs, so that one byte is a whole message to the server."""
    umask = os.umask(0)
    os.umask(umask)
    folder = os.getcwd()  # noqa: PTH109 (pathlib would double the time to start)
    ignored = [int(number) for number in FORWARDED if signal.getsignal(number) is signal.SIG_IGN]
    content = {
        "command": command,
        "environment": dict(os.environ),
        "umask": umask,
        "folder": folder,
        "ignored": ignored,
    }
    file = os.memfd_create("request")
    os.write(file, marshal.dumps(content))
    return file


def hand_over(address: str, command: list[str]) -> socket.socket | None:
    """The connection to the server that has started the job; None where the job must start the ordinary way."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE)
    passed: list[int] = []
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    try:
        connection.connect(address)
        socket.send_fds(connection, [b"j"], [request(command), 0, 1, 2])
        pass_on_signals(connection, passed)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        if connection.recv(1):
            connection.settimeout(None)
            return connection
    except OSError:
        pass  # among them a standard stream that is closed, and a server that takes too long
    connection.close()
    for number in passed:  # to nobody
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    return None


def pass_on_signals(connection: socket.socket, passed: list[int]) -> None:
    """From the first moment, so that none is lost. Signals that this process ignores (nohup) the job ignores too."""

    def forward(received: int, _: object) -> None:
        passed.append(received)
        try:
            connection.send(bytes([FORWARDED[signal.Signals(received)]]))
        except OSError:
            return  # the job has ended
        if received == signal.SIGTSTP:
            os.kill(os.getpid(), signal.SIGSTOP)

    for number in FORWARDED:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, forward)


def end_as(status: int) -> None:
    """End with the job's exit status, or by the signal that ended it, so that the shell sees the same."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own handler would print a trace
    server = hand_over(sys.argv[1], sys.argv[2:])
    if server is None:
        os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
    try:
        status = server.recv(4)
    except ConnectionResetError:  # the server had not read all signals
        status = b""
    # Without a status the server was killed, and the job with it.
    end_as(int.from_bytes(status, "little") if status else signal.SIGKILL)
