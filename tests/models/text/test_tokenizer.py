"""Our tokenizers equal transformers' on the same files; rows, truncation and bad folders."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from tavid_jax.models.text.tokenizer import Tokenizer

MODEL = Path(__file__).parents[3] / "tavid_jax" / "models" / "text" / "captions.model"
PIECES = 211
PROMPTS = (
    "A pink striped dog circles around, over sand; the camera is still.",
    "",
    "   ",
    "  two\tpink \n dogs   and\u00a0a\u3000box ",
    "Ünïcödé ﬁsh Ａ　½ ｱ",
    "日本の犬が走る",
    "\U0001f436 dog\u200b\u200dpink",
    "e\u0301 \u00e9",
    "dogs",
    "x" * 300,
    "a <extra_id_0> dog<extra_id_17>, <extra_id_99>",
    "<extra_id_100> is none",
    "a</s>dog </s>",
    "<pad> red<unk>box <s> <PAD>",
    "▁a ▁dog",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder as CogVideoX has it: a sentencepiece model and its special tokens."""
    path = tmp_path_factory.mktemp("tokenizer")
    (path / "spiece.model").write_bytes(MODEL.read_bytes())
    extra = {f"<extra_id_{i}>": PIECES + 99 - i for i in range(100)}
    special = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    listed = {"<pad>": 0, "</s>": 1, "<unk>": 2} | extra
    config = {
        "tokenizer_class": "T5Tokenizer",
        "extra_ids": 100,
        "additional_special_tokens": list(extra),
        "added_tokens_decoder": {
            str(number): {
                "content": name,
                "lstrip": name in extra,
                "normalized": False,
                "rstrip": name in extra,
                "single_word": False,
                "special": True,
            }
            for name, number in listed.items()
        },
        **special,
    }
    (path / "added_tokens.json").write_text(json.dumps(extra))
    (path / "special_tokens_map.json").write_text(json.dumps(special))
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path


@pytest.fixture(scope="module")
def fast_folder(folder, tmp_path_factory) -> Path:
    """A folder as umT5 has it: with the file of the library tokenizers."""
    transformers = pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("fast")
    transformers.T5Tokenizer.from_pretrained(folder).save_pretrained(path)
    assert (path / "tokenizer.json").is_file()
    return path


@pytest.fixture(params=["sentencepiece", "tokenizers"])
def ours(request, folder) -> Tokenizer:
    """Both kinds of files."""
    where = folder if request.param == "sentencepiece" else request.getfixturevalue("fast_folder")
    return Tokenizer.open(where)


@pytest.mark.parity
@pytest.mark.parametrize("length", [1, 2, 7, 226])
def test_equals_the_fast_tokenizer(ours, folder, length: int):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.T5Tokenizer.from_pretrained(folder)
    want = theirs(
        list(PROMPTS), padding="max_length", truncation=True, max_length=length, return_tensors="np"
    )
    ids, mask = ours(PROMPTS, length)
    np.testing.assert_array_equal(ids, want["input_ids"])
    np.testing.assert_array_equal(mask, want["attention_mask"].astype(bool))


@pytest.mark.parity
def test_equals_the_slow_tokenizer(ours, folder):
    """transformers' tokenizer on sentencepiece, which adds no end by itself."""
    pytest.importorskip("transformers")
    from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

    class Slow(SentencePieceBackend):
        vocab_files_names = {"vocab_file": "spiece.model"}

    extra = [f"<extra_id_{i}>" for i in reversed(range(100))]
    theirs = Slow(
        vocab_file=str(folder / "spiece.model"),
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=extra,
    )
    for prompt in PROMPTS:
        want = theirs.encode(prompt, add_special_tokens=False)
        ids, mask = ours(prompt, 400)
        assert ids[0][mask[0]].tolist() == [*want, 1], prompt


def test_rows_end_and_are_padded(ours):
    ids, mask = ours(["a dog", "", "a pink dog"], 6)
    assert ids.dtype == np.int32 and mask.dtype == bool and ids.shape == mask.shape == (3, 6)
    np.testing.assert_array_equal(mask.sum(1), [3, 1, 4])
    np.testing.assert_array_equal(ids[np.arange(3), mask.sum(1) - 1], [1, 1, 1])
    assert not ids[~mask].any()
    single, _ = ours("a dog", 6)
    np.testing.assert_array_equal(single, ids[:1])
    none, seen = ours([], 6)
    assert none.shape == seen.shape == (0, 6)


