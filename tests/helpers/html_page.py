"""Reading a page back: its tables as rows of text."""

from html.parser import HTMLParser

VOID = {"meta", "link", "wbr", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """What a page says.

    Attributes:
        tables: rows of cells by the table's id; a cell that spans rows is in each of them.
        headings: texts of h1, h2 and h3.
        notes: items of the list of notes.
        labels: descriptions of figures.
        links: addresses in src and href.
        ids: of all elements.
        unclosed: elements that were left open, or closed twice.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.headings: list[str] = []
        self.notes: list[str] = []
        self.labels: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.heads: list[dict[str, str | None]] = []
        self.unclosed: list[str] = []
        self._open: list[str] = []
        self._table = ""
        self._cell: list[str] | None = None
        self._span = 1
        self._below: dict[int, tuple[int, str]] = {}
        self._text: list[str] | None = None
        self.feed(html)
        self.unclosed += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in VOID:
            self._open.append(tag)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found[name] or "" for name in ("src", "href", "xlink:href") if name in found]
        if tag == "img":
            self.labels.append(found.get("alt") or "")
        if tag == "table":
            self._table, self._below = found["id"] or "", {}
            self.tables[self._table] = []
        elif tag == "tr":
            self.tables[self._table].append([])
            self._fill()
        elif tag in ("td", "th"):
            self._cell, self._span = [], int(found.get("rowspan") or 1)
            if tag == "th":
                self.heads.append(found)
        elif tag in ("h1", "h2", "h3", "li"):
            self._text = []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        for text in (self._cell, self._text):
            if text is not None:
                text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.unclosed.append(tag)
        if tag in ("td", "th") and self._cell is not None:
            row = self.tables[self._table][-1]
            text = " ".join("".join(self._cell).split())
            if self._span > 1:
                self._below[len(row)] = (self._span - 1, text)
            row.append(text)
            self._cell = None
            self._fill()
        elif tag in ("h1", "h2", "h3", "li") and self._text is not None:
            text = " ".join("".join(self._text).split())
            (self.notes if tag == "li" else self.headings).append(text)
            self._text = None

    def _fill(self) -> None:
        """Cells that reach down into this row."""
        row = self.tables[self._table][-1]
        while len(row) in self._below and self._below[len(row)][0]:
            left, text = self._below[len(row)]
            self._below[len(row)] = (left - 1, text)
            row.append(text)
