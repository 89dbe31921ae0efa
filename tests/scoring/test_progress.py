"""Progress: a live line in a terminal, few lines in a log."""

import io

from tavid_jax.scoring import progress
from tavid_jax.scoring.progress import ProgressLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_line():
    stream = Terminal()
    line = ProgressLine(stream)
    report = line(0, 2, "reading")
    report(1, 4)  # too soon after the last
    line(1, 2, "looking for the actor")
    line(1, 2, "short")
    line.close()
    said = stream.getvalue()
    assert "\n" not in said and "video 1 of 2: reading" in said
    longest = len("video 2 of 2: looking for the actor")
    assert said.endswith("\r" + " " * longest + "\r")


def test_a_log_has_a_line_now_and_then(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    report = ProgressLine(stream)(2, 3, "motion smoothness")
    for step in range(1, 41):
        clock[0] += 1.0
        report(step, 40)
    lines = stream.getvalue().splitlines()
    assert lines == [f"video 3 of 3: motion smoothness, {done} of 40" for done in (10, 20, 30, 40)]
