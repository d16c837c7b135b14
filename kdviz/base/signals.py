"""Ctrl-C and SIGTERM: as exceptions for every command, and between two steps for those that save their work first."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM; handled wherever Ctrl-C is, so that the same work is saved, but with exit code 143."""


class StopRequest(threading.Event):
    """Set by the first signal, whose handler it is; `signal` is its number (0 before). The second one is raised."""

    signal: int = 0

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self.is_set():
            raise exception(number)
        self.signal = number
        self.set()


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """128 + the signal's number, as shells have it.

    >>> exit_code(KeyboardInterrupt()), exit_code(Terminated())
    (130, 143)
    """
    return 128 + (signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT)


def exception(number: int) -> KeyboardInterrupt:
    """What a signal of this number is raised as."""
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


def _raise(number: int, _frame: FrameType | None) -> None:
    raise exception(number)


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT and SIGTERM raise KeyboardInterrupt and `Terminated` wherever the block stands; the old handlers return.

    A signal that is ignored (by a shell's background job) stays ignored. Outside the main thread nothing changes.
    """
    with _handlers(_raise, keep=(None, signal.SIG_IGN)):
        yield


@contextmanager
def stop_requested() -> Iterator[StopRequest]:
    """An event that the first SIGINT or SIGTERM sets; the second one interrupts at once.

    A block inside another one has the same event, so that a signal that comes late in the inner one still stops the
    outer one. A KeyboardInterrupt that leaves the block after a SIGTERM leaves it as `Terminated`. Only the main thread
    receives signals; elsewhere (a notebook's worker, say) the event is never set.
    """
    around = signal.getsignal(signal.SIGTERM) if threading.current_thread() is threading.main_thread() else None
    asked = around if isinstance(around, StopRequest) else StopRequest()
    with _handlers(asked, keep=(None,)):
        try:
            yield asked
        except KeyboardInterrupt as interrupt:
            if asked.signal == signal.SIGTERM and not isinstance(interrupt, Terminated):
                raise Terminated from interrupt
            raise


@contextmanager
def _handlers(handler: Callable[[int, FrameType | None], None], *, keep: tuple[Any, ...]) -> Iterator[None]:
    """`handler` for both signals, but where the present one is in `keep` (None: a program's that embeds Python)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    changed = [number for number, old in before.items() if old not in keep]
    for number in changed:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, before[number])
