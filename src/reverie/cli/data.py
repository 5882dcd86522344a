"""`reverie data`: look into recorded episodes, and move them into a replay and out of it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reverie.cli.console import print_table, require, say
from reverie.errors import DataError

if TYPE_CHECKING:
    from reverie.data.summary import Statistics, Summary
    from reverie.data.transfer import Transferred

_WIDTH = 40  # letters of the longest bar


@dataclass(frozen=True)
class Inspect:
    """Show what recorded episodes hold: their number, returns, lengths, observations, actions, and a contact sheet."""

    src: Path
    """A run, a folder of imported data, a replay.db, or episodes in another format."""
    format: str | None = None
    """Format of SRC: replay, npz, minari, vd4rl, folder or lerobot; found out by default."""
    sheet: Path | None = None
    """Draw a contact sheet of the images into this file, a PNG."""
    json: bool = False
    """Print one JSON object instead of tables."""

    def __call__(self) -> None:
        from reverie.data import open_recording, summarize
        from reverie.data.sheet import ContactSheet

        require(self.sheet is None or self.sheet.suffix == ".png", f"--sheet {self.sheet} must end in .png.")
        recording = open_recording(self.src, self.format)
        images = [key for key, entry in recording.spec.observations.items() if entry.is_image]
        if self.sheet and not images:
            raise DataError(f"{self.src} has no images. No contact sheet was drawn. Leave --sheet out.")
        sheet = ContactSheet(images[0]) if self.sheet else None
        found = summarize(recording, sheet.add if sheet else None)
        if found is None:
            raise DataError(f"{self.src} has no finished episode. There is nothing to show. Let the run continue.")
        if sheet and self.sheet:
            sheet.save(self.sheet)
        if self.json:
            print(json.dumps({"source": str(self.src), **asdict(found)}))
            return
        _show(self.src, found)
        if self.sheet:
            say(("sheet        ", "bold cyan"), str(self.sheet))


@dataclass(frozen=True)
class Import:
    """Store recorded episodes in a folder of data, which is created or extended; all of them, or none."""

    src: Path
    """Episodes in any format that can be read."""
    data: Path
    """Folder for the data: its replay.db, and spaces.json for what the observations and actions mean."""
    format: str | None = None
    """Format of SRC: npz, minari, vd4rl, folder, lerobot or replay; found out by default."""
    json: bool = False
    """Print one JSON object instead of lines."""

    def __call__(self) -> None:
        from reverie.data import import_episodes, open_recording

        done = import_episodes(open_recording(self.src, self.format), self.data)
        _report(done, self.data, self.json)


@dataclass(frozen=True)
class Export:
    """Write the finished episodes of a run or of a folder of data into a new folder, in another format."""

    run: Path
    """A run, a folder of imported data, or a replay.db."""
    dst: Path
    """Folder that is created."""
    format: str = "npz"
    """npz, minari, vd4rl or folder."""
    json: bool = False
    """Print one JSON object instead of lines."""

    def __call__(self) -> None:
        from reverie.data import export_episodes, open_recording

        done = export_episodes(open_recording(self.run), self.dst, self.format)
        _report(done, self.dst, self.json)


def _report(done: "Transferred", place: Path, as_json: bool) -> None:
    if as_json:
        numbers = {"episodes": done.num_episodes, "steps": done.num_steps}
        print(json.dumps({"path": str(place), **numbers, "notes": done.notes}))
        return
    say(("stored       ", "bold green"), f"{done.num_episodes:,} episodes of {done.num_steps:,} steps in {place}")
    for text in done.notes:
        say(("note         ", "yellow"), text)


def _show(src: Path, found: "Summary") -> None:
    def line(name: str, text: str) -> None:
        say((f"{name:<13}", "bold cyan"), text)

    line("source", str(src))
    line("episodes", f"{found.episodes:,}: {found.terminal:,} terminal, {found.episodes - found.terminal:,} cut short")
    line("steps", f"{found.steps:,}")
    line("return", _statistics(found.returns))
    line("length", _statistics(found.lengths))
    for key, entry in found.observations.items():
        shape = " x ".join(map(str, entry["shape"]))
        line("observation", f"{key}: {entry['dtype']} {shape}, from {entry['min']:.4g} to {entry['max']:.4g}")
    kind, sizes = found.action["kind"], " x ".join(map(str, found.action["sizes"]))
    line("action", f"{kind}, {sizes} {'classes' if kind == 'discrete' else 'dimensions'}")
    histogram = found.action["histogram"]
    rows = [
        row
        for part, counts in enumerate(histogram)
        for row in _bars(f"{part}: " if len(histogram) > 1 else "", kind == "discrete", counts)
    ]
    print_table(("action", "count", "share", ""), rows, right=("count", "share"))
    for text in found.notes:
        say(("note         ", "yellow"), text)


def _statistics(values: "Statistics") -> str:
    return f"mean {values.mean:,.6g}, standard deviation {values.std:,.4g}, from {values.min:,.6g} to {values.max:,.6g}"


def _bars(part: str, is_discrete: bool, counts: list[int]) -> list[tuple[str, str, str, str]]:
    total, most = max(sum(counts), 1), max(*counts, 1)
    rows = []
    for index, count in enumerate(counts):
        low, width = -1 + 2 * index / len(counts), 2 / len(counts)
        name = str(index) if is_discrete else f"{low:+.1f} to {low + width:+.1f}"
        bar = "█" * round(_WIDTH * count / most)
        rows.append((part + name, f"{count:,}", f"{100 * count / total:.1f} %", bar))
    return rows
