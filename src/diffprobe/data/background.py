"""Work done by a background thread while the caller uses what was made before: one result, or a stream of them."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
# Set when the interpreter begins to wait for threads, executors' first: what is registered last runs first.
_exits = threading.Event()
threading._register_atexit(_exits.set)  # type: ignore[attr-defined]
Cancelled = Callable[[], bool]


def start(task: Callable[[Cancelled], T]) -> Future[T]:
    """Run a task in a thread of its own; the future's `result` waits for it and raises what the task raised.

    The task is passed a function that it should poll, and should raise CancelledError once that returns True: after
    the future is cancelled, which works at any time before it is done, and when the main thread has ended. The thread
    is no daemon, since killing a thread inside a native library can crash the interpreter, so the interpreter waits for
    it on exit.
    """
    future: Future[T] = Future()  # never set running: a running future cannot be cancelled

    def cancelled() -> bool:
        return future.cancelled() or _exits.is_set()

    def run() -> None:
        with suppress(InvalidStateError):  # the future was cancelled
            try:
                result = task(cancelled)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

    threading.Thread(target=run, daemon=False).start()
    return future


def prefetch(items: Iterator[T], depth: int = 2) -> Generator[T, None, None]:
    """The same items, up to `depth` of them computed ahead by a background thread. Raises what `items` raises."""
    with ThreadPoolExecutor(1) as executor:
        # Slices of one item, empty at the end: a StopIteration cannot travel through a future.
        pending = deque(executor.submit(list, islice(items, 1)) for _ in range(depth))
        while item := pending.popleft().result():
            pending.append(executor.submit(list, islice(items, 1)))
            yield item[0]
