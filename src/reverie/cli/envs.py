"""`reverie envs`: list the environments that can be trained on here."""

import json
from dataclasses import dataclass
from itertools import islice

from rich.table import Table

from reverie.cli.options import console, parse, unknown
from reverie.config import nearest

SHOWN = 6
"""Ids of a family in the overview."""


@dataclass(frozen=True)
class Envs:
    """List the environments that can be trained on here, and what brings more.

    Any id that Gymnasium knows will do, also as module:id for packages that register their own.
    """

    family: str | None = None
    """All ids of one family, one a line: --family atari."""
    json: bool = False
    """All ids as one JSON object, by family."""


def run(argv: list[str]) -> None:
    """Print."""
    command, _ = parse("envs", Envs, argv)

    from reverie.envs import list_envs

    listings = {listing.title: listing for listing in list_envs()}
    if command.json:
        print(json.dumps({title: listing.ids for title, listing in listings.items() if not listing.install}))
        return
    if command.family is not None:
        title = next((title for title in listings if title.lower() == command.family.lower()), None)
        if title is None:
            near = nearest(command.family, listings, 1)
            unknown("There is no family", command.family, near, f"; there are {', '.join(listings)}.")
        print("\n".join(listings[title].ids))
        return
    table = Table("family", "number", "ids", "to install")
    for title, listing in listings.items():
        few = ", ".join(islice(listing.ids, SHOWN)) + (", ..." if len(listing.ids) > SHOWN else "")
        count = str(len(listing.ids)) if listing.ids else ""
        table.add_row(f"[bold cyan]{title}[/]", count, few, listing.install.replace("[", r"\["))
    console().print(table)
    console().print("reverie envs --family NAME prints all of a family.")
