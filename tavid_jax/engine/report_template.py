"""The look of a report: one page, no other file, light and dark, from phone to wide screen."""

STYLE = """
:root {
  color-scheme: light;
  --page: #f7f8fa; --card: #ffffff; --ink: #1a1e26; --soft: #5c6675; --faint: #8b95a5;
  --line: #e3e7ee; --accent: #2f6fed; --tint: #eef3fe; --good: #12805c; --good-tint: #e7f6f0;
  --bad: #c2410c; --bad-tint: #fdefe7; --even: #6b7280; --even-tint: #f0f1f4; --code: #eef1f6;
  --shadow: 0 1px 2px rgb(16 24 40 / 5%), 0 4px 16px rgb(16 24 40 / 5%);
  --sans: "Inter", ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue",
    Arial, sans-serif;
  --mono: ui-monospace, "SF Mono", "JetBrains Mono", Menlo, Consolas, monospace;
}
:root[data-theme="dark"] {
  color-scheme: dark;
  --page: #0f1217; --card: #171b22; --ink: #e6eaf1; --soft: #a2adbd; --faint: #75808f;
  --line: #272d38; --accent: #7aa2ff; --tint: #1a2439; --good: #56d396; --good-tint: #12291f;
  --bad: #ff9a66; --bad-tint: #2f1d13; --even: #9aa4b2; --even-tint: #1e232c; --code: #202631;
  --shadow: 0 1px 2px rgb(0 0 0 / 30%), 0 4px 18px rgb(0 0 0 / 25%);
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 4rem; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.6 var(--sans);
  font-feature-settings: "cv05", "cv11"; }
.shell { max-width: 1360px; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; display: grid;
  grid-template-columns: 190px minmax(0, 1fr); gap: 2.75rem; }
header { grid-column: 1 / -1; display: flex; justify-content: space-between; gap: 1.5rem;
  align-items: start; }
h1 { font-size: clamp(1.7rem, 3.4vw, 2.4rem); line-height: 1.15; letter-spacing: -.025em;
  margin: 0; font-weight: 700; }
.subtitle { color: var(--soft); margin: .5rem 0 0; font-size: 1.08rem; max-width: 62ch; }
h2 { font-size: 1.4rem; letter-spacing: -.018em; margin: 0 0 1rem; line-height: 1.25; }
h3 { font-size: 1.02rem; margin: 1.6rem 0 .5rem; letter-spacing: -.008em; }
p, ul, ol { margin: .65rem 0; max-width: 74ch; }
li + li { margin-top: .25rem; }
a { color: var(--accent); text-decoration: none; } a:hover { text-decoration: underline; }
code, pre { font-family: var(--mono); font-size: .875em; background: var(--code);
  border-radius: 5px; }
code { padding: .12em .36em; overflow-wrap: anywhere; }
pre { padding: .9rem 1.1rem; overflow-x: auto; border-radius: 10px; line-height: 1.5; }
pre code { padding: 0; background: none; font-size: 1em; overflow-wrap: normal; }
nav { position: sticky; top: 1.75rem; align-self: start; font-size: .9rem; }
nav ol { list-style: none; margin: 0; padding: 0; border-left: 2px solid var(--line); }
nav li { margin: 0; }
nav a { display: block; padding: .28rem 0 .28rem .95rem; margin-left: -2px; color: var(--soft);
  border-left: 2px solid transparent; line-height: 1.4; }
nav a:hover { color: var(--ink); text-decoration: none; }
nav a.here { color: var(--accent); border-color: var(--accent); font-weight: 600; }
main { min-width: 0; }
section + section { margin-top: 3.25rem; }
.toggle { border: 1px solid var(--line); background: var(--card); color: var(--soft);
  border-radius: 99px; padding: .38rem .85rem; font: 500 .82rem var(--sans); cursor: pointer;
  white-space: nowrap; }
.toggle:hover { color: var(--ink); border-color: var(--faint); }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(185px, 1fr)); gap: .9rem;
  margin: 1.1rem 0; }
.number { background: var(--card); border: 1px solid var(--line); border-radius: 14px;
  padding: 1rem 1.15rem; box-shadow: var(--shadow); }
.number .label { color: var(--soft); font-size: .84rem; font-weight: 500; }
.number .value { font-size: 1.85rem; font-weight: 680; letter-spacing: -.03em; line-height: 1.3;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
.number .unit { font-size: .95rem; font-weight: 500; color: var(--soft); letter-spacing: 0;
  margin-left: .25em; }
.number .detail { color: var(--faint); font-size: .82rem; font-variant-numeric: tabular-nums; }
.verdict { display: flex; gap: .75rem; align-items: baseline; padding: .75rem 1.05rem;
  margin: .6rem 0; border-radius: 11px; border: 1px solid transparent; max-width: none; }
.verdict b { font-weight: 700; } .verdict span { font-variant-numeric: tabular-nums; }
.verdict.good { background: var(--good-tint); } .verdict.good b { color: var(--good); }
.verdict.bad { background: var(--bad-tint); } .verdict.bad b { color: var(--bad); }
.verdict.even { background: var(--even-tint); } .verdict.even b { color: var(--even); }
figure { margin: 1.25rem 0; }
figcaption, .note { color: var(--soft); font-size: .87rem; line-height: 1.5; max-width: 92ch; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 14px;
  box-shadow: var(--shadow); overflow: hidden; }
figure > figcaption { margin: .6rem .15rem 0; }
.plot { padding: 1rem; overflow-x: auto; }
.plot svg { display: block; max-width: 100%; height: auto; margin: 0 auto; color: var(--ink); }
.plot svg text { font-family: var(--sans) !important; }
.plot img { display: block; max-width: 100%; margin: 0 auto; border-radius: 6px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; line-height: 1.4;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 650; font-size: .98rem; padding: .95rem 1.15rem .55rem; }
th, td { padding: .52rem 1.15rem; text-align: right; white-space: nowrap;
  border-top: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
.words { text-align: left !important; } td.words { white-space: normal; }
thead th { font-weight: 550; color: var(--soft); font-size: .84rem; vertical-align: bottom;
  border-top: 0; }
thead .unit { color: var(--faint); font-weight: 450; }
tbody th { font-weight: 500; }
tr.ours > * { background: var(--tint); } tr.ours th { font-weight: 680; }
tr.reference > * { color: var(--soft); font-style: italic; }
td.best { font-weight: 700; color: var(--good); }
.ends { color: var(--faint); font-weight: 400; font-size: .88em; margin-left: .3em; }
.note { max-width: none; padding: .7rem 1.15rem .95rem; border-top: 1px solid var(--line); }
.grid { display: grid; gap: 1.15rem; margin: 1.25rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, var(--least)), 1fr)); }
.grid figure { margin: 0; }
.grid img, .grid video { display: block; width: 100%; height: auto; cursor: zoom-in; }
.grid figcaption { padding: .65rem .95rem .8rem; margin: 0; }
details { margin: 1rem 0; } summary { cursor: pointer; color: var(--soft); font-weight: 550; }
dialog { border: 0; padding: 0; background: none; max-width: 96vw; max-height: 96vh; }
dialog::backdrop { background: rgb(5 8 12 / 84%); }
dialog > * { display: block; width: min(96vw, 1500px); max-height: 94vh; object-fit: contain;
  cursor: zoom-out; border-radius: 8px; }
footer { grid-column: 1 / -1; color: var(--faint); font-size: .82rem; text-align: center; }
@media (max-width: 980px) {
  .shell { grid-template-columns: minmax(0, 1fr); gap: 1.4rem; padding: 1.4rem 1rem 3rem; }
  nav { top: 0; z-index: 2; background: var(--page); margin: 0 -1rem; padding: .55rem 1rem;
    border-bottom: 1px solid var(--line); overflow-x: auto; }
  nav ol { display: flex; gap: .3rem; border: 0; }
  nav a { padding: .25rem .7rem; margin: 0; border: 0; border-radius: 99px; white-space: nowrap; }
  nav a.here { background: var(--tint); }
  th, td { padding: .5rem .8rem; }
}
@media print {
  nav, .toggle { display: none; } .shell { display: block; max-width: none; padding: 0; }
  .card, .number { box-shadow: none; break-inside: avoid; }
}
"""

