"""Something made in a thread of its own while what was made before is in use."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
Wanted = Callable[[], bool]


class UnwantedError(Exception):
    """Ends the making of what nobody waits for."""


def begin(make: Callable[[Wanted], T]) -> Future[T]:
    """Begin to make something; the future's `result` waits for it, and raises what `make` raised.

    `make` is given a function by which it asks, now and then, whether its result is still wanted, and raises
    UnwantedError where it is not: once the future is cancelled, which works at any time before it is done, and once
    the main thread has ended. For the interpreter waits for the thread: killed inside a library, it could crash it.
    """
    future: Future[T] = Future()  # never set running, so that it can be cancelled

    def wanted() -> bool:
        return not future.cancelled() and threading.main_thread().is_alive()

    def work() -> None:
        with suppress(InvalidStateError):  # it was cancelled
            try:
                found = make(wanted)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(found)

    threading.Thread(target=work, daemon=False).start()
    return future


def prefetched(items: Iterator[T], depth: int = 2) -> Iterator[T]:
    """The same items, up to `depth` of them made by a thread while the caller is at work; what it raises is raised."""
    end = object()
    with ThreadPoolExecutor(1) as maker:
        coming = deque(maker.submit(next, items, end) for _ in range(depth))
        while (item := coming.popleft().result()) is not end:
            coming.append(maker.submit(next, items, end))
            yield item
