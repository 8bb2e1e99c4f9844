"""The style sheet of report.html: light and dark, wide and narrow, and on paper."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #ffffff; --card: #f5f6f8; --text: #1b1f24; --muted: #57606a; --line: #d0d7de;
  --accent: #2456b8; --right: #1a7f37; --wrong: #c2410c; --warn: #fff4e0; --warn-line: #d97706;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171b; --card: #1e2329; --text: #e4e8ec; --muted: #a0a9b3; --line: #3a424b;
    --accent: #86b0ff; --right: #57d37b; --wrong: #ff9a62; --warn: #33270f; --warn-line: #f0a93b;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 1.5rem 1.25rem 4rem; max-width: 68rem; background: var(--page);
  color: var(--text); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  overflow-wrap: anywhere;
}
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.25rem; margin: 0 0 .75rem; padding-top: 1.5rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
section { margin-top: 2rem; scroll-margin-top: 1rem; }
p, li, dd { max-width: 48rem; }
a { color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.verdict { font-size: 1.1rem; padding-left: .9rem; border-left: 4px solid var(--accent); }
figure.table { margin: 1.2rem 0; }
.muted, figcaption { color: var(--muted); }
nav ol { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; margin: 1.25rem 0 0; padding: 0; list-style: none; }
.scroll { overflow-x: auto; max-width: 100%; margin: .4rem 0; }
table { overflow-wrap: normal; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th, thead td { border-bottom: 2px solid var(--line); }
tbody th, .text th, .text td { text-align: left; }
tbody th { font-weight: 600; white-space: normal; min-width: 6.5rem; max-width: 18rem; }
.text td { white-space: normal; }
.text th { vertical-align: top; font-weight: 500; }
code, pre { font: .875em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { background: var(--card); padding: .8rem 1rem; border-radius: 6px; overflow-x: auto; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .3rem 1.2rem; margin: .75rem 0; }
dt { color: var(--muted); }
dd { margin: 0; min-width: 0; }
summary { cursor: pointer; color: var(--accent); padding: .25rem 0; }
.findings { list-style: none; padding: 0; }
.findings li {
  background: var(--warn); border-left: 4px solid var(--warn-line); border-radius: 4px;
  padding: .6rem .9rem; margin: .6rem 0;
}
.findings strong { display: block; }
figure { margin: 0; min-width: 0; }
figcaption { font-size: .85rem; line-height: 1.4; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--muted); font-family: inherit; }
svg .axis { stroke: var(--line); stroke-width: 1; }
svg .curve { fill: none; stroke: var(--accent); stroke-width: 1.6; }
svg .dot { fill: var(--accent); }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(18rem, 100%), 1fr)); gap: 1.5rem; }
.curves h3 { margin: 0 0 .3rem; font-size: .95rem; }
.maps { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 1.25rem; }
.maps svg { background: var(--card); border-radius: 6px; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; list-style: none; padding: 0; font-size: .85rem; }
.legend li { display: flex; align-items: center; gap: .4rem; max-width: 100%; }
.legend svg { width: .9rem; flex: none; }
.row {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(3.6rem, 1fr)); gap: .6rem;
  list-style: none; padding: .6rem; margin: .7rem 0; background: var(--card); border-radius: 6px;
}
.row.texts { grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)); }
@media (min-width: 52rem) { .row.pictures { grid-template-columns: repeat(9, minmax(0, 1fr)); } }
.row li { min-width: 0; font-size: .8rem; line-height: 1.3; text-align: center; }
.row li > span { overflow: hidden; display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; }
.row.texts li { text-align: left; }
.row img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; background: #8883; border: 3px solid transparent; }
.row img.small { image-rendering: pixelated; }
.row blockquote { margin: 0 0 .2rem; padding: .35rem .5rem; border: 3px solid var(--line); white-space: pre-wrap; overflow-wrap: anywhere; max-height: 12rem; overflow-y: auto; }
.row .query img, .row .query blockquote { border-color: var(--accent); }
.row .right img, .row .right blockquote { border-color: var(--right); }
.row .wrong img, .row .wrong blockquote { border: 3px dashed var(--wrong); }
.right .mark { color: var(--right); font-weight: 700; }
.wrong .mark { color: var(--wrong); font-weight: 700; }
.plate { background: #fff; padding: .5rem; border-radius: 6px; min-width: 56rem; display: block; width: 100%; }
@media print { nav { display: none; } .scroll { overflow: visible; } section { break-inside: avoid; } }
"""
