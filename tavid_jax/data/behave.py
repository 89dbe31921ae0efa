"""The BEHAVE data set (people who handle objects, four static cameras) as a folder of clips.

The layout is that of the data set's public description; the data themselves were not at hand:

    ROOT/sequences/Date01_Sub01_backpack_back/t0003.000/k1.color.jpg          colour, cameras 0..3
                                                       /k1.person_mask.jpg    or .png
                                                       /k1.obj_rend_mask.jpg  or .png
    ROOT/sequences/.../info.json                                              not read

Folders of frames are named by their time in seconds; the annotated frames are one second apart.
Masks are white above 127. Not verified: whether every camera has every frame, and that masks have
the size of the colour images (others are refused when the clips are read).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from tavid_jax.data.clip import ClipError
from tavid_jax.data.imported import ClipsWriter, Imported, link
from tavid_jax.data.masks import read_mask
from tavid_jax.data.video import RATE_FILE, natural_key

CAMERAS = (0, 1, 2, 3)
_FRAME = re.compile(r"t(\d+(\.\d+)?)")
_SIZES = ("large", "long", "medium", "small", "tiny", "square", "black", "wood")
_WORDS = {"plasticcontainer": "plastic container", "trashbin": "trash bin", "yogaball": "yoga ball",
          "yogamat": "yoga mat", "toolbox": "tool box"}  # fmt: skip
_MATERIALS = {"wood": "wooden"}


def import_behave(
    root: str | os.PathLike,
    out: str | os.PathLike,
    *,
    hop: int | None = None,
    captions: bool = True,
) -> Imported:
    """Makes a folder of clips (see `imported`) from all sequences.

    A clip is a folder of links to the colour images of one camera, from a start frame to the end of
    the sequence, with the object as target and the person as actor. It starts at the first frame in
    which both masks are there and not empty.

    Args:
      root: folder that holds `sequences`.
      out: folder to make.
      hop: start another clip every so many frames after that, where masks are there; None = one
        clip per sequence and camera, named <sequence>.k<camera>.
      captions: whether to write captions (see `caption`).

    Returns:
      What was made, and which sequence and camera gave no clip, with the reason.

    Raises:
      ClipError: no sequences, no usable one, or a folder `out` that is there already.
    """
    sequences = Path(root) / "sequences"
    if not sequences.is_dir():
        raise ClipError(f"{sequences}: no such folder; give the folder that holds 'sequences'")
    with ClipsWriter(out) as writer:
        for sequence in sorted(filter(Path.is_dir, sequences.iterdir()), key=_by_name):
            for camera in CAMERAS:
                try:
                    _import(writer, sequence, camera, hop, captions)
                except ClipError as error:
                    writer.skipped.append((f"{sequence.name}.k{camera}", str(error)))
    return writer.result()


def caption(sequence: str) -> str:
    """Date01_Sub01_boxlarge_hand -> "A person interacts with a large box."

    The third part names the object: sizes, colours and materials stand behind it in the data set
    and go before it; a few compounds are parted. What is done (the fourth part) is not told: its
    words ("back", "hand") are no verbs.

    Raises:
      ClipError: a name without a third part.
    """
    parts = sequence.split("_")
    if len(parts) < 3 or not parts[2]:
        raise ClipError(
            f"{sequence}: is not named as DateXX_SubXX_object_action; rename it, or import without "
            "captions"
        )
    word = parts[2]
    kind = next((size for size in _SIZES if word.endswith(size) and word != size), "")
    thing = word.removesuffix(kind)
    words = [_MATERIALS.get(kind, kind), _WORDS.get(thing, thing)]
    named = " ".join(filter(None, words))
    return f"A person interacts with {'an' if named[0] in 'aeiou' else 'a'} {named}."


def _by_name(path: Path) -> list:
    return natural_key(path.name)


def _import(
    writer: ClipsWriter, sequence: Path, camera: int, hop: int | None, captions: bool
) -> None:
    frames = _frames(sequence)
    pictures = [folder / f"k{camera}.color.jpg" for _, folder in frames]
    absent = [path for path in pictures if not path.is_file()]
    if len(absent) == len(pictures):
        raise ClipError(f"no frame has {absent[0].name}")
    if absent:
        raise ClipError(
            f"{absent[0]}: missing; unpack the sequence again, or remove its frame's folder"
        )
    words = caption(sequence.name) if captions else ""
    gaps = np.diff([time for time, _ in frames])
    rate = 1.0 / float(np.median(gaps)) if len(gaps) and np.median(gaps) > 0 else 1.0
    wanted = 0
    for start, (time, folder) in enumerate(frames):
        masks = _masks(folder, camera) if start >= wanted else None
        if masks is None:
            continue
        first = wanted == 0
        name = f"{sequence.name}.k{camera}" + ("" if first else f".t{start:04d}")
        place = writer.path(name)
        place.mkdir()
        (place / RATE_FILE).write_text(f"{rate:g}\n")
        for number, picture in enumerate(pictures[start:]):
            link(picture, place / f"{number:05d}.jpg")
        writer.add(
            name, *masks, words, source=str(sequence), camera=camera, start=time, fps=rate,
            end=frames[-1][0],
        )  # fmt: skip
        if hop is None:
            return
        wanted = start + hop
    if wanted == 0:
        raise ClipError("no frame has masks of both person and object that are not empty")


def _frames(sequence: Path) -> list[tuple[float, Path]]:
    """(seconds, folder) of all frames, by time."""
    matches = ((_FRAME.fullmatch(path.name), path) for path in sequence.iterdir())
    frames = sorted((float(match[1]), path) for match, path in matches if match and path.is_dir())
    if not frames:
        raise ClipError(f"{sequence}: holds no folders of frames (t0003.000, ...)")
    return frames


def _masks(folder: Path, camera: int) -> tuple[np.ndarray, np.ndarray] | None:
    """(object, person) of one frame; None if one is missing or empty."""
    found = []
    for kind in ("obj_rend_mask", "person_mask"):
        paths = [folder / f"k{camera}.{kind}.{suffix}" for suffix in ("png", "jpg")]
        path = next(filter(Path.is_file, paths), None)
        mask = None if path is None else read_mask(path)
        if mask is None or not mask.any():
            return None
        found.append(mask)
    return found[0], found[1]
