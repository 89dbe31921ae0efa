"""Wan's cleaning of prompts: as diffusers does it, and what it does to which text."""

import pytest

from tavid_jax.models.text.cleaning import clean

CASES = {
    "whitespace": ("  A\tdog\n\n runs \u3000 away\u00a0. ", "A dog runs away ."),
    "entities": ("Tom &amp; Jerry &lt;3", "Tom & Jerry <3"),
    "entities of entities": ("Tom &amp;amp; Jerry &amp;lt;3", "Tom & Jerry <3"),
    "entities are whitespace too": ("a&nbsp; b&amp;nbsp;", "a b"),
    "upper case stays": ("A DOG on Mars", "A DOG on Mars"),
    "mojibake": ("the cafÃ© isnâ€™t open", "the café isn't open"),
    "curly quotes": ("\u201cHi\u201d, it\u2019s", '"Hi", it\'s'),
    "Chinese": ("一只狗在草地上奔跑。电影感", "一只狗在草地上奔跑。电影感"),
    "full width": ("ＡＢＣ，一只狗！", "ABC,一只狗!"),
    "Japanese": ("ﾊﾟﾝダが  走る", "パンダが 走る"),
    "Arabic and emoji": ("كلب \U0001f436  يجري", "كلب \U0001f436 يجري"),
    "Russian mojibake": ("привет, мир".encode().decode("latin-1"), "привет, мир"),
    "composed": ("Cafe\u0301", "Caf\u00e9"),
    "empty": ("", ""),
    "nothing but whitespace": (" \n\t ", ""),
}


@pytest.mark.parametrize("case", CASES)
def test_cleaned(case: str):
    prompt, want = CASES[case]
    assert clean(prompt) == want


@pytest.mark.parity
@pytest.mark.parametrize("case", CASES)
def test_equals_diffusers(case: str):
    pytest.importorskip("diffusers")
    from diffusers.pipelines.wan import pipeline_wan

    prompt, _ = CASES[case]
    assert clean(prompt) == pipeline_wan.prompt_clean(prompt)


def test_twice_is_once():
    for prompt, _ in CASES.values():
        assert clean(clean(prompt)) == clean(prompt)
