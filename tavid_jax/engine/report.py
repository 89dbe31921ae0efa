"""A report: one HTML page that needs no other file and no network. Knows numbers and bytes only.

Callers hand over plain values, so a method can fill a report that it was given without importing
anything from here: a cell is text, a number or a (value, low, high) triple; a column is a name or
a dict; pictures and films are bytes.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tavid_jax import places
from tavid_jax.engine import report_markup as markup
from tavid_jax.engine import report_template as template
from tavid_jax.engine.report_table import Column, table_html
from tavid_jax.engine.report_values import plain, write_metrics
from tavid_jax.places import Place

__all__ = ["Column", "Report", "sniff", "write_metrics"]


@dataclasses.dataclass
class _Section:
    title: str
    anchor: str
    parts: list[str] = dataclasses.field(default_factory=list)
    grid: int | None = None  # least width of the grid of clips that is open at the end


class Report:
    """Collects blocks in order and writes them as one page.

    Every method returns the report, so that calls can be chained. Text arguments named `note`,
    `caption` and `text` may use the marks of `report_markup.markdown`; all else is escaped.
    """

    def __init__(self, title: str, subtitle: str = ""):
        self.title, self.subtitle = title, subtitle
        self._sections = [_Section("Overview", "overview")]
        self._provenance: dict[str, Any] = {}

    def section(self, title: str, text: str = "") -> Report:
        """Begin a section; it gets a heading and a line in the contents."""
        anchor = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
        taken = {section.anchor for section in self._sections} | {"provenance", "provenance-table"}
        unique, n = anchor, 2
        while unique in taken:
            unique, n = f"{anchor}-{n}", n + 1
        self._sections.append(_Section(title, unique))
        return self.text(text) if text else self

    def text(self, text: str) -> Report:
        """Paragraphs, lists, "### " headings, ``` fences, `code`, **bold**, [links](address)."""
        return self._add(markup.markdown(text))

    def key_numbers(self, items: Iterable[Mapping[str, Any]]) -> Report:
        """Large numbers side by side.

        Each: {"label", "value"} and optionally "unit", "interval": (low, high), "detail", "digits".
        """
        cards = [_number_card(item) for item in items]
        return self._add(f'<div class="numbers">{"".join(cards)}</div>')

    def verdict(
        self,
        subject: str,
        reference: str,
        difference: Sequence[Any],
        *,
        unit: str = "",
        better: str = "lower",
        digits: int | None = None,
        note: str = "",
    ) -> Report:
        """One line in words: "ours is better than stand-still by 0.79 px [0.56, 1.03]".

        `difference` is (value, low, high) of subject minus reference; where the interval holds
        zero the line says that the two cannot be told apart.
        """
        words, mood = markup.verdict(
            subject, reference, difference, unit=unit, better=better, digits=digits
        )
        sign = {"good": "✓", "bad": "✗", "even": "≈"}[mood]
        rest = f" {markup.inline(note)}" if note else ""
        line = f"<b>{sign}</b><span>{markup.escape(words)}.{rest}</span>"
        return self._add(f'<p class="verdict {mood}">{line}</p>')

    def table(
        self,
        name: str,
        columns: Sequence[str | Mapping[str, Any] | Column],
        rows: Sequence[Sequence[Any]],
        note: str = "",
        *,
        highlight: str | Sequence[str] = (),
        reference: str | Sequence[str] = (),
    ) -> Report:
        """A table; the first cell of a row is its label.

        Args:
          columns: of the label first; a name, or a dict of the fields of `Column`.
          rows: cells are text, numbers, (value, low, high) or None. The best number of a column
            that says what is better is set in bold.
          highlight: labels of the rows to stand out (ours).
          reference: labels of rows that are shown but do not compete (the truth).

        Raises:
          ValueError: a row of another length than the columns.
        """
        return self._add(table_html(name, columns, rows, note, highlight, reference))

    def figure(self, data: bytes, caption: str = "") -> Report:
        """A plot at full width: SVG (set inline, so it follows the theme), PNG, JPEG or WebP."""
        mime = sniff(data)
        picture = _inline_svg(data) if mime == "image/svg+xml" else _tag(data, mime, caption)
        words = f"<figcaption>{markup.inline(caption)}</figcaption>" if caption else ""
        return self._add(f'<figure><div class="card plot">{picture}</div>{words}</figure>')

    def media(self, data: bytes, caption: str = "", *, least_width: int = 460) -> Report:
        """A clip or picture (WebP, GIF, PNG, JPEG, mp4). Calls in a row fill a responsive grid.

        least_width: px below which a clip is not shrunk as long as the window is wider.
        """
        words = f"<figcaption>{markup.inline(caption)}</figcaption>" if caption else ""
        item = f'<figure class="card">{_tag(data, sniff(data), caption)}{words}</figure>'
        section = self._sections[-1]
        if section.grid != least_width:
            self._add(f'<div class="grid" style="--least: {int(least_width)}px">')
            section.grid = least_width
        section.parts.append(item)
        return self

    def details(self, summary: str, text: str) -> Report:
        """Preformatted text that opens on a click: a whole config, a list of skipped files."""
        body = f"<pre><code>{markup.escape(text)}</code></pre>"
        return self._add(f"<details><summary>{markup.escape(summary)}</summary>{body}</details>")

    def provenance(self, values: Mapping[str, Any]) -> Report:
        """What made this: shown at the end, and as JSON in the element `#provenance`."""
        self._provenance.update(values)
        return self

    def html(self) -> str:
        """The whole page."""
        sections = [section for section in self._sections if section.parts]
        if self._provenance:
            sections.append(_provenance_section(self._provenance))
        contents = "".join(
            f'<li><a href="#{s.anchor}">{markup.escape(s.title)}</a></li>' for s in sections
        )
        machine = json.dumps(plain(self._provenance), sort_keys=True)
        subtitle = (
            f'<p class="subtitle">{markup.inline(self.subtitle)}</p>' if self.subtitle else ""
        )
        return template.PAGE.format(
            title=markup.escape(self.title),
            subtitle=subtitle,
            style=template.STYLE,
            theme_script=template.THEME_SCRIPT,
            script=template.SCRIPT,
            contents=contents,
            sections="\n".join(_section_html(section) for section in sections),
            # "</script>" inside a string must not end the element.
            provenance=machine.replace("<", "\\u003c"),
            footer="Self-contained page: it can be moved, mailed and opened offline.",
        )

    def write(self, path: str | os.PathLike) -> Place:
        """Write the page, whole or not at all; a path that is not *.html is a folder."""
        path = places.place(path)
        if path.suffix.lower() not in (".html", ".htm"):
            path = path / "index.html"
        places.write_text(path, self.html())
        return path

    def _add(self, part: str) -> Report:
        section = self._sections[-1]
        if section.grid is not None:
            section.parts.append("</div>")
            section.grid = None
        section.parts.append(part)
        return self


