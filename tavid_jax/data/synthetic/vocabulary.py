"""A small sentencepiece model for captions, trained on captions of random scenes.

    python -m tavid_jax.data.synthetic.vocabulary captions.model

Of T5's kind: unigram pieces, NFKC normalisation, padding 0, end 1, unknown 2. Every word of a
caption becomes a piece, and all printable ASCII characters are, so that any English prompt can be
written with it.
"""

import argparse
import dataclasses
import io
import re
import string
from collections.abc import Iterator, Sequence
from pathlib import Path

import sentencepiece

from tavid_jax.data.synthetic import looks, motions, shapes, toy
from tavid_jax.data.synthetic.captions import caption, local_captions
from tavid_jax.data.synthetic.config import SceneConfig
from tavid_jax.data.synthetic.scene import sample_scenes

# Everything that has a word, and how many scenes are enough to meet all of it. Roaming and
# travelling have no words of their own and came later: models are trained with the pieces that
# there were without them.
_ALL = SceneConfig(
    render=False,
    kinds=tuple(kind for kind in motions.KINDS if kind not in ("roam", "travel")),
    shapes=tuple(shapes.SHAPES),
    targets=tuple(shapes.SHAPES),
    lookalikes=(0, 6),
)
_CORPUS = (
    (_ALL, 1500),
    (dataclasses.replace(_ALL, presence=0.1), 20),  # empty ones too
    (dataclasses.replace(_ALL, interaction=True), 200),
    (toy.moving_objects("all", colours=tuple(looks.PALETTE), render=False), 300),
    (toy.reaching(colours=tuple(looks.PALETTE), render=False), 100),
)
_MOST_PIECES = 512
_CHARACTERS = string.ascii_letters + string.digits + string.punctuation


def corpus() -> Iterator[str]:
    """Captions of scenes, of their objects, and lines that make every word a candidate."""
    words = set()
    for config, scenes in _CORPUS:
        for scene in sample_scenes(config, range(scenes)):
            for line in (caption(scene), *local_captions(scene)):
                words |= set(re.findall(r"\w+", line))
                yield line
    # What occurs in one word only is never tried as a piece: "pink," is another than "pink".
    for word in sorted(words):
        yield f"{word} {word}, {word}."


def train() -> bytes:
    """The serialised model; the same in every run."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=corpus(),
        model_writer=model,
        model_type="unigram",
        vocab_size=_MOST_PIECES,
        hard_vocab_limit=False,  # fewer are enough
        character_coverage=1.0,
        required_chars=_CHARACTERS,
        normalization_rule_name="nmt_nfkc",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,  # sums in one order
        minloglevel=1,
    )
    return model.getvalue()


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the model; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tavid_jax.data.synthetic.vocabulary", description=__doc__.splitlines()[0]
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="file to write, e.g. captions.model")
    args = parser.parse_args(argv)
    args.out.write_bytes(train())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
