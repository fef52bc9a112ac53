"""Progress on a terminal; nothing in a log."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A callable that takes how many are done and of how many; None where stderr is no terminal.

    The line on stderr shows what goes on and for how long; once the callable was called, also both numbers, how many are
    done in a second, and the time left. It stands over a ``with`` block or, as a decorator, over a stage's ``main``.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[counts]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=120) as bar:
        task = bar.add_task(what, total=None, counts="")

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            speed, left = bar.tasks[0].speed, bar.tasks[0].time_remaining
            counts = f"{done:,}/{total:,}"
            if speed is not None and left is not None:
                counts += f", {speed:.0f}/s" if speed >= 1 else f", {1 / speed:.1f} s each" if speed else ""
                counts += f", {int(left)} s left"
            bar.update(task, counts=counts)

        yield show
