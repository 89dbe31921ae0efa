"""Text and numbers to HTML: a small safe Markdown, numbers with intervals, verdicts in words."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from typing import Any

_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`]+)`")
_BOLD = re.compile(r"\*\*(.+?)\*\*")
_ITALIC = re.compile(r"(?<![\w*])\*([^*\s][^*]*)\*(?![\w*])")
_SAFE_ADDRESS = re.compile(r"(https?://|mailto:|#|[\w./-]+$)", re.IGNORECASE)


def escape(text: Any) -> str:
    """Text as HTML text or attribute value."""
    return html.escape(str(text), quote=True)


def inline(text: str) -> str:
    """`code`, **bold**, *italic* and [links](address); everything else is escaped.

    Addresses other than http(s), mailto, #anchors and plain relative ones stay text.
    """
    # Code is taken out first, so that nothing inside it is read as markup.
    codes: list[str] = []

    def keep(match: re.Match) -> str:
        codes.append(f"<code>{escape(match[1])}</code>")
        return f"\x00{len(codes) - 1}\x00"

    def link(match: re.Match) -> str:
        address = html.unescape(match[2])
        if not _SAFE_ADDRESS.match(address):
            return match[0]
        return f'<a href="{escape(address)}">{match[1]}</a>'

    text = _CODE.sub(keep, text.replace("\x00", ""))
    text = _LINK.sub(link, escape(text))
    text = _ITALIC.sub(r"<em>\1</em>", _BOLD.sub(r"<strong>\1</strong>", text))
    return re.sub("\x00(\\d+)\x00", lambda match: codes[int(match[1])], text)


def markdown(text: str) -> str:
    """Paragraphs, "### " headings, "- " and "1. " lists, ``` fences, and `inline` marks."""
    out = []
    for i, part in enumerate(re.split(r"^```\w*\n(.*?)^```[ \t]*$", text, flags=re.M | re.S)):
        if i % 2:
            out.append(f"<pre><code>{escape(part.rstrip())}</code></pre>")
        else:
            out += [_block(block) for block in re.split(r"\n\s*\n", part) if block.strip()]
    return "\n".join(out)


def _block(block: str) -> str:
    lines = [line.strip() for line in block.strip().splitlines()]
    if lines[0].startswith("### "):
        rest = "\n".join(lines[1:])
        return f"<h3>{inline(lines[0][4:])}</h3>" + (_block(rest) if rest else "")
    for pattern, tag in ((r"[-*] ", "ul"), (r"\d+\. ", "ol")):
        if re.match(pattern, lines[0]):
            # Lines without a marker of their own continue the item above.
            items = re.split(rf"\n(?={pattern})", "\n".join(lines))
            items = [inline(re.sub(pattern, "", item, count=1)) for item in items]
            return f"<{tag}>" + "".join(f"<li>{item}</li>" for item in items) + f"</{tag}>"
    return f"<p>{inline(' '.join(lines))}</p>"


def is_number(value: Any) -> bool:
    """A real scalar of Python, NumPy or JAX (booleans are not numbers here)."""
    if isinstance(value, bool | str | bytes) or getattr(value, "shape", ()) != ():
        return False
    kind = getattr(getattr(value, "dtype", None), "kind", "f")
    return kind != "b" and hasattr(value, "__float__")


def is_interval(value: Any) -> bool:
    """(value, low, high)."""
    return isinstance(value, tuple | list) and len(value) == 3 and all(map(is_number, value))


def number(value: Any, digits: int | None = None) -> str:
    """A number as people write it: a true minus, thousands apart, en dash for what is not finite.

    digits: decimals; None keeps three significant ones.
    """
    value = float(value)
    if not math.isfinite(value):
        return "–" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if digits is None:
        size = abs(value)
        if size and (size < 1e-3 or size >= 1e7):
            mantissa, exponent = f"{value:.2e}".split("e")
            return f"{mantissa}·10{_superscript(int(exponent))}".replace("-", "−")
        whole = value == round(value)
        digits = 0 if whole or not size else max(0, 2 - math.floor(math.log10(size)))
    text = f"{value:,.{digits}f}".replace(",", "\u202f")
    if float(f"{value:.{digits}f}") == 0.0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def interval(triple: Sequence[Any], digits: int | None = None) -> str:
    """`4.83 [4.61, 5.07]`."""
    value, low, high = triple
    if digits is None:
        digits = _shared_digits(triple)
    text = number(value, digits)
    if not (math.isfinite(float(low)) and math.isfinite(float(high))):
        return text
    return f"{text} [{number(low, digits)}, {number(high, digits)}]"


def verdict(
    subject: str,
    reference: str,
    difference: Sequence[Any],
    *,
    unit: str = "",
    better: str = "lower",
    digits: int | None = None,
) -> tuple[str, str]:
    """A comparison in words, and "good", "bad" or "even".

    Args:
      difference: (value, low, high) of subject minus reference.
      better: "lower" or "higher": which sign is good.

    Returns:
      ("ours is better than stand-still by 0.79 px [0.56, 1.03]", "good") where the interval is on
      one side of zero, else (".. cannot be told from ..", "even"). A non-finite interval is "even".

    Raises:
      ValueError: `better` is neither.
    """
    if better not in ("lower", "higher"):
        raise ValueError(f"better must be 'lower' or 'higher', got {better!r}")
    sign = -1.0 if better == "lower" else 1.0
    value, *ends = (sign * float(x) for x in difference)
    low, high = sorted(ends)
    space = f" {unit}" if unit else ""
    if low > 0 or high < 0:
        word, mood = ("better", "good") if low > 0 else ("worse", "bad")
        if mood == "bad":
            value, low, high = -value, -high, -low
        shown = interval((value, low, high), digits).replace(" [", f"{space} [", 1)
        return f"{subject} is {word} than {reference} by {shown}", mood
    shown = interval(difference, digits).replace(" [", f"{space} [", 1)
    return f"{subject} cannot be told from {reference}: difference {shown}", "even"


def _shared_digits(triple: Sequence[Any]) -> int:
    """Decimals that show the value to three significant digits; its ends get as many."""
    sizes = [abs(float(x)) for x in triple if math.isfinite(float(x)) and float(x)]
    return min(6, max(0, 2 - math.floor(math.log10(max(sizes))))) if sizes else 2


def _superscript(value: int) -> str:
    return str(value).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
