"""Pieces of HTML: tables whose headers say what they head, figures with captions, and the page around them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from typing import NamedTuple

__all__ = ["Cell", "Column", "Span", "Table", "breakable", "escape", "figure", "page", "section"]


@dataclass(frozen=True)
class Column:
    """Of a table."""

    heading: str
    group: str = ""
    """Heading above those of several columns."""
    number: bool = True
    name: bool = False
    """Of something that may be long."""


class Span(NamedTuple):
    """A cell that reaches over several rows; the rows below have None in its place."""

    text: str
    rows: int


Cell = str | Span | None
"""HTML."""


@dataclass
class Table:
    """A table of cells of HTML."""

    name: str
    """Its id in the page."""
    caption: str
    note: str
    """How its numbers are made; HTML, may be empty."""
    columns: Sequence[Column]
    rows: list[Sequence[Cell]] = field(default_factory=list)
    headers: int = 1
    """So many of the first cells of a row head it."""

    def html(self) -> str:
        """The table with its title and note, in a box that scrolls where the page is too narrow."""
        body = "\n".join(self._row(row) for row in self.rows)
        described = f' aria-describedby="{self.name}-note"' if self.note else ""
        return (
            f'<h3 id="{self.name}-title">{escape(self.caption)}</h3>\n'
            + (f'<p class="soft" id="{self.name}-note">{self.note}</p>\n' if self.note else "")
            + f'<div class="scroll" role="region" tabindex="0" aria-labelledby="{self.name}-title">\n'
            f'<table id="{self.name}" aria-labelledby="{self.name}-title"{described}>\n'
            f"<thead>\n{self._head()}\n</thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>"
        )

    def _head(self) -> str:
        lines = []
        if any(column.group for column in self.columns):
            groups: list[list[object]] = []
            for column in self.columns:
                if groups and groups[-1][0] == column.group:
                    groups[-1][1] = int(str(groups[-1][1])) + 1
                else:
                    groups.append([column.group, 1])
            cells = (
                f'<th scope="colgroup" colspan="{width}" class="group">{escape(str(name))}</th>'
                if name
                else f'<td colspan="{width}"></td>'
                for name, width in groups
            )
            lines.append(f"<tr>{''.join(cells)}</tr>")
        heads = (f'<th scope="col"{_kind(column)}>{escape(column.heading)}</th>' for column in self.columns)
        return "\n".join([*lines, f"<tr>{''.join(heads)}</tr>"])

    def _row(self, row: Sequence[Cell]) -> str:
        cells = []
        for index, (cell, column) in enumerate(zip(row, self.columns, strict=True)):
            if cell is None:
                continue
            head = index < self.headers
            name = "th" if head else "td"
            span = f' rowspan="{cell.rows}"' if isinstance(cell, Span) and cell.rows > 1 else ""
            scope = f' scope="{"rowgroup" if span else "row"}"' if head else ""
            text = cell.text if isinstance(cell, Span) else cell
            cells.append(f"<{name}{scope}{span}{_kind(column)}>{text}</{name}>")
        return f"<tr>{''.join(cells)}</tr>"


def breakable(name: str) -> str:
    """A name as HTML that breaks between its words: after a slash, before a capital or a version."""
    return re.sub(r"(?<=/)|(?<=[a-z])(?=[A-Z])|(?=-v\d)", "<wbr>", escape(name))


def figure(svg: str, title: str, caption: str) -> str:
    """A figure with its title above, and below what is drawn."""
    return f"<figure>\n<h3>{escape(title)}</h3>\n{svg}\n<figcaption>{caption}</figcaption>\n</figure>"


def section(name: str, title: str, *parts: str) -> str:
    """A part of the page."""
    body = "\n".join(part for part in parts if part)
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{escape(title)}</h2>\n{body}\n</section>'


def page(title: str, lead: str, sections: Iterable[str]) -> str:
    """The whole document: everything it needs is in it, and it runs no script."""
    style = (files("reverie.analysis.report") / "page.css").read_text(encoding="utf-8")
    body = "\n".join(sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"<header>\n<h1>{escape(title)}</h1>\n{lead}\n</header>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _kind(column: Column) -> str:
    return ' class="n"' if column.number else ' class="name"' if column.name else ""
