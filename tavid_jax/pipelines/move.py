"""How tracks move an image's latent: all options of Wan-Move's guidance."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tavid_jax.pipelines.fields import check_names
from tavid_jax.tracks.latent_replacement import check_strategy


@dataclasses.dataclass(frozen=True)
class Move:
    """What becomes of tracks, see `tracks.latent_replacement`; the defaults are the released ones.

    Attributes:
      strategy: where a track is in a latent frame, one of `latent_replacement.STRATEGIES`.
      uncond_motion: whether the branch without the prompt sees the motion too, so that guidance is
        of the text alone: what the released code does, which edits one array for both. False is
        what it says: guidance then amplifies the motion too.
      wrap_invalid_source: whether tracks that are not seen in the first frame show its bottom right
        corner, as the released code does; else they are left out.
      rescale: whether tracks of another frame size than the image's are brought to it; else they
        are an error.

    Raises:
      ValueError: a value of another kind, by name.
    """

    strategy: str = "sample"
    uncond_motion: bool = True
    wrap_invalid_source: bool = False
    rescale: bool = False

    def __post_init__(self):
        check_strategy(self.strategy)
        for name in ("uncond_motion", "wrap_invalid_source", "rescale"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"move: {name} {getattr(self, name)!r}: give true or false")

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Move:
        """Options from a mapping.

        Raises:
          ValueError: an unknown field, with the nearest known one; or see the class.
        """
        if not isinstance(fields, Mapping):
            raise ValueError(f"move {fields!r}: give an object of options, {{}} for the usual ones")
        check_names("move", cls, fields)
        return cls(**fields)

    def changed(self, changes: Move | Mapping[str, Any] | None) -> Move:
        """With some fields replaced; all of them by another `Move`.

        Raises:
          ValueError: see `of`.
        """
        if isinstance(changes, Move):
            return changes
        return Move.of({**dataclasses.asdict(self), **changes} if changes else vars(self))
