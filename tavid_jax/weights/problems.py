"""The one error of this package, and how long lists of names are made readable."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

# How many lines of each kind an error shows, after the layers of a stack are folded into one.
MAX_LISTED = 40

# A layer index: digits between two separators of a key or path.
_INDEX = re.compile(r"(?<=[./])\d+(?=[./])")
# "condition_embedder.x" for "text_embedding.x" is still worth suggesting; "x" for "y" is not.
_SIMILARITY = 0.5
_HINT = "check that the config (sizes, depth, options) is the checkpoint's"


class WeightsError(ValueError):
    """A checkpoint cannot be read or written, or does not match what its config describes."""


def raise_all(problems: Mapping[str, Sequence[str]], what: str, hint: str = _HINT) -> None:
    """Raises one `WeightsError` that lists every problem, if there is any.

    Args:
      problems: kind of problem -> its lines, folded or not.
      what: the first line, up to the hint.
      hint: what to do about it; may be empty.
    """
    lines = []
    for kind, items in problems.items():
        if items:
            shown = list(items[:MAX_LISTED])
            more = [f"... and {len(items) - len(shown)} more"] if len(items) > len(shown) else []
            lines += [f"{kind} ({len(items)}):", *(f"  {line}" for line in shown + more)]
    if lines:
        raise WeightsError("\n".join([f"{what}; {hint}" if hint else what, *lines]))


def fold(names: Iterable[str]) -> list[str]:
    """Names that differ only in their first index as one: "blocks.{0-39}.norm.weight"."""
    groups: dict[str, list[int]] = {}
    for name in names:
        found = _INDEX.search(name)
        pattern = f"{name[: found.start()]}\0{name[found.end() :]}" if found else name
        groups.setdefault(pattern, []).extend([int(found[0])] if found else [])
    return [
        pattern.replace("\0", _ranges(sorted(indices))) if indices else pattern
        for pattern, indices in groups.items()
    ]


def with_nearest(names: Iterable[str], candidates: Iterable[str]) -> list[str]:
    """Folded names, each with the most similar of the candidates where one is similar."""
    patterns = {_INDEX.sub("#", name): name for name in reversed(list(candidates))}
    lines = []
    for folded in fold(names):
        plain = re.sub(r"\{[\d,-]+\}|" + _INDEX.pattern, "#", folded)
        near = difflib.get_close_matches(plain, patterns, n=1, cutoff=_SIMILARITY)
        lines.append(f"{folded} (nearest: {patterns[near[0]]})" if near else folded)
    return lines


def _ranges(numbers: Sequence[int]) -> str:
    """[0, 1, 2, 5] -> "{0-2,5}"; a single number stays bare."""
    if len(numbers) == 1:
        return str(numbers[0])
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return "{" + ",".join(f"{a}-{b}" if a != b else str(a) for a, b in runs) + "}"
