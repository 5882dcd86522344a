"""Pages from the templates: self-contained HTML that runs no script."""

import io
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from reverie.analysis.format import frames_text, interval_text, plural, score_text, spread_text


def render(template: str, **values: Any) -> str:
    """Return a page from a template in `templates`."""
    return _environment().get_template(template).render(**values)


def slug(text: str) -> str:
    """Return a name for files and ids: letters, digits and hyphens."""
    return "-".join(re.findall(r"[^\W_]+", text))


def inline_svg(figure: Figure, name: str, description: str) -> Markup:
    """Return the figure as an element of a page, as wide as its place there.

    Its text stays text, so that it can be searched, copied and read aloud.

    Args:
        figure: to draw.
        name: unique in the page; every id in the element starts with it.
        description: for those who do not see the figure.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text)
    # Without width and height it takes those of its place; the view box keeps the shape.
    text = re.sub(r' (width|height)="[^"]*"', "", text, count=2)
    # The page's own font: text is placed by its anchor, so that other widths do no harm.
    text = re.sub(r"(font: [\d.]+px) [^;\"]*", r"\1 sans-serif", text)
    return Markup(text.replace("<svg ", f'<svg role="img" aria-label="{escape(description)}" ', 1).strip())


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reverie.analysis.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "breakable": _breakable,
        "frames": frames_text,
        "interval": lambda estimate, digits=3: interval_text(estimate.point, estimate.low, estimate.high, digits),
        "plural": plural,
        "relative": lambda path, folder: os.path.relpath(Path(path).absolute(), folder),
        "runs": _runs,
        "score": score_text,
        "spread": spread_text,
    }
    return environment


def _runs(items: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Yield each run of equal items with its length."""
    return ((item, len(list(group))) for item, group in itertools.groupby(items))


def _breakable(name: str) -> Markup:
    """Return a name that breaks between its words: after a slash, before a capital or a version."""
    return Markup(re.sub(r"(?<=/)|(?<=[a-z])(?=[A-Z])|(?=-v\d)", "<wbr>", str(escape(name))))
