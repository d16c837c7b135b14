"""How far a long command is and about how long it will take, said once its first pieces are timed."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from kdviz.base.processes import first_process
from kdviz.base.times import duration

LEAST = 0.5  # seconds that pieces must have taken before they are believed
WORTH = 10.0  # seconds to go that are worth a line


class Pace:
    """A function (done, total) that says about how long the rest will take: once the first pieces are timed, and again
    where later pieces show that it will be half as long again.

    Args:
        say: is given the time, "about 40 s".
        clock: in seconds.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._start: tuple[float, int] | None = None
        self._last = 0
        self._said = 0.0  # when the end was last said to be

    def __call__(self, done: int, total: int) -> None:
        now = self._clock()
        again, self._last = done < self._last, done
        if self._start is None or again:
            self._start, self._said = (now, done), 0.0
            return
        began, before = self._start
        if done <= before or done >= total or now - began < LEAST:
            return
        left = (now - began) / (done - before) * (total - done)
        late = now + left - self._said
        if left >= WORTH and (not self._said or late > max(WORTH, 0.5 * (self._said - began))):
            self._said = now + left
            self._say(f"about {duration(left)}")


def announce(sentence: str) -> None:
    """Say, before it starts, what a long computation will cost."""
    typer.echo(sentence, err=True)


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A function (done, total, note="") that says about how long it will take and, on a terminal, moves a bar with the
    note beside it.

    Args:
        label: what is done.
        total: the number of pieces where the caller of the function does not know it (and gives 0).
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = console.is_terminal and first_process()
    with Progress(*columns, console=console, disable=not shown, transient=True) as bar:
        task = bar.add_task(label, total=None)

        def say(text: str) -> None:
            if console.is_terminal:
                bar.console.print(f"{label}: {text}", markup=False, highlight=False)
            else:
                typer.echo(f"{label}: {text}", err=True)

        pace = Pace(say)

        def moved(done: int, count: int, note: str = "") -> None:
            bar.update(task, completed=done, total=count or total, description=f"{label} {note}".rstrip())
            pace(done, count or total or 0)

        yield moved
