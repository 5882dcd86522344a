"""What commands print: consoles, one-line errors, values of settings."""

from typing import Any, NoReturn

from rich.console import Console
from rich.text import Text

from reverie.config import did_you_mean
from reverie.errors import ReverieError


class UsageError(ReverieError):
    """A wrong command line, such as an unknown option. Its exit status is 2."""


def unknown(what: str, name: str, near: list[str], otherwise: str) -> NoReturn:
    """Refuse a name. The message ends in the nearest valid names, or in `otherwise` if there are none.

    Raises:
        UsageError: always.
    """
    raise UsageError(f"{what} '{name}'{did_you_mean(near) if near else otherwise}")


def require_positive(command: object, *names: str) -> None:
    """Refuse an option below 1.

    Raises:
        UsageError: if there is one.
    """
    for name in names:
        if (value := getattr(command, name)) < 1:
            raise UsageError(f"--{name} is {value}, but at least 1 is needed.")


def console(stderr: bool = False) -> Console:
    """Return a console that breaks lines only on a terminal, so that piped lines stay whole."""
    found = Console(stderr=stderr, highlight=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=max(found.width, 160))


def say_error(message: str) -> None:
    """Print one line on standard error, whatever line breaks the message has."""
    console(stderr=True).print(Text.assemble(("error: ", "bold red"), " ".join(message.split())), soft_wrap=True)


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
