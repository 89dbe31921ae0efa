"""How Wan cleans prompts before they are tokenised. CogVideoX does not."""

import html
import re

import ftfy

_WHITESPACE = re.compile(r"\s+")


def clean(prompt: str) -> str:
    """The prompt without mojibake, HTML entities and superfluous whitespace; upper case stays.

    Text that was decoded with the wrong table is repaired (`ftfy`, which also writes full-width
    Latin letters and punctuation at their usual width and curly quotes as straight ones);
    entities are replaced twice, because scraped captions hold "&amp;amp;"; every run of
    whitespace becomes one space.
    """
    text = html.unescape(html.unescape(ftfy.fix_text(prompt)))
    return _WHITESPACE.sub(" ", text).strip()
