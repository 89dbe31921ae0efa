"""Texts of the objects of clips, in files.

    <stem>.texts.json beside the video     ["a red cup", "a yellow ball"]  or  {"1": "a red cup"}
    one .json for all clips                {"<stem>": as above, ...}
    one .csv for all clips                 columns object, text, and videoid or video_path

Objects count from 1, in the order of the masks: `<stem>.mask_0.png` is object 1 if it is the first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tavid_jax.data.clip import ClipError
from tavid_jax.data.files import stem
from tavid_jax.untrusted.errors import reading
from tavid_jax.untrusted.texts import read_json, read_table

SUFFIX = ".texts.json"
Texts = dict[int, str]  # number of an object -> its text


def read_texts(path: str | os.PathLike) -> dict[str, Texts]:
    """One file for all clips: stem of a video -> texts of its objects.

    Raises:
      ClipError: absent, broken, other columns, or no such numbers.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        held = _json(path)
        if not isinstance(held, dict):
            raise ClipError(f"{path}: must map names of videos to texts, got a {_kind(held)}")
        return {name: _texts(value, f"{path}: {name!r}") for name, value in held.items()}
    with reading(path, ClipError, "texts"):
        columns, rows = read_table(path)
    if not {"object", "text"} <= set(columns) or not set(columns) & {"videoid", "video_path"}:
        raise ClipError(
            f"{path}: texts need the columns 'object', 'text', and 'videoid' or 'video_path', got "
            f"{sorted(set(columns))}"
        )
    found: dict[str, Texts] = {}
    for row in rows:
        name = row.get("videoid") or Path(row.get("video_path") or "").stem
        number = _number(row["object"], f"{path}: {name!r}")
        if number in found.setdefault(name, {}):
            raise ClipError(f"{path}: {name!r} has two texts for object {number}: keep one")
        found[name][number] = (row["text"] or "").strip()
    return found


def find_texts(video: str | os.PathLike) -> Texts:
    """The texts beside a video; none if there is no such file.

    Raises:
      ClipError: a broken file.
    """
    path = Path(video).parent / f"{stem(video)}{SUFFIX}"
    return _texts(_json(path), str(path)) if path.is_file() else {}


def in_order(texts: Texts, count: int | None) -> tuple[str, ...]:
    """Texts of objects 1..count, "" where there is none; () if there are none at all.

    Args:
      texts: by number.
      count: how many objects there are; None = as many as the largest number.

    Raises:
      ClipError: a text of an object that is not there.
    """
    if not texts:
        return ()
    largest = max(texts)
    if count is not None and largest > count:
        raise ClipError(
            f"has a text for object {largest} ({texts[largest]!r}), but {count} masks: add its "
            "mask or delete the text"
        )
    return tuple(texts.get(number, "") for number in range(1, (count or largest) + 1))


def _json(path: Path) -> Any:
    with reading(path, ClipError, "texts"):
        return read_json(path)


def _texts(value: Any, where: str) -> Texts:
    if isinstance(value, list):
        value = dict(enumerate(value, 1))
    if not isinstance(value, Mapping):
        raise ClipError(f"{where}: must be a list of texts, or map numbers of objects to texts")
    made = {_number(number, where): text for number, text in value.items()}
    for number, text in made.items():
        if not isinstance(text, str):
            raise ClipError(f"{where}: the text of object {number} is a {_kind(text)}")
    return {number: text.strip() for number, text in made.items()}


def _number(text: Any, where: str) -> int:
    digits = str(text).strip()
    if not (digits.isdecimal() and len(digits) <= 9 and int(digits) >= 1):
        raise ClipError(f"{where}: {text!r:.60} is no number of an object; they count from 1")
    return int(digits)


def _kind(value: Any) -> str:
    return type(value).__name__
