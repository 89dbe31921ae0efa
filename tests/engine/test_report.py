"""The report: valid self-contained HTML, numbers, intervals and verdicts; metrics.json."""

import html.parser
import json
import math
import os
import re

import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.engine import report_markup as markup
from tavid_jax.engine.report import Column, Report, sniff, write_metrics

PNG = b"\x89PNG\r\n\x1a\n rest"
WEBP = b"RIFF\x00\x00\x00\x00WEBP rest"
MP4 = b"\x00\x00\x00\x20ftypisom rest"
SVG = b'<?xml version="1.0"?><!DOCTYPE svg><svg width="9"><path d="M0 0" onload="x()"/></svg>'
EVIL = "<script>alert('x')</script>\"&"
VOID = {"meta", "link", "img", "br", "input", "hr", "path"}


class Page(html.parser.HTMLParser):
    """Checks that tags nest, and collects attributes and text."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.links, self.addresses, self.words = [], [], [], [], []
        self.tags: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name == "href":
                self.links.append(value)
            if name in ("src", "href", "srcset", "poster", "data", "action"):
                self.addresses.append((tag, value))
            assert not name.startswith("on"), f"{tag} has a handler {name}"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


def full_report() -> Report:
    return (
        Report("Title " + EVIL, "sub " + EVIL)
        .key_numbers([{"label": EVIL, "value": 4.8312, "unit": "px", "interval": (4.61, 5.07)}])
        .verdict("ours", "stand-still", (-0.79, -1.03, -0.56), unit="px", note=EVIL)
        .section("Results " + EVIL, "See **this** and [there](#data).")
        .table("T " + EVIL, ["a", EVIL], [[EVIL, EVIL]], note=EVIL)
        .figure(SVG, "plot " + EVIL)
        .figure(PNG, "sheet")
        .section("Clips")
        .media(WEBP, "clip " + EVIL)
        .media(MP4, "film")
        .text("after the grid")
        .details("Config " + EVIL, EVIL)
        .provenance({"config": "abc123", "seed": 3, "weights": EVIL})
    )


def test_page_is_valid_and_self_contained():
    page = Page(full_report().html())
    assert not page.open
    assert len(page.ids) == len(set(page.ids))
    for tag, address in page.addresses:
        assert address.startswith(("data:", "#")), (tag, address)
    style = full_report().html()
    assert "@import" not in style and not re.search(r"url\((?!data:|#)", style)
    assert {"img", "video", "svg", "table", "nav"} <= set(page.tags)


def test_links_of_the_contents_lead_somewhere():
    page = Page(full_report().html())
    anchors = [link[1:] for link in page.links if link.startswith("#") and link != "#data"]
    assert len(anchors) == 4  # overview, two sections, provenance
    assert set(anchors) <= set(page.ids)


def test_everything_is_escaped():
    text = full_report().html()
    page = Page(text)
    assert "<script>alert" not in text
    assert page.tags.count("script") == 3  # theme, provenance, behaviour
    assert "onload" not in text.split("<svg")[1].split("</svg>")[0]
    assert EVIL in page.text


def test_svg_is_set_inline_without_its_prolog():
    text = Report("t").figure(SVG).html()
    assert '<svg width="9">' in text and "<?xml" not in text and "DOCTYPE svg" not in text


def test_clips_in_a_row_share_a_grid():
    report = Report("t").media(WEBP).media(WEBP).text("between").media(WEBP)
    report.media(WEBP, least_width=700)
    assert report.html().count('class="grid"') == 3


def test_sections_of_the_same_name_get_their_own_anchor():
    page = Page(
        Report("t").section("A b", "x").section("A b", "y").section("Provenance", "z").html()
    )
    assert {"a-b", "a-b-2", "provenance-2"} <= set(page.ids)


def test_empty_report_is_a_page():
    assert Page(Report("nothing").html()).tags.count("section") == 0


def test_table_marks_winners_units_and_rows():
    report = Report("t").table(
        "Forecasts",
        [
            "forecast",
            {"name": "ADE", "unit": "px", "better": "lower", "digits": 2},
            Column("F1", better="higher"),
            Column("FlowTV", better="target", target=166.0, digits=0),
        ],
        [
            ["ours", (4.83, 4.61, 5.07), np.float32(0.9), 186],
            ["still", 5.63, jnp.float32(0.95), 0],
            ["broken", math.nan, None, "failed"],
            ["truth", 0.0, 1.0, 166],
        ],
        highlight="ours",
        reference=["truth"],
    )
    text = report.html()
    best = re.findall(r'<td class="best">(.*?)</td>', text)
    assert [re.sub(r"<.*?>", "", cell) for cell in best] == ["4.83 [4.61, 5.07]", "186", "0.950"]
    assert '<tr class="ours"><th scope="row">ours' in text
    assert '<tr class="reference"><th scope="row">truth' in text
    assert "4.83 [4.61, 5.07]" in Page(text).text
    assert '<span class="unit">px</span>' in text and "ADE ↓" in text and "F1 ↑" in text
    assert "<td>–</td>" in text and "nan" not in Page(text).text


def test_single_value_is_no_winner():
    text = Report("t").table("x", ["a", Column("b", better="lower")], [["one", 1.0]]).html()
    assert 'class="best"' not in text


def test_wrong_tables_are_named():
    with pytest.raises(ValueError, match=r"table 'T': row \['a'\] has 1 cells for 2 columns"):
        Report("t").table("T", ["x", "y"], [["a"]])
    with pytest.raises(ValueError, match="column 'c': better must be one of"):
        Column("c", better="smaller")
    with pytest.raises(ValueError, match="column 'c': better='target'"):
        Column("c", better="target")


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (4.8312, None, "4.83"),
        (4.8312, 1, "4.8"),
        (-0.79, None, "−0.790"),
        (-0.001, 1, "0.0"),
        (1935.4, 0, "1\u202f935"),
        (12, None, "12"),
        (0, None, "0"),
        (0.00012, None, "1.20·10⁻⁴"),
        (math.nan, 2, "–"),
        (-math.inf, None, "−∞"),
        (np.float32(0.5), 2, "0.50"),
    ],
)
def test_numbers_as_people_write_them(value, digits, shown):
    assert markup.number(value, digits) == shown


def test_intervals():
    assert markup.interval((4.8312, 4.61, 5.07)) == "4.83 [4.61, 5.07]"
    assert markup.interval((4.8312, 4.61, 5.07), 1) == "4.8 [4.6, 5.1]"
    assert markup.interval((4.8312, math.nan, math.nan), 2) == "4.83"


def test_what_counts_as_a_number():
    for yes in (1, 1.0, np.float32(1), np.int64(1), jnp.float32(1), np.array(2.0)):
        assert markup.is_number(yes)
    for no in (True, np.bool_(True), "1", None, [1], np.zeros(2), b"1"):
        assert not markup.is_number(no)


@pytest.mark.parametrize(
    ("difference", "better", "words", "mood"),
    [
        ((-0.79, -1.03, -0.56), "lower", "a is better than b by 0.79 px [0.56, 1.03]", "good"),
        ((0.79, 0.56, 1.03), "lower", "a is worse than b by 0.79 px [0.56, 1.03]", "bad"),
        ((0.79, 0.56, 1.03), "higher", "a is better than b by 0.79 px [0.56, 1.03]", "good"),
        ((-0.1, -0.3, 0.1), "lower", "difference −0.10 px [−0.30, 0.10]", "even"),
        ((-0.1, -0.3, 0.0), "lower", "a cannot be told from b", "even"),
        ((-0.1, math.nan, math.nan), "lower", "cannot be told", "even"),
    ],
)
def test_verdicts(difference, better, words, mood):
    text, got = markup.verdict("a", "b", difference, unit="px", better=better, digits=2)
    assert words in text and got == mood
    page = Page(Report("t").verdict("a", "b", difference, unit="px", better=better).html())
    assert {"good": "✓", "bad": "✗", "even": "≈"}[mood] in page.text


def test_verdict_needs_a_direction():
    with pytest.raises(ValueError, match="'lower' or 'higher'"):
        markup.verdict("a", "b", (1.0, 0.0, 2.0), better="more")


def test_markdown_lite():
    text = markup.markdown(
        "### Head\nbody *soft* **hard**\n\n- one `a*b*c` <b>\n- two\n  goes on\n\n"
        "1. first\n2. second\n\n"
        "```bash\nx < 1 && y\n```\nafter [l](https://x.org/a?b=1&c=2) [bad](javascript:alert(1))"
    )
    assert "<h3>Head</h3><p>body <em>soft</em> <strong>hard</strong></p>" in text
    assert "<li>one <code>a*b*c</code> &lt;b&gt;</li><li>two\ngoes on</li>" in text
    assert "<ol><li>first</li><li>second</li></ol>" in text
    assert "<pre><code>x &lt; 1 &amp;&amp; y</code></pre>" in text
    assert '<a href="https://x.org/a?b=1&amp;c=2">l</a>' in text
    assert 'href="javascript' not in text
    Page(text)


def test_provenance_is_readable_by_machines():
    text = full_report().html()
    found = re.search(r'<script type="application/json" id="provenance">(.*?)</script>', text, re.S)
    assert json.loads(found[1]) == {"config": "abc123", "seed": 3, "weights": EVIL}
    assert "abc123" in Page(text).text


def test_sniffing():
    kinds = {PNG: "image/png", WEBP: "image/webp", MP4: "video/mp4", SVG: "image/svg+xml"}
    kinds |= {b"GIF89a": "image/gif", b"\xff\xd8\xff\xe0": "image/jpeg"}
    assert {data: sniff(data) for data in kinds} == kinds
    with pytest.raises(ValueError, match="no SVG, PNG"):
        Report("t").media(b"plain text")


def test_write_makes_folders_and_is_atomic(tmp_path, monkeypatch):
    path = full_report().write(tmp_path / "run" / "report")
    assert path == tmp_path / "run" / "report" / "index.html"
    before = path.read_text(encoding="utf-8")
    assert Page(before).text

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        Report("other").write(path)
    assert path.read_text(encoding="utf-8") == before
    assert os.listdir(path.parent) == ["index.html"]


def test_metrics_are_plain_sorted_json(tmp_path):
    path = write_metrics(
        tmp_path / "report" / "metrics.json",
        {
            "z": np.float32(0.5),
            "a": {
                "nan": math.nan,
                "inf": np.float64(np.inf),
                "n": np.int64(3),
                "ok": np.bool_(True),
            },
            "list": (jnp.arange(2), np.array([1.5, np.nan]), None, "text"),
            7: jnp.float32(2.0),
        },
    )
    text = path.read_text()
    assert json.loads(text) == {
        "z": 0.5,
        "a": {"nan": None, "inf": None, "n": 3, "ok": True},
        "list": [[0, 1], [1.5, None], None, "text"],
        "7": 2.0,
    }
    assert text.index('"a"') < text.index('"list"') < text.index('"z"')
    assert os.listdir(path.parent) == ["metrics.json"]


def test_metrics_name_a_leaf_that_is_no_number(tmp_path):
    with pytest.raises(TypeError, match="/a/1 is a function"):
        write_metrics(tmp_path / "m.json", {"a": [1, lambda: 0]})
    assert os.listdir(tmp_path) == []
