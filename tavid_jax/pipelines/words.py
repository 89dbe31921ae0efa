"""Any word of a prompt as weights of the text's positions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from tavid_jax.models.text.cleaning import clean
from tavid_jax.models.text.mentions import mentions
from tavid_jax.pipelines.targets import TargetReader


def word_columns(
    reader: TargetReader, prompt: str, words: Sequence[str]
) -> Float[np.ndarray, "M L"]:
    """The pieces of a mention add up, several mentions share one: a column sums to its pieces.

    Args:
      reader: of the model's tokens.
      prompt: as the model is given it.
      words: to find as whole words, in upper or lower case; one may consist of several ("red box").

    Raises:
      ValueError: no words, one that the prompt lacks, or that lies behind the last token that is
        read.
    """
    if not words:
        raise ValueError("no word to look at: name one or several of the prompt")
    columns = np.zeros((len(words), reader.length), np.float32)
    for row, word in enumerate(words):
        places = _places(reader, prompt, word)
        for place in places:
            columns[row, place] += 1.0 / len(places)
    return columns


def holds(reader: TargetReader, prompt: str, word: str) -> bool:
    """Whether a prompt has a word."""
    return bool(mentions(reader.tokenizer, _read(reader, prompt), word))


def _places(reader: TargetReader, prompt: str, word: str) -> list[list[int]]:
    found = mentions(reader.tokenizer, _read(reader, prompt), word)
    if not found:
        raise ValueError(
            f"the prompt {prompt!r} lacks the word {word!r}: only words that it holds can be "
            "looked at, and they are found whole"
        )
    # The last position that is read holds the end token.
    inside = [place for place in found if max(place) < reader.length - 1]
    if not inside:
        raise ValueError(
            f"the word {word!r} is cut off: it is token {min(found[0]) + 1} of the prompt, the "
            f"model reads {reader.length - 1}; shorten the text before it"
        )
    return inside


def _read(reader: TargetReader, prompt: str) -> str:
    return clean(prompt) if reader.wan else prompt
