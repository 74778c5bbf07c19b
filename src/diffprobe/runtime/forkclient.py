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


def hand_over(address: str, command: list[str]) -> socket.socket | None:
    """The connection to the server that has started the job; None where the job must start the ordinary way."""
    umask = os.umask(0)
    os.umask(umask)
    folder = os.getcwd()  # noqa: PTH109 (pathlib would double the time to start)
    request = {"command": command, "environment": dict(os.environ), "umask": umask, "folder": folder}
    try:
        # The request travels as a file, so that one byte is a whole message.
        file = os.memfd_create("request")
        os.write(file, marshal.dumps(request))
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE)
        connection.connect(address)
        socket.send_fds(connection, [b"j"], [file, 0, 1, 2])
        os.close(file)
        if connection.recv(1):
            connection.settimeout(None)
            return connection
        connection.close()
    except OSError:
        pass  # among them a standard stream that is closed, and a server that takes too long
    return None


def forward_signals(connection: socket.socket) -> None:
    """Signals that this process ignores (nohup) are ignored by the job too: both have inherited that."""

    def forward(received: int, _: object) -> None:
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
    forward_signals(server)
    status = server.recv(4)
    # Without a status the server was killed, and the job with it.
    end_as(int.from_bytes(status, "little") if status else signal.SIGKILL)
