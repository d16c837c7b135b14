"""Chunks of images in threads of one core each: no thread waits for another at the end of every layer."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Any

import torch


def in_threads(work: Callable[[Any], Any], items: Iterable[Any], count: int) -> list[Any]:
    """[work(item) for item in items], by `count` threads of one core each; with one, by the caller itself.

    A thread takes the next item when it is done with one, so that no more than `count` are held at a time. An error or
    Ctrl-C ends it once all threads are done with the item in hand.

    >>> in_threads(lambda i: i * i, range(5), 2)
    [0, 1, 4, 9, 16]
    """
    if count == 1:
        return [work(item) for item in items]
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
        finally:
            over.set()

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

    crew = ThreadPoolExecutor(count, "landscape", begin)
    for _ in range(count):
        crew.submit(int)  # starts a thread
    ready.wait()
    torch.set_num_threads(kept)
    return crew
