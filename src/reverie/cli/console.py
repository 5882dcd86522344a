"""Output of commands: consoles, tables, one-line errors, values of settings."""

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reverie.config import did_you_mean
from reverie.errors import ReverieError


class UsageError(ReverieError):
    """A wrong command line, such as an unknown option. Its exit status is 2."""


def unknown(what: str, name: str, near: Sequence[str], otherwise: str) -> NoReturn:
    """Raise a UsageError for a name; the message ends in the nearest valid names, or in `otherwise`."""
    raise UsageError(f"{what} '{name}'{did_you_mean(near) if near else otherwise}")


def require(condition: object, message: str) -> None:
    """Raise a UsageError unless a condition holds."""
    if not condition:
        raise UsageError(message)


def require_positive(command: object, *names: str) -> None:
    """Raise a UsageError for an option below 1."""
    for name in names:
        value = getattr(command, name)
        require(value is None or value >= 1, f"--{name} is {value}, but at least 1 is needed.")


def console(stderr: bool = False) -> Console:
    """Return a console that breaks lines only on a terminal, so that piped lines stay whole."""
    found = Console(stderr=stderr, highlight=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=max(found.width, 160))


def say(*parts: str | tuple[str, str], stderr: bool = False) -> None:
    """Print one line, as long as it is; a part may have a style, `(text, style)`."""
    console(stderr).print(Text.assemble(*parts), soft_wrap=True)


def print_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    right: Sequence[str] = (),
    out: Console | None = None,
) -> None:
    """Print a table whose texts are shown as they are; the columns named in `right` are aligned there."""
    table = Table()
    for name in header:
        table.add_column(name, justify="right" if name in right else "left")
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    (out or console()).print(table)


def heading(name: str) -> Text:
    """Return the name of a table's row."""
    return Text(name, style="bold cyan")


def show(value: Any) -> str:
    """Return the value of a setting as a user types it."""
    if isinstance(value, tuple):
        return " ".join(show(item) for item in value) or "(all)"
    if value == "":
        return "(none)"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int) and abs(value) >= 10_000:
        return f"{value:_}"
    if isinstance(value, float) and float(short := f"{value:g}") == value:
        return short
    return str(value)