def sniff(data: bytes) -> str:
    """MIME type of picture or film bytes by how they begin.

    Raises:
      ValueError: none of SVG, PNG, JPEG, GIF, WebP, mp4.
    """
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "image/png"
    if data[:3] == b"\xff\xd8\xff":
        return "image/jpeg"
    if data[:4] == b"GIF8":
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp":
        return "video/mp4"
    if b"<svg" in data[:1000]:
        return "image/svg+xml"
    raise ValueError(f"bytes beginning with {data[:12]!r} are no SVG, PNG, JPEG, GIF, WebP or mp4")


def _number_card(item: Mapping[str, Any]) -> str:
    value, digits = item["value"], item.get("digits")
    shown = markup.number(value, digits) if markup.is_number(value) else str(value)
    unit = f'<span class="unit">{markup.escape(item["unit"])}</span>' if item.get("unit") else ""
    detail = markup.inline(str(item.get("detail", "")))
    if item.get("interval") is not None:
        low, high = (markup.number(end, digits) for end in item["interval"])
        detail = f"[{low}, {high}]" + (f" · {detail}" if detail else "")
    return (
        f'<div class="number"><div class="label">{markup.escape(item["label"])}</div>'
        f'<div class="value">{markup.escape(shown)}{unit}</div>'
        f'<div class="detail">{detail}</div></div>'
    )


def _tag(data: bytes, mime: str, caption: str) -> str:
    address = f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"
    label = markup.escape(re.sub(r"[`*]", "", caption))
    if mime.startswith("video/"):
        return (
            f'<video src="{address}" aria-label="{label}" autoplay loop muted playsinline></video>'
        )
    return f'<img src="{address}" alt="{label}" loading="lazy">'


def _inline_svg(data: bytes) -> str:
    """The <svg> element alone: no prolog, and nothing that could run."""
    text = data.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<script\b.*?</script\s*>", "", text, flags=re.DOTALL | re.IGNORECASE)
    return re.sub(r"\son\w+\s*=\s*(\"[^\"]*\"|'[^']*')", "", text, flags=re.IGNORECASE)


def _section_html(section: _Section) -> str:
    parts = [*section.parts, "</div>"] if section.grid is not None else section.parts
    heading = f"<h2>{markup.escape(section.title)}</h2>" if section.anchor != "overview" else ""
    return f'<section id="{section.anchor}">{heading}{"".join(parts)}</section>'


def _provenance_section(values: Mapping[str, Any]) -> _Section:
    rows = "".join(
        f'<tr><th scope="row">{markup.escape(key)}</th>'
        f'<td class="words"><code>{markup.escape(_shown(value))}</code></td></tr>'
        for key, value in values.items()
    )
    table = f'<figure class="card"><div class="scroll"><table>{rows}</table></div></figure>'
    return _Section("Provenance", "provenance-table", [table])


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(plain(value), sort_keys=True)
