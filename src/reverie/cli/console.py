"""Output of commands: consoles, tables, errors of the command line."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from reverie.errors import ReverieError


class UsageError(ReverieError):
    """A wrong command line, such as an unknown option. Its exit status is 2."""


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
    """Return a console that prints texts as they are, and breaks lines only on a terminal."""
    found = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not found.is_terminal:
        found.width = max(found.width, 160)
    return found


def say(*parts: str | tuple[str, str], stderr: bool = False) -> None:
    """Print one line, as long as it is; a part may have a style, `(text, style)`."""
    console(stderr).print(Text.assemble(*parts), soft_wrap=True)


def print_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = (), out: Console | None = None
) -> None:
    """Print a table; the columns named in `right` are aligned there."""
    columns = [Column(name, justify="right" if name in right else "left") for name in header]
    columns[0].style = "bold cyan"
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    (out or console()).print(table)
