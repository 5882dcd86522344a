"""Figures as SVG inside a page, and as files."""

import html
import io
import re
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from reverie.runs.atomic_io import atomic_path

DPI = 200


def inline_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an element of a page.

    Its text stays text, so that it can be found, copied and read aloud; it is as wide as the place that it stands in.

    Args:
        figure: to draw.
        name: unique in the page; every id in the element starts with it.
        description: for those who do not see the figure.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r'xlink:href="#', f'xlink:href="#{name}-', text)
    # Without its width and height it takes those of its place; the view box keeps the shape.
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    # The page's own font: text is placed by its anchor, so that a font of other widths does no harm.
    text = re.sub(r"(font: [\d.]+px) [^;\"]*", r"\1 sans-serif", text)
    label = html.escape(description, quote=True)
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1).strip()


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write the figure as SVG and PNG; the same figure gives the same bytes.

    Returns:
        The two files.
    """
    paths = [folder / f"{name}.svg", folder / f"{name}.png"]
    for path in paths:
        metadata = {"Date": None} if path.suffix == ".svg" else None
        with atomic_path(path) as temporary, matplotlib.rc_context({"svg.hashsalt": "reverie"}):
            figure.savefig(temporary, dpi=DPI, metadata=metadata)
    return paths
