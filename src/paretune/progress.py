"""How far a long job is, on standard error. An edge: the terminal, the clock.

The rule: a bar only where a person looks at a terminal, else a plain line every few seconds; standard output is never touched, so
that it can be piped.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from paretune.ports import Progress

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def shown(title: str, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> Iterator[Progress]:
    """Give a progress callback for one job.

    Args:
        title: what the job is.
        stream: where to write; standard error when left out.
        clock: seconds, monotonic.
    """
    stream = sys.stderr if stream is None else stream
    if stream.isatty():
        with _bar(title, stream) as progress:
            yield progress
    else:
        yield _lines(title, stream, clock)


@contextmanager
def _bar(title: str, stream: TextIO) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    words = TextColumn("{task.fields[doing]}", style="dim")
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn(), words)
    with Bar(*columns, console=Console(file=stream), transient=True) as bar:
        task = bar.add_task(title, total=1.0, doing="")
        yield lambda share, doing: bar.update(task, completed=share, doing=doing)


def _lines(title: str, stream: TextIO, clock: Callable[[], float]) -> Progress:
    last = clock()

    def tell(share: float, doing: str) -> None:
        nonlocal last
        if clock() - last >= SECONDS_BETWEEN_LINES:
            last = clock()
            stream.write(f"{title}: {share:.0%} ({doing})\n")
            stream.flush()

    return tell
