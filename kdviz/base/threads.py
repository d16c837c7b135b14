"""Pieces of work in threads of one core each: no thread waits for another at the end of every operation.

torch splits each large operation over its threads and waits for the slowest of them. While other processes hold the
cores that wait is a turn of the scheduler, milliseconds for every operation; threads of one core each pay it once.
"""

import os
import threading
from collections.abc import Callable, Iterable, Sized
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Any

import torch


def in_threads(
    work: Callable[[Any], Any],
    items: Iterable[Any],
    count: int | None = None,
    *,
    done: Callable[[Any], None] | None = None,
) -> list[Any]:
    """[work(item) for item in items], by `count` threads of one core each; with one, by the caller itself.

    A thread takes the next item when it is done with one, so that no more than `count` are held at a time. An error or
    Ctrl-C ends it once all threads are done with the item in hand. Gradient mode and autocast belong to a thread: work
    that needs a certain one sets it itself.

    Args:
        work: a function of one item.
        items: taken one after the other, by one thread at a time.
        count: how many threads; None for as many as torch may use here, which is one inside of such a thread, but no
            more than there are items in a list of them.
        done: called with each item once it is done, by one thread at a time.

    >>> in_threads(lambda i: i * i, range(5), 2)
    [0, 1, 4, 9, 16]
    """
    if count is None:
        count = torch.get_num_threads()
        count = max(1, min(count, len(items))) if isinstance(items, Sized) else count
    turns, turn, over = enumerate(items), threading.Lock(), threading.Event()
    found: dict[int, Any] = {}

    def take() -> None:
        try:
            while not over.is_set():
                with turn:
                    mine = next(turns, None)
                if mine is None:
                    return
                found[mine[0]] = work(mine[1])
                if done:
                    with turn:
                        done(mine[1])
        finally:
            over.set()

    if count == 1:
        take()
        return [*found.values()]
    crew = _crew(count)
    running = [crew.submit(take) for _ in range(count)]
    try:
        for one in running:
            one.result()
    finally:
        over.set()
        wait(running)
    return [found[i] for i in range(len(found))]


@cache
def _crew(count: int) -> ThreadPoolExecutor:
    """Threads in each of which torch uses one core; how many it uses elsewhere stays as it is."""
    kept, ready = torch.get_num_threads(), threading.Barrier(count + 1)

    def begin() -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # torch settles a thread's number when it is first asked; after this it stays 1
        ready.wait()

    crew = ThreadPoolExecutor(count, "kdviz", begin)
    for _ in range(count):
        crew.submit(int)  # starts a thread
    ready.wait()
    torch.set_num_threads(kept)
    return crew


if hasattr(os, "register_at_fork"):  # a forked process has none of its parent's threads, and starts its own
    os.register_at_fork(after_in_child=_crew.cache_clear)
