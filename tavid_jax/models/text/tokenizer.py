"""Prompts as padded ids: the tokenizers of T5 and umT5, on the host."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import logging
from jaxtyping import Bool, Int

from tavid_jax.models.text.pieces import (
    END,
    PAD,
    FastPieces,
    Pieces,
    SentencePieces,
    TokenizerError,
)

_FAST = "tokenizer.json"
_SLOW = "spiece.model"
# Of this package, made from captions of synthetic scenes.
CAPTIONS = Path(__file__).with_name("captions.model")


@dataclass(frozen=True)
class Tokenizer:
    """Text to ids of a fixed length, each prompt with an end token and then padding.

    Attributes:
      pieces: of the vocabulary.
    """

    pieces: Pieces

    @classmethod
    def open(cls, folder: str | Path) -> "Tokenizer":
        """The tokenizer of a checkpoint's folder.

        Args:
          folder: with a `tokenizer.json`, or with a `spiece.model` (or another single `*.model`)
            and possibly its `added_tokens.json`; of several the first, as the published pipelines
            take them. A file of either kind itself is taken too.

        Raises:
          TokenizerError: no such file there, or a file of another kind of tokenizer.
        """
        file = _find(Path(folder).expanduser())
        return cls(FastPieces(file) if file.suffix == ".json" else SentencePieces(file))

    @classmethod
    def captions(cls) -> "Tokenizer":
        """The small one of this package, made from captions of synthetic scenes.

        See `tavid_jax.data.synthetic.vocabulary`.
        """
        return cls.open(CAPTIONS)

    @property
    def vocab_size(self) -> int:
        """One more than the largest id; an embedding may have more rows."""
        return self.pieces.size

    def __call__(
        self, prompts: str | Sequence[str], length: int
    ) -> tuple[Int[np.ndarray, "B {length}"], Bool[np.ndarray, "B {length}"]]:
        """(ids, int32, 0 where there is padding; mask, True at real tokens, the end included).

        Args:
          prompts: one text per row; a single text is one row. Special tokens written in it, such
            as "</s>", become their ids.
          length: of the rows. Of a longer prompt the beginning and the end token are kept, and a
            warning shows the rest.

        Raises:
          ValueError: a length without room for the end token.
        """
        if length < 1:
            raise ValueError(f"length={length} tokens leave no room for the end token: at least 1")
        rows = [prompts] if isinstance(prompts, str) else prompts
        ids = np.full((len(rows), length), PAD, np.int32)
        mask = np.zeros(ids.shape, bool)
        for row, text in enumerate(rows):
            kept = [*self._truncated(self.pieces.encode(text), length - 1), END]
            ids[row, : len(kept)] = kept
            mask[row, : len(kept)] = True
        return ids, mask

    def decode(self, ids: Int[np.ndarray, " L"] | Sequence[int]) -> str:
        """The text of one row of ids, up to its first end token."""
        row = [int(i) for i in ids]
        return self.pieces.decode(row[: row.index(END)] if END in row else row)

    def _truncated(self, ids: list[int], room: int) -> list[int]:
        if len(ids) > room:
            logging.warning(
                "The prompt has %d tokens with its end, the model reads %d; this was cut off: %s",
                len(ids) + 1,
                room + 1,
                self.pieces.decode(ids[room:]),
            )
        return ids[:room]


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    for name in (_FAST, _SLOW):
        if (path / name).is_file():
            return path / name
    others = sorted(path.glob("*.model")) if path.is_dir() else []
    if len(others) == 1:
        return others[0]
    inside = ", ".join(sorted(p.name for p in path.iterdir())[:8]) if path.is_dir() else ""
    raise TokenizerError(
        f"no tokenizer in {path}: expected {_FAST}, {_SLOW} or one other *.model; "
        f"{f'found {inside}' if inside else 'found nothing'}"
    )
