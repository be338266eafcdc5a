"""Progress is for the person who waits: a bar on a terminal, a line now and then elsewhere."""

import io

from paretune.progress import SECONDS_BETWEEN_LINES, shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_where_nobody_looks_a_line_comes_every_few_seconds() -> None:
    stream, now = io.StringIO(), [0.0]
    with shown("train", stream=stream, clock=lambda: now[0]) as progress:
        for step in range(31):
            now[0] = step * SECONDS_BETWEEN_LINES / 10
            progress(step / 30, f"epoch {step}")
    assert stream.getvalue().splitlines() == ["train: 33% (epoch 10)", "train: 67% (epoch 20)", "train: 100% (epoch 30)"]


def test_a_quick_job_says_nothing() -> None:
    stream = io.StringIO()
    with shown("check", stream=stream, clock=lambda: 0.0) as progress:
        progress(1.0, "done")
    assert stream.getvalue() == ""


def test_a_terminal_gets_a_bar_that_is_gone_afterwards() -> None:
    stream = Terminal()
    with shown("train", stream=stream) as progress:
        progress(0.5, "epoch 3")
    assert "train" in stream.getvalue()
    assert "\x1b[2K" in stream.getvalue()