# Runs before the body is painted: the reader's last choice, else what the system prefers.
THEME_SCRIPT = """
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  let chosen = null;
  try { chosen = localStorage.getItem("theme"); } catch (_) {}
  document.documentElement.dataset.theme = chosen || (dark ? "dark" : "light");
})();
"""

SCRIPT = """
const root = document.documentElement, button = document.querySelector(".toggle");
const name = () => { button.textContent = root.dataset.theme === "dark" ? "Light" : "Dark"; };
button.addEventListener("click", () => {
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch (_) {}
  name();
});
name();
const links = new Map([...document.querySelectorAll("nav a")].map(a => [a.hash.slice(1), a]));
const mark = () => {
  let here = null;
  for (const id of links.keys()) {
    const top = document.getElementById(id).getBoundingClientRect().top;
    if (here === null || top < innerHeight * 0.35) here = id;
  }
  for (const [id, a] of links) a.classList.toggle("here", id === here);
};
addEventListener("scroll", mark, { passive: true });
mark();
const zoom = document.querySelector("dialog");
for (const item of document.querySelectorAll(".grid img, .grid video")) {
  item.addEventListener("click", event => {
    event.preventDefault();
    zoom.replaceChildren(item.cloneNode());
    zoom.showModal();
  });
}
zoom.addEventListener("click", () => { zoom.close(); zoom.replaceChildren(); });
"""

PAGE = """<!DOCTYPE html>
<html lang="en" data-theme="light">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<script>{theme_script}</script>
<style>{style}</style>
</head>
<body>
<div class="shell">
<header><div><h1>{title}</h1>{subtitle}</div>
<button class="toggle" type="button" aria-label="Switch between light and dark">Dark</button>
</header>
<nav aria-label="Contents"><ol>{contents}</ol></nav>
<main>
{sections}
</main>
<footer>{footer}</footer>
</div>
<dialog aria-label="Enlarged clip"></dialog>
<script type="application/json" id="provenance">{provenance}</script>
<script>{script}</script>
</body>
</html>
"""
