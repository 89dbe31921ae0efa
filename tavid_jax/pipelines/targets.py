"""Objects that a prompt's words stand for: a mask in the first frame, and a place in the text.

A model that was trained with targets reads each one's mask in a further input channel, in latent
frame 0 alone, and finds it in the prompt by a trigger word (TAViD, arXiv:2503.18950).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.engine.method import Spec
from tavid_jax.models.text.cleaning import clean
from tavid_jax.models.text.mentions import mentions
from tavid_jax.models.text.tokenizer import Tokenizer
from tavid_jax.pipelines.backbones import MASK, Backbone
from tavid_jax.pipelines.masks import HOWS, check_mask, latent_masks, pooled

# Entries of a training example besides the mask channels.
COLUMNS, AIM = "columns", "aim"
# The sentence that captions of one target end with (the paper's, with the released code's word).
SENTENCE = "The person interacts with the target object."
LAST, ALL = MENTIONS = ("last", "all")
TARGET, ACTOR = "target", "actor"


@dataclasses.dataclass(frozen=True)
class Targets:
    """What a model knows of targets; one entry of `words` and `objects` per mask channel.

    Attributes:
      words: the trigger word of each target.
      objects: which object of a training clip each one is: "target", "actor", or its number.
      latent: how a mask becomes an input channel, see `masks.pooled`; the release takes "nearest".
      aim: how a mask becomes what attention is led to, on tokens.
      soft: whether masks keep values between 0 and 1, as in the release; otherwise a half counts
        as 1.
      sentence: appended to the captions of clips; "" for captions that hold the words already.
      nouns: of one target: in captions the trigger is put before the first of these nouns that
        they hold.
      mentions: which mention of a trigger attention is led by in training: "last" (that of the
        sentence) or "all".
      embedding: whether a learned vector is added to the features of the triggers' tokens.

    Raises:
      ValueError: a value that makes no sense, by name.
    """

    words: tuple[str, ...] = ("target",)
    objects: tuple[str | int, ...] = (TARGET,)
    latent: str = "nearest"
    aim: str = "area"
    soft: bool = False
    sentence: str = SENTENCE
    nouns: tuple[str, ...] = ()
    mentions: str = LAST
    embedding: bool = False

    def __post_init__(self):
        if not self.words or len(set(map(str.lower, self.words))) < len(self.words):
            raise ValueError(f"targets.words {self.words}: give each target a word of its own")
        if len(self.objects) != len(self.words):
            raise ValueError(
                f"targets.objects {self.objects}: name one object for each of {len(self.words)} "
                "words"
            )
        for one in self.objects:
            if one not in (TARGET, ACTOR) and not (isinstance(one, int) and one >= 1):
                raise ValueError(
                    f"targets.objects {one!r} is neither {TARGET!r}, {ACTOR!r} nor a number from 1"
                )
        for name in ("latent", "aim"):
            if getattr(self, name) not in HOWS:
                raise ValueError(
                    f"targets.{name} {getattr(self, name)!r} is none of {', '.join(HOWS)}"
                )
        if self.mentions not in MENTIONS:
            raise ValueError(f"targets.mentions {self.mentions!r} is none of {', '.join(MENTIONS)}")
        if self.nouns and len(self.words) > 1:
            raise ValueError("targets.nouns are those of one target: write several into captions")
        unsaid = [word for word in self.words if self.sentence and not _holds(self.sentence, word)]
        if unsaid:
            raise ValueError(f"targets.sentence {self.sentence!r} lacks the word {unsaid[0]!r}")

    @property
    def count(self) -> int:
        """Mask channels, K."""
        return len(self.words)

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Targets:
        """From a mapping, as configs and JSON have it; lists count as tuples.

        Raises:
          ValueError: an unknown field, or see the class.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(fields) - set(known))
        if unknown:
            raise ValueError(f"targets.{unknown[0]} is no field; there are {', '.join(known)}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})


def _holds(text: str, word: str) -> bool:
    return word.lower() in text.lower()


@dataclasses.dataclass(frozen=True)
class TargetReader:
    """Finds targets in texts and clips, for one model.

    Attributes:
      targets: what there is to find.
      tokenizer: of the model's text encoder.
      backbone: whose latents and tokens the masks are brought to.
      length: tokens of a text, L.
      wan: whether texts are cleaned before they are tokenised.
    """

    targets: Targets
    tokenizer: Tokenizer
    backbone: Backbone
    length: int
    wan: bool

    def spec(self) -> dict[str, Spec]:
        """Entries of a training example besides those of the backbone: where in the text each
        target stands, and where in the first frame's tokens it lies."""
        rows, columns = self.grid
        return {
            COLUMNS: Spec((self.targets.count, self.length), np.float32, (None, None)),
            AIM: Spec((self.targets.count, rows * columns), np.float32, (None, None)),
        }

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of a latent frame's tokens."""
        _, height, width, _ = self.backbone.spec()["video"].shape
        _, rows, columns = self.backbone.model.config.patch_size
        return height // rows, width // columns

    # ---- texts -----------------------------------------------------------------------------------

    def prompt(self, caption: str) -> str:
        """What a model is trained to read for a caption.

        The end of a long caption gives way, so that the appended sentence is always whole.

        Raises:
          ValueError: a caption without any of the nouns, or a sentence that is too long itself.
        """
        t = self.targets
        if t.nouns:
            caption = with_trigger(caption, t.words[0], t.nouns)
        if not t.sentence:
            return caption
        room = self.length - 1
        if self._tokens(t.sentence) > room:
            raise ValueError(
                f"targets.sentence has {self._tokens(t.sentence)} tokens, the model reads {room}"
            )
        words = caption.split()
        low, high = 0, len(words)  # the most words that leave room
        while low < high:
            middle = (low + high + 1) // 2
            fits = self._tokens(_joined(" ".join(words[:middle]), t.sentence)) <= room
            low, high = (middle, high) if fits else (low, middle - 1)
        kept = caption if low == len(words) else " ".join(words[:low])
        return _joined(kept, t.sentence)

    def columns(self, text: str, which: str = ALL) -> Float[np.ndarray, "K L"]:
        """Weights of the text's positions for every target: the pieces of a mention add up, several
        mentions share one.

        Args:
          text: the prompt.
          which: "all" mentions, or the "last" one.

        Raises:
          ValueError: a trigger that the text lacks, or that lies behind the last token that is
            read.
        """
        columns = np.zeros((self.targets.count, self.length), np.float32)
        for row, word in enumerate(self.targets.words):
            places = self._read_mentions(text, word)
            for place in places if which == ALL else places[-1:]:
                columns[row, place] += 1.0
            columns[row] /= len(places) if which == ALL else 1
        return columns

    def bias(
        self, masks: Sequence[Float[np.ndarray, "H W"]], columns: Float[np.ndarray, "K L"]
    ) -> Float[np.ndarray, "1 N L"]:
        """1 between the masked tokens of the first latent frame and their trigger's positions, on
        all video tokens and text positions; the first axis is that of the heads."""
        frames = self.backbone.spec()["video"].shape[0] // self.backbone.model.config.patch_size[0]
        aims = np.stack([self.aim(mask) for mask in masks])
        first = np.einsum("kn,kl->nl", aims, (columns > 0).astype(np.float32))
        whole = np.zeros((1, frames * len(first), self.length), np.float32)
        whole[0, : len(first)] = first
        return whole

    def aim(self, mask: Float[np.ndarray, "H W"]) -> Float[np.ndarray, " N"]:
        """A mask on the tokens of the first latent frame."""
        cell = self.backbone.stride * self.backbone.model.config.patch_size[1]
        return pooled(mask, cell, self.targets.aim).ravel()

    def _read_mentions(self, text: str, word: str) -> list[list[int]]:
        found = mentions(self.tokenizer, self._cleaned(text), word)
        if not found:
            raise ValueError(
                f"the prompt {text!r} lacks the word {word!r}, by which the model finds its "
                f'target: put it before the noun, as in "picks up the {word} mug"'
            )
        # The last position that is read holds the end token.
        inside = [place for place in found if max(place) < self.length - 1]
        if not inside:
            raise ValueError(
                f"the word {word!r} is cut off: it is token {min(found[0]) + 1} of the prompt, the "
                f"model reads {self.length - 1}; shorten the text before it"
            )
        return inside

    def pieces(self, text: str) -> list[str]:
        """What the tokenizer makes of a text, the end token left out."""
        return self.tokenizer.pieces.surfaces(self._cleaned(text))[: self.length - 1]

    def _cleaned(self, text: str) -> str:
        return clean(text) if self.wan else text

    def _tokens(self, text: str) -> int:
        return len(self.tokenizer.pieces.encode(self._cleaned(text)))

    # ---- clips -----------------------------------------------------------------------------------

    def read(self, clip: Clip) -> dict[str, np.ndarray]:
        """Mask channels (h, w, K), text columns (K, L) and aims on tokens (K, N) of a clip.

        Raises:
          ClipError: a clip without the masks or the words, or with a mask that tells nothing.
        """
        masks = [self._mask(clip, number) for number in self.numbers(clip)]
        try:
            columns = self.columns(self.prompt(clip.caption), self.targets.mentions)
        except ValueError as error:
            raise ClipError(f"clip {clip.id!r}: {error}") from error
        return {
            MASK: latent_masks(masks, self.backbone.stride, self.targets.latent),
            COLUMNS: columns,
            AIM: np.stack([self.aim(mask) for mask in masks]),
        }

    def numbers(self, clip: Clip) -> list[int]:
        """Which of a clip's objects the targets are, counted from 1.

        Raises:
          ClipError: one that has no mask.
        """
        numbers = []
        for one in self.targets.objects:
            number = {TARGET: clip.target, ACTOR: clip.actor}.get(one, one)
            there = 0 if clip.masks is None else len(clip.masks)
            if not 1 <= number <= there:
                raise ClipError(
                    f"clip {clip.id!r}: has no mask of {one!r} (it has {there}); give "
                    f"config.data.clips.masks, or change targets.objects"
                )
            numbers.append(number)
        return numbers

    def _mask(self, clip: Clip, number: int) -> Float[np.ndarray, "H W"]:
        mask = clip.masks[number - 1].astype(np.float32)
        try:
            check_mask(mask, f"the mask of object {number}")
        except ValueError as error:
            raise ClipError(f"clip {clip.id!r}: {error}") from error
        return mask


def with_trigger(caption: str, word: str, nouns: Sequence[str]) -> str:
    """A caption with a trigger word before every mention of its noun, unless it is there already.

    Args:
      caption: to change.
      word: the trigger.
      nouns: of which the first one that the caption holds is meant.

    Raises:
      ValueError: a caption with none of them.
    """
    places = {}
    for noun in nouns:
        found = re.search(rf"(?<!\w){re.escape(noun)}(?!\w)", caption, re.IGNORECASE)
        if found:
            places[noun] = found.start()
    if not places:
        raise ValueError(f"the caption {caption!r} holds none of the nouns {', '.join(nouns)}")
    noun = min(places, key=places.get)
    pattern = rf"(?<!\w)(?:{re.escape(word)}\s+)?({re.escape(noun)})(?!\w)"
    return re.sub(pattern, rf"{word} \1", caption, flags=re.IGNORECASE)


def _joined(caption: str, sentence: str) -> str:
    caption = caption.rstrip()
    if caption and caption[-1] not in ".!?":
        caption += "."
    return f"{caption} {sentence}".strip()
