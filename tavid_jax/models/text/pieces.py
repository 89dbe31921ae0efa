"""The two files that hold a T5 tokenizer: a sentencepiece model, or a `tokenizer.json`.

Special tokens that are written in a prompt ("</s>", "<extra_id_0>") become their ids with both, as
with the published tokenizers: they are found first, and the text between them is tokenised piece
by piece. Where marks combine with what stands before them ("½" and a joiner), the two libraries
normalise differently; each file is read by its own.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers

from tavid_jax.untrusted import limits
from tavid_jax.untrusted.errors import reading
from tavid_jax.untrusted.texts import read_json

PAD, END, UNKNOWN = 0, 1, 2
_MOST_IDS = 2**24


class TokenizerError(ValueError):
    """A tokenizer's file cannot be used; the message names it."""


class SentencePieces:
    """A sentencepiece model, `spiece.model`, and the special tokens listed beside it."""

    def __init__(self, file: Path):
        check_size(file)
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_file=str(file))
        except (OSError, RuntimeError, ValueError) as error:
            raise TokenizerError(f"{file} is not a sentencepiece model ({error})") from error
        ids = (self._model.pad_id(), self._model.eos_id(), self._model.unk_id())
        _check_special(file, *ids)
        own = {self._model.id_to_piece(i): i for i in ids}
        self._special = own | _added_tokens(file.parent)
        names = sorted(self._special, key=len, reverse=True)
        self._split = re.compile(f"({'|'.join(map(re.escape, names))})")
        self.size = max(self._model.get_piece_size(), 1 + max(self._special.values()))

    def encode(self, text: str) -> list[int]:
        """Ids of the pieces of a text, without an end."""
        ids: list[int] = []
        for part in self._split.split(text):
            special = self._special.get(part)
            ids += self._model.encode(part) if special is None else [special]
        return ids

    def surfaces(self, text: str) -> list[str]:
        """What each id of `encode` stands for in the normalised text, which they make together."""
        found: list[str] = []
        for part in self._split.split(text):
            special = part in self._special
            found += [part] if special else self._model.encode(part, out_type=str)
        return [_spaced(piece) for piece in found]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens are written out."""
        names = {number: name for name, number in self._special.items()}
        parts: list[Any] = [[]]
        for number in ids:
            if number in names:
                parts += [names[number], []]
            else:
                parts[-1].append(int(number))
        texts = (part if isinstance(part, str) else self._model.decode(part) for part in parts)
        return " ".join(text for text in texts if text)


class FastPieces:
    """A `tokenizer.json` of the library tokenizers."""

    def __init__(self, file: Path):
        self._model = fast_tokenizer(file)
        self._model.no_truncation()
        self._model.no_padding()
        _check_special(file, *map(self._model.token_to_id, ("<pad>", "</s>", "<unk>")))
        self.size = self._model.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Ids of the pieces of a text, without an end."""
        return self._model.encode(text, add_special_tokens=False).ids

    def surfaces(self, text: str) -> list[str]:
        """What each id of `encode` stands for in the normalised text, which they make together."""
        encoded = self._model.encode(text, add_special_tokens=False)
        return [_spaced(piece) for piece in encoded.tokens]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens are written out."""
        return self._model.decode([int(i) for i in ids], skip_special_tokens=False)


Pieces = SentencePieces | FastPieces
_SPACE = "▁"


def _spaced(piece: str) -> str:
    return piece.replace(_SPACE, " ")


def check_size(file: Path) -> None:
    """Raises TokenizerError for a file that is not there, or larger than a limit."""
    with reading(file, TokenizerError, "a tokenizer"):
        limits.check("tokenizer_bytes", file.stat().st_size, "its size")


def fast_tokenizer(file: Path) -> tokenizers.Tokenizer:
    """What a `tokenizer.json` describes.

    Raises:
      TokenizerError: it is none.
    """
    check_size(file)
    try:
        return tokenizers.Tokenizer.from_file(str(file))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # what panics in the library's Rust is no Exception
        raise TokenizerError(f"{file} is not a file of the library tokenizers ({error})") from error


def _check_special(file: Path, pad: int | None, end: int | None, unknown: int | None) -> None:
    if (pad, end, unknown) != (PAD, END, UNKNOWN):
        raise TokenizerError(
            f"{file} is no tokenizer of T5: padding, end and unknown have the ids {pad}, {end} and "
            f"{unknown}, T5's are {PAD}, {END} and {UNKNOWN}"
        )


def _added_tokens(folder: Path) -> dict[str, int]:
    """Special tokens beside the pieces, from `added_tokens.json` and `tokenizer_config.json`."""
    file = folder / "tokenizer_config.json"
    with reading(file, TokenizerError, "the config of a tokenizer"):
        listed = _json(file).get("added_tokens_decoder", {})
        named = {entry["content"]: int(number) for number, entry in listed.items()}
    named |= _json(folder / "added_tokens.json")
    for name, number in named.items():
        if not isinstance(name, str) or type(number) is not int or not 0 <= number < _MOST_IDS:
            raise TokenizerError(f"{folder}: {name!r:.60} is listed as token {number!r:.60}")
    return named


def _json(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        return {}
    with reading(file, TokenizerError, "JSON"):
        held = read_json(file)
    if not isinstance(held, Mapping):
        raise TokenizerError(f"{file} holds a {type(held).__name__}, not an object")
    return held
