"""Words found among a tokenizer's pieces, whatever it makes of them; both kinds of files."""

import pytest
import tokenizers

from tavid_jax.models.text.mentions import mentions
from tavid_jax.models.text.tokenizer import Tokenizer

# Besides single characters; "get" and "tar" so that some words are cut in several pieces.
WORDS = ("▁target", "▁the", "▁mug", "▁a", "tar", "get", "▁picks", "▁up", "target", "▁target,")


@pytest.fixture(scope="module")
def unigram(tmp_path_factory) -> Tokenizer:
    """A tokenizer.json of T5's kind: pieces with a mark for spaces, and unknown characters."""
    characters = [chr(i) for i in range(33, 127) if chr(i) not in "Z~"]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(word, -3.0 - 0.01 * i) for i, word in enumerate(WORDS)]
    pieces += [(c, -9.0) for c in characters]
    model = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=2))
    model.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.NFKC(), tokenizers.normalizers.Replace(tokenizers.Regex(" +"), " ")]
    )
    model.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(replacement="▁")
    model.decoder = tokenizers.decoders.Metaspace(replacement="▁")
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    model.save(str(file))
    return Tokenizer.open(file)


@pytest.fixture(scope="module")
def captions() -> Tokenizer:
    """A sentencepiece model; most words are cut into single letters."""
    return Tokenizer.captions()


@pytest.fixture(params=["unigram", "captions"])
def tokenizer(request) -> Tokenizer:
    return request.getfixturevalue(request.param)


def found(tokenizer, text, word):
    """The pieces of every mention, as text."""
    surfaces = tokenizer.pieces.surfaces(text)
    places = mentions(tokenizer, text, word)
    assert all(place == sorted(set(place)) for place in places)
    assert all(max(place) < len(tokenizer.pieces.encode(text)) for place in places)
    return ["".join(surfaces[i] for i in place).strip() for place in places]


def test_every_piece_has_its_id(tokenizer):
    for text in ("picks up the target mug", "Zebra ~ [TGT]\n and  the target,", "日本 target", ""):
        surfaces = tokenizer.pieces.surfaces(text)
        assert len(surfaces) == len(tokenizer.pieces.encode(text))


@pytest.mark.parametrize(
    ("text", "mentioned"),
    [
        ("picks up the target mug", ["target"]),
        ("target", ["target"]),
        ("the target, the target. a target", ["target"] * 3),
        ("Target mug, TARGET", ["Target", "TARGET"]),
        ('the "target" (target)', ["target"] * 2),
        ("targets on targeted retarget a_target", []),
        ("target's mug; target-mug", ["target"] * 2),
        ("日本 ~~ Zoé the   target\nmug", ["target"]),
        ("ｔａｒｇｅｔ mug", ["target"]),
        ("the mug", []),
        ("", []),
    ],
)
def test_whole_words_in_any_case_beside_anything(tokenizer, text, mentioned):
    """A piece that a mention shares with a comma or a quote belongs to it."""
    got = [piece.strip("\"(),.'-;") for piece in found(tokenizer, text, "target")]
    assert got == mentioned


def test_a_word_of_several_pieces(tokenizer):
    pieces = mentions(tokenizer, "the [TGT] mug and [tgt]", "[TGT]")
    assert [len(place) >= 3 for place in pieces] == [True, True]
    assert found(tokenizer, "the [TGT] mug", "[TGT]") == ["[TGT]"]
    assert found(tokenizer, "x[TGT]y", "[TGT]") == ["[TGT]"]  # brackets end a word themselves
    assert found(tokenizer, "the red mug, a red mugs", "red mug") == ["red mug"]
    (words,) = found(tokenizer, "the red\n mug", "red  mug")
    assert words.split() == ["red", "mug"]


def test_one_piece_that_holds_the_comma_too(unigram):
    assert unigram.pieces.surfaces("the target, a mug")[1] == " target,"
    assert mentions(unigram, "the target, a mug", "target") == [[1]]


def test_positions_behind_unknown_characters(unigram):
    text = "Z~Z the target"
    surfaces = unigram.pieces.surfaces(text)
    ((place,),) = mentions(unigram, text, "target")
    assert surfaces[place] == " target"
    ids = unigram.pieces.encode(text)
    assert 2 in ids and ids[place] == unigram.pieces.encode("target")[0]


def test_no_word_at_all(tokenizer):
    for word in ("", "  "):
        with pytest.raises(ValueError, match="the word to look for is empty"):
            mentions(tokenizer, "the target", word)
