"""One HTML page that holds its images and asks nobody for anything."""

import base64
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 64rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin: 2.2rem 0 0.2rem; }
p { max-width: 46rem; margin: 0.3rem 0; } p.facts, figcaption, nav { color: #555; }
figure { margin: 0; } img { max-width: 100%; height: auto; } nav a { margin-right: 0.9rem; }
table { border-collapse: collapse; } td, th { text-align: left; padding: 0.1rem 1.2rem 0.1rem 0; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: #f6f6f6; padding: 0.8rem; overflow-x: auto; font-size: 13px; }
"""


class Drawn(NamedTuple):
    """A figure that was drawn."""

    name: str
    title: str
    caption: str
    png: bytes


class LeftOut(NamedTuple):
    """A figure that was not, and why."""

    title: str
    reason: str


def to_html(
    title: str,
    facts: str,
    numbers: Sequence[tuple[str, str]],
    drawn: Sequence[Drawn],
    left_out: Sequence[LeftOut],
    config: str,
) -> str:
    """The page; all texts are escaped.

    Args:
      facts: one line under the title.
      numbers: name and value of what the run ended with.
      config: the run's whole config as text.
    """
    links = "".join(f'<a href="#{escape(d.name)}">{escape(d.title)}</a> ' for d in drawn)
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="number">{escape(value)}</td></tr>'
        for name, value in numbers
    )
    figures = "".join(map(_figure, drawn))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p class="facts">{escape(facts)}</p>
<nav>{links}</nav>
<h2>Last values</h2>
<table>{rows}</table>
{figures}
{_left_out(left_out)}
<h2>Config</h2>
<details><summary>All options of the run</summary><pre>{escape(config)}</pre></details>
</body>
</html>
"""


def _figure(drawn: Drawn) -> str:
    source = base64.b64encode(drawn.png).decode("ascii")
    return f"""<h2 id="{escape(drawn.name)}">{escape(drawn.title)}</h2>
<figure><figcaption>{escape(drawn.caption)}</figcaption>
<img alt="{escape(drawn.title)}" src="data:image/png;base64,{source}"></figure>
"""


def _left_out(left_out: Sequence[LeftOut]) -> str:
    if not left_out:
        return ""
    rows = "".join(
        f"<tr><td>{escape(one.title)}</td><td>{escape(one.reason)}</td></tr>" for one in left_out
    )
    return f"<h2>Figures left out</h2><table><tr><th>figure</th><th>why</th></tr>{rows}</table>"
