"""The tokenizer of captions: what is shipped is what training gives, and it serves every scene."""

import re
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

import tavid_jax
from tavid_jax.data.synthetic import (
    SceneConfig,
    looks,
    motions,
    sample_scenes,
    shapes,
    toy,
    vocabulary,
)
from tavid_jax.data.synthetic.captions import caption, local_captions
from tavid_jax.models.text.tokenizer import Tokenizer

SHIPPED = Path(tavid_jax.__file__).parent / "models" / "text" / "captions.model"
FEW, MANY = 40, 1500
SCENES = {
    "demo": (SceneConfig(render=False), MANY),
    "everything": (
        SceneConfig(
            render=False, kinds=tuple(motions.KINDS), shapes=tuple(shapes.SHAPES), presence=0.5
        ),
        MANY,
    ),
    "interaction": (
        SceneConfig(
            render=False, interaction=True, targets=tuple(shapes.SHAPES), lookalikes=(0, 6)
        ),
        FEW,
    ),
}


def pieces(model: bytes) -> list[str]:
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [processor.id_to_piece(i) for i in range(processor.get_piece_size())]


def test_training_again_gives_the_same_pieces(tmp_path):
    assert vocabulary.main([str(tmp_path / "again.model")]) == 0
    again = pieces((tmp_path / "again.model").read_bytes())
    assert again == pieces(SHIPPED.read_bytes())
    assert again[:3] == ["<pad>", "</s>", "<unk>"]
    assert SHIPPED.stat().st_size < 250_000


@pytest.mark.parametrize("kind", SCENES)
def test_every_caption_is_written_in_words(kind: str):
    config, count = SCENES[kind]
    scenes = sample_scenes(config, range(10_000, 10_000 + count))
    texts = [text for scene in scenes for text in (caption(scene), *local_captions(scene))]
    tokenizer = Tokenizer.captions()
    ids, mask = tokenizer(texts, 96)
    assert 2 not in ids
    assert [tokenizer.decode(row) for row in ids] == texts
    words = np.array([len(re.findall(r"\w+|[,;.]", text)) for text in texts])
    assert (mask.sum(1) == words + 1).mean() > 0.99


@pytest.mark.parametrize(
    "config, count, longest",
    [
        (toy.moving_objects("all", colours=tuple(looks.PALETTE)), 400, 12),
        (toy.reaching(), FEW, 9),
        (toy.steered(), FEW, 8),
    ],
)
def test_every_word_of_a_short_caption_is_one_piece(config, count, longest):
    scenes = sample_scenes(config, range(10_000, 10_000 + count))
    texts = [caption(scene) for scene in scenes]
    ids, mask = Tokenizer.captions()(texts, longest)  # with the end
    np.testing.assert_array_equal(mask.sum(1), [len(text.split()) + 1 for text in texts])
    assert 2 not in ids


def test_any_english_prompt_can_be_written():
    text = 'Hello, WORLD! (42% of ~99 x_y\'s) [a/b] {c} "q" #1 @home & 3*4=12; <s> $5^2|\\`?'
    ids, _ = Tokenizer.captions()(text, 200)
    assert 2 not in ids and Tokenizer.captions().decode(ids[0]) == text
