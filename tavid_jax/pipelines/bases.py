"""Small trained models that come with the package, by name."""

from __future__ import annotations

import difflib
import functools
from pathlib import Path

from tavid_jax import places
from tavid_jax.pipelines.card import has_card, read_card

#: name -> folder beside this package; `python -m tavid_jax.pack` writes them
BASES = {
    "tiny-wan": "tiny_wan",
    "tiny-cogvideox": "tiny_cogvideox",
    "tiny-wan-crowd": "tiny_wan_crowd",
}
FOLDER = Path(__file__).resolve().parents[1] / "bases"


def base_folder(name: str) -> Path:
    """Where a packaged base lies.

    Raises:
      ValueError: there is no base of this name, or this installation lacks it or has damaged it.
    """
    if name not in BASES:
        near = difflib.get_close_matches(name, BASES, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no packaged base {name!r}; {hint}There are {', '.join(BASES)}")
    folder = FOLDER / BASES[name]
    if not has_card(folder):
        raise ValueError(
            f"{name} is not in this installation ({folder} holds no base); train it with "
            f"python -m tavid_jax.main --config=configs/finetune.py:{BASES[name]}"
        )
    _check(folder)
    return folder


@functools.cache  # asked for many times by a run, and whole files are read
def _check(folder: Path) -> None:
    read_card(folder)


def resolve_checkpoint(name: str | Path) -> str:
    """What a checkpoint's name stands for.

    Args:
      name: of a packaged base, whose folder is returned; a file or folder in a bucket
        (`gs://bucket/name`), whose local copy is brought up to date and returned; anything else (a
        folder, a file, `hf:owner/name`, "") is returned as it is.

    Raises:
      FileNotFoundError: nothing of this name in the bucket.
      ValueError: a base that this installation lacks or has damaged.
    """
    if places.is_remote(name):
        return str(places.pull(places.place(name)))
    return str(base_folder(str(name))) if str(name) in BASES else str(name)
