"""Which clips a selection keeps, as a file that people read and change."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Mapping
from pathlib import Path

from tavid_jax.data.cache import write_whole
from tavid_jax.data.clip import ClipError
from tavid_jax.untrusted.errors import reading
from tavid_jax.untrusted.texts import read_table, read_text

COLUMNS = ("video", "kept", "reason", "contact_frame")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a selection says of one clip.

    Attributes:
      kept: whether it is used.
      reason: why, or why not.
      contact_frame: first frame in which actor and target touch, -1 = none.
    """

    kept: bool
    reason: str = ""
    contact_frame: int = -1


def write_verdicts(path: str | os.PathLike, verdicts: Mapping[str, Verdict]) -> None:
    """Writes verdicts by name of the video, whole or not at all.

    A path that ends in .txt gets the names of those kept, one a line; any other a CSV with the
    columns video, kept (1 or 0), reason, contact_frame.

    Raises:
      OSError: the place cannot be written.
    """
    if Path(path).suffix.lower() == ".txt":
        text = "".join(f"{name}\n" for name, verdict in verdicts.items() if verdict.kept)
    else:
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, v in verdicts.items():
            writer.writerow([name, int(v.kept), v.reason, v.contact_frame])
        text = stream.getvalue()
    write_whole(path, text.encode())


def read_verdicts(path: str | os.PathLike) -> dict[str, Verdict]:
    """Reads such a file back: name of the video -> verdict. Of a CSV two columns are needed,
    video and kept.

    Raises:
      ClipError: missing file, or neither of the two kinds.
    """
    with reading(path, ClipError, "a list of selected clips"):
        if Path(path).suffix.lower() == ".txt":
            lines = map(str.strip, read_text(path).splitlines())
            return {name: Verdict(True) for name in lines if name}
        columns, rows = read_table(path)
    if not {"video", "kept"} <= set(columns):
        raise ClipError(
            f"{path}: a list of selected clips has the columns {', '.join(COLUMNS)}, got "
            f"{columns}; make one by `python -m tavid_jax.data select`, or give a .txt "
            "with one name a line"
        )
    return {row["video"] or "": _verdict(path, n, row) for n, row in enumerate(rows, 2)}


def _verdict(path: str | os.PathLike, line: int, row: Mapping[str, str | None]) -> Verdict:
    kept = (row["kept"] or "").strip().lower()
    contact = (row.get("contact_frame") or "-1").strip()
    if kept not in ("0", "1", "true", "false") or not contact.lstrip("-").isdigit():
        raise ClipError(
            f"{path}, line {line}: kept must be 1 or 0 and contact_frame a whole number, got "
            f"{kept!r} and {contact!r}"
        )
    return Verdict(kept in ("1", "true"), row.get("reason") or "", int(contact))
