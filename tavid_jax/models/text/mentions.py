"""Where a word stands among the tokens of a prompt: by the pieces that the tokenizer made of it."""

import itertools
import re
import unicodedata

from tavid_jax.models.text.tokenizer import Tokenizer


def mentions(tokenizer: Tokenizer, text: str, word: str) -> list[list[int]]:
    """Positions of the pieces of every mention of a word, in the order of the text.

    The pieces themselves are searched, so that neither unusual characters nor a word that is cut
    into several pieces lead astray. Upper and lower case count as equal. A word that begins or ends
    with a letter is found as a whole word only: "target" not in "targets". A piece that a mention
    shares with its neighbours ("target," of some vocabularies) belongs to it.

    Args:
      tokenizer: that the model reads the text by.
      text: as the tokenizer is given it.
      word: one word or several, such as "target" or "[TGT]".

    Raises:
      ValueError: an empty word.
    """
    word = " ".join(unicodedata.normalize("NFKC", word).split())
    if not word:
        raise ValueError("the word to look for is empty")
    pieces = tokenizer.pieces.surfaces(text)
    joined = "".join(pieces)
    ends = list(itertools.accumulate(map(len, pieces)))
    spans = list(zip([0, *ends[:-1]], ends, strict=True)) if pieces else []
    before = r"(?<!\w)" if re.match(r"\w", word) else ""
    after = r"(?!\w)" if re.search(r"\w$", word) else ""
    inner = r"\s+".join(map(re.escape, word.split()))
    return [
        [i for i, (start, stop) in enumerate(spans) if start < match.end() and stop > match.start()]
        for match in re.finditer(f"{before}{inner}{after}", joined, re.IGNORECASE)
    ]
