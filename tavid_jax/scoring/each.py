"""One after the other: videos that are judged, and those that cannot be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tavid_jax.data.video import VideoError
from tavid_jax.scoring.progress import Stage
from tavid_jax.scoring.providers import Progress, ScoringError

One = TypeVar("One")
Report = Callable[[str], Progress]
Skipped = tuple[tuple[str, str], ...]


def judge_each(
    cases: Sequence[Any],
    given: Sequence[Any],
    judge: Callable[[Any, Any, Report], One],
    skipped: Sequence[tuple[str, str]],
    stage: Stage,
) -> tuple[tuple[One, ...], Skipped]:
    """(what was judged, (path, reason) of all that was not).

    Args:
      cases: each with a `video`.
      given: what was read of each.
      judge: (case, what was read, what says what begins) -> the scores.
      skipped: what was left out before.
      stage: reports progress.

    Raises:
      ScoringError: no video that can be judged; or what `judge` raises besides unreadable videos.
    """
    scored, left = [], list(skipped)
    for number, (case, read) in enumerate(zip(cases, given, strict=True)):

        def report(what: str, number: int = number) -> Progress:
            return stage(number, len(cases), what)

        try:
            scored.append(judge(case, read, report))
        except VideoError as error:
            left.append((case.video.path, str(error)))
    if not scored:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in left)
        raise ScoringError(f"no video can be judged ({reasons})")
    return tuple(scored), tuple(left)
