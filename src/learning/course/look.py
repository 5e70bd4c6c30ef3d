"""How the course's cards look, in HTML and in a terminal.

A saved notebook that nobody has trusted yet passes through JupyterLab's sanitizer, and a card is read on light and on
dark pages. So the HTML carries its styles inline, takes over the page's text colour, and says nothing by colour alone.
"""

import html
import re
import textwrap

WIDTH = 100
"""The longest line in a terminal."""

MARKS = {"passed": "✓", "failed": "✗", "not attempted": "○", "not judged": "○"}
COLOURS = {"passed": "#2e8540", "failed": "#d93025", "not attempted": "#5f6368", "not judged": "#5f6368"}

STYLES = {
    "card": "border:1px solid #767676;border-left-width:5px;border-radius:4px;padding:12px 16px;max-width:52em;"
    "line-height:1.5;overflow-wrap:break-word",
    "head": "display:flex;flex-wrap:wrap;align-items:center;gap:4px 12px",
    "title": "font-size:1.15em",
    "badge": "color:#ffffff;border-radius:10px;padding:0 10px;font-size:0.9em;font-weight:600",
    "line": "margin-top:8px",
    "list": "list-style-type:none;margin:10px 0 0 0;padding:0",
    "item": "display:flex;gap:10px;margin-top:5px",
    "mark": "flex:none;width:1.5em;height:1.5em;line-height:1.5;border-radius:50%;text-align:center;font-size:0.85em",
    "said": "flex:1;min-width:0",
    "missed": "flex:1;min-width:0;padding-bottom:6px",
    "row": "display:flex;flex-wrap:wrap;align-items:baseline;gap:0 8px;margin-top:2px",
    "label": "width:5em;opacity:0.75",
    "told": "flex:1 1 14em;min-width:0",
    "code": "display:block;white-space:pre-wrap;padding:0;background:none;font-family:Menlo,Consolas,monospace;"
    "font-size:0.92em;word-break:normal",
    "foot": "display:flex;flex-wrap:wrap;align-items:center;gap:2px 12px;border-top:1px solid #767676;"
    "margin-top:12px;padding-top:8px",
    "bar": "width:7em",
    "lesson": "min-width:11em",
    "names": "display:flex;flex-wrap:wrap;gap:0 16px;font-size:0.92em",
    "small": "font-size:0.92em;margin-top:4px",
}

NO_MATHS = "mathjax_ignore tex2jax_ignore"
"""Two versions of MathJax look for dollar signs in a notebook's output; a price is not a formula."""


def style(name: str, more: str = "") -> str:
    """The attribute that gives an element the style of this name; `more` is CSS to add."""
    return f'style="{STYLES[name]}{";" + more if more else ""}"'


def bar(done: int, most: int) -> str:
    """How much of something is done, drawn."""
    return f'<progress value="{done}" max="{most}" title="{done} of {most}" {style("bar")}></progress>'


def prose(text: str) -> str:
    """Prose, in which `names` between backticks are code."""
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", html.escape(text))


def block(text: str, lead: str) -> str:
    """Text wrapped for a terminal: `lead` opens the first line, and the others stand under its end."""
    lines = [
        piece
        for line in text.split("\n")
        for piece in textwrap.wrap(line, WIDTH - len(lead), replace_whitespace=False, break_on_hyphens=False) or [""]
    ]
    return "\n".join([lead + lines[0], *(" " * len(lead) + line if line else "" for line in lines[1:])])
