"""Options that people give by name, in JSON or from Python."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable


def check_names(what: str, record: type, names: Iterable[str]) -> None:
    """Every name is a field of a dataclass.

    Raises:
      ValueError: the first that is not, with the nearest field.
    """
    known = [field.name for field in dataclasses.fields(record)]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{what} has no option {name!r}{hint} (there are {', '.join(known)})")
