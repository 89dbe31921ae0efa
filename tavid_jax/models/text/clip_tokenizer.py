"""CLIP's byte-pair tokenizer: texts -> ids, on the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import logging
from jaxtyping import Int
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from tavid_jax.models.text.pieces import TokenizerError, check_size, fast_tokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77
# What becomes tokens of its own before pairs are merged: English contractions, words, single
# digits, runs of other signs.
_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class CLIPTokenizer:
    """Lower-cases, splits and numbers texts, with a start and an end token around each.

    Attributes:
      pieces: splits a text and numbers its parts.
      length: of every row of ids.
    """

    pieces: Tokenizer
    length: int = LENGTH

    def __post_init__(self):
        if self.length < 2:
            raise ValueError(f"length={self.length}: the start and end tokens alone need 2")
        missing = [token for token in (START, END) if self.pieces.token_to_id(token) is None]
        if missing:
            raise TokenizerError(
                f"this vocabulary has no {' and no '.join(missing)}: it is not that of a CLIP"
            )

    @classmethod
    def open(cls, folder: str | Path, length: int = LENGTH) -> CLIPTokenizer:
        """From a folder with tokenizer.json, or with vocab.json and merges.txt.

        Raises:
          TokenizerError: neither is there, a file that cannot be read, or the vocabulary of another
            kind of model.
        """
        names = ("tokenizer.json", "vocab.json", "merges.txt")
        whole, vocabulary, merges = (Path(folder).expanduser() / name for name in names)
        if not whole.is_file() and not (vocabulary.is_file() and merges.is_file()):
            raise TokenizerError(
                f"{folder} holds no CLIP tokenizer: it needs tokenizer.json, or vocab.json "
                "and merges.txt, as in the folder of the published model"
            )
        if whole.is_file():
            pieces = fast_tokenizer(whole)
        else:
            check_size(vocabulary)
            check_size(merges)
            try:
                pieces = _assembled(str(vocabulary), str(merges))
            except Exception as error:  # the library raises nothing more precise
                raise TokenizerError(
                    f"{folder}: the tokenizer's files cannot be read: {error}"
                ) from error
        pieces.no_truncation()
        pieces.no_padding()
        try:
            return cls(pieces, length)
        except TokenizerError as error:
            raise TokenizerError(f"{folder}: {error}") from error

    def __call__(self, texts: str | Sequence[str]) -> Int[np.ndarray, "B L"]:
        """Ids, padded with the end token; what does not fit is cut, with a warning that shows it.

        Args:
          texts: one or several.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        start, end = (self.pieces.token_to_id(token) for token in (START, END))
        rows = np.full((len(texts), self.length), end, np.int32)
        rows[:, 0] = start
        for row, text in zip(rows, texts, strict=True):
            found = self.pieces.encode(text, add_special_tokens=False)
            kept = self.length - 2
            if len(found.ids) > kept:
                logging.warning(
                    "CLIP reads %d tokens of a text of %d; not read: %r",
                    kept,
                    len(found.ids),
                    text[found.offsets[kept][0] :],
                )
            ids = found.ids[:kept]
            row[1 : 1 + len(ids)] = ids
        return rows


def _assembled(vocabulary: str, merges: str) -> Tokenizer:
    """The tokenizer of a vocabulary and a list of merges."""
    entries, pairs = models.BPE.read_file(vocabulary, merges)
    pieces = Tokenizer(
        models.BPE(entries, pairs, unk_token=END, end_of_word_suffix="</w>", fuse_unk=False)
    )
    pieces.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pieces.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    pieces.add_special_tokens([token for token in (START, END) if token in entries])
    return pieces