def test_special_tokens_in_a_prompt_become_their_ids(ours):
    ids, mask = ours("dog</s>dog<pad><extra_id_0>", 10)
    dog = ours("dog", 2)[0][0, 0]
    assert ids[0][mask[0]].tolist() == [dog, 1, dog, 0, PIECES + 99, 1]
    assert ours.vocab_size == PIECES + 100


def test_truncation_keeps_the_end_and_warns_once(ours, caplog):
    text = "A red dog circles around, over sand; the camera drifts slowly."
    with caplog.at_level(logging.WARNING):
        ids, mask = ours([text, "a dog"], 6)
    assert ids[0, -1] == 1 and mask[0].all()
    assert ours.decode(ids[0]) == "A red dog circles around"
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert "the model reads 6" in message and "has 15 tokens" in message
    assert message.endswith("over sand; the camera drifts slowly.")
    caplog.clear()
    ours("A red dog circles around", 6)
    assert not caplog.records


def test_decoding_names_special_tokens(ours):
    ids, _ = ours("a dog <extra_id_3> is still.", 12)
    assert ours.decode(ids[0]).replace(" ", "") == "adog<extra_id_3>isstill."
    with_end, _ = ours("a</s>dog", 12)
    assert ours.decode(with_end[0]) == "a"


def test_no_room_for_the_end(ours):
    with pytest.raises(ValueError, match="length=0 tokens leave no room for the end token"):
        ours("a", 0)


def test_the_file_of_tokenizers_comes_first(folder, fast_folder, tmp_path):
    (tmp_path / "spiece.model").write_text("not read")
    (tmp_path / "tokenizer.json").write_bytes((fast_folder / "tokenizer.json").read_bytes())
    assert Tokenizer.open(tmp_path)("a dog", 3)[0].tolist() == [[3, 45, 1]]


def test_another_name_of_the_model_and_the_file_itself(folder, tmp_path):
    (tmp_path / "mt5.model").write_bytes(MODEL.read_bytes())
    for where in (tmp_path, tmp_path / "mt5.model", folder, folder / "spiece.model"):
        assert Tokenizer.open(where)("a dog", 3)[0].tolist() == [[3, 45, 1]]


def test_nothing_to_open(tmp_path):
    expected = "expected tokenizer.json, spiece.model or one other"
    with pytest.raises(ValueError, match=f"no tokenizer in {tmp_path}: {expected}.*found nothing"):
        Tokenizer.open(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=f"{tmp_path}: {expected}.*found config.json"):
        Tokenizer.open(str(tmp_path))
    with pytest.raises(ValueError, match="no tokenizer in .*absent"):
        Tokenizer.open(tmp_path / "absent")
    for name in ("a.model", "b.model"):
        (tmp_path / name).write_bytes(MODEL.read_bytes())
    with pytest.raises(ValueError, match="found a.model, b.model, config.json"):
        Tokenizer.open(tmp_path)


def test_damaged_and_other_files(folder, tmp_path):
    (tmp_path / "spiece.model").write_text("version https://git-lfs")
    with pytest.raises(ValueError, match="spiece.model is not a sentencepiece model"):
        Tokenizer.open(tmp_path)
    (tmp_path / "spiece.model").write_bytes(MODEL.read_bytes())
    (tmp_path / "added_tokens.json").write_text("{")
    with pytest.raises(ValueError, match="added_tokens.json: cannot be read as JSON"):
        Tokenizer.open(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="tokenizer.json is not a file of the library tokenizers"):
        Tokenizer.open(tmp_path)


def test_a_tokenizer_of_another_family(tmp_path):
    import tokenizers

    model = tokenizers.models.WordLevel({"<unk>": 0, "<pad>": 1, "</s>": 2}, unk_token="<unk>")
    tokenizers.Tokenizer(model).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="no tokenizer of T5: .* ids 1, 2 and 0, T5's are 0, 1"):
        Tokenizer.open(tmp_path)
