"""CLIP's tokenizer equals transformers', on a small vocabulary learned here."""

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from tavid_jax.models.text.clip_tokenizer import END, LENGTH, START, CLIPTokenizer

CORPUS = [
    "a photo of a cat and a dog running over the wet grass",
    "the red ball rolls to the left, then it doesn't stop",
    "two people shake hands in front of a house; 12345 birds",
    "ein Käfer läuft über den Tisch",
]
TEXTS = [
    "",
    "   ",
    "A Photo of a CAT!!",
    "the   dog's\n\tball -- it isn't (really) 2024...",
    "Über den Käfer, naïve café",
    "cafe\u0301 = caf\u00e9 ﬁ",
    "日本語 and emoji 🙂🙂 zq",
    "words <|endoftext|> behind the end <|startoftext|>!",
    "I'll we've they're I'd 'tis",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """vocab.json and merges.txt of a byte-pair vocabulary in CLIP's form."""
    learned = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learned.normalizer = normalizers.Lowercase()
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=700, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False
    )
    learned.train_from_iterator([word for line in CORPUS for word in line.split()], trainer)
    entries = json.loads(learned.to_str())["model"]
    vocabulary = dict(entries["vocab"])
    for token in [f"{letter}</w>" for letter in alphabet] + [START, END]:
        vocabulary.setdefault(token, len(vocabulary))
    place = tmp_path_factory.mktemp("clip")
    (place / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    pairs = [" ".join(pair) if isinstance(pair, list) else pair for pair in entries["merges"]]
    assert len(pairs) > 50
    (place / "merges.txt").write_text("\n".join(["#version: 0.2", *pairs]), encoding="utf-8")
    return place


def published(folder: Path):
    """transformers' tokenizer of the same files."""
    transformers = pytest.importorskip("transformers")
    return transformers.CLIPTokenizer.from_pretrained(folder)


@pytest.mark.parity
@pytest.mark.parametrize("length", [LENGTH, 9])
def test_ids_are_those_of_transformers(folder: Path, length: int):
    want = published(folder)(
        TEXTS, padding="max_length", truncation=True, max_length=length, return_tensors="np"
    )["input_ids"]
    got = CLIPTokenizer.open(folder, length)(TEXTS)
    assert got.dtype == np.int32 and got.shape == (len(TEXTS), length)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parity
def test_tokenizer_json_gives_the_same(folder: Path, tmp_path: Path):
    published(folder).backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    got, want = (CLIPTokenizer.open(place)(TEXTS) for place in (tmp_path, folder))
    np.testing.assert_array_equal(got, want)


def test_one_text_starts_and_ends(folder: Path):
    tokenizer = CLIPTokenizer.open(folder)
    (row,) = tokenizer("a cat")
    start, end = (tokenizer.pieces.token_to_id(token) for token in (START, END))
    assert row[0] == start and row.argmax() == int(np.flatnonzero(row == end)[0])
    assert (row[row.argmax() :] == end).all() and row.argmax() >= 3


def test_a_cut_is_shown(folder: Path, caplog):
    tokenizer = CLIPTokenizer.open(folder, 6)
    with caplog.at_level("WARNING"):
        (row,) = tokenizer("the cat and the dog!")
    assert "CLIP reads 4 tokens of a text of 6; not read: 'dog!'" in caplog.text
    assert row[5] == tokenizer.pieces.token_to_id(END)


def test_missing_and_broken_files_are_named(folder: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="holds no CLIP tokenizer.*tokenizer.json, or vocab.json"):
        CLIPTokenizer.open(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="is not a file of the library tokenizers"):
        CLIPTokenizer.open(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.json").write_text('{"a": 0, "<|endoftext|>": 1}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(ValueError, match=r"has no <\|startoftext\|>: it is not that of a CLIP"):
        CLIPTokenizer.open(tmp_path)


def test_a_length_without_room_is_refused(folder: Path):
    with pytest.raises(ValueError, match="length=1: the start and end tokens alone need 2"):
        CLIPTokenizer.open(folder, 1)
    assert CLIPTokenizer.open(folder, 2)("a cat").shape == (1, 2)
