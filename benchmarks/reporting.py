"""Options and JSON lines that measurements have in common."""

import argparse
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reverie.bench.measuring import machine
from reverie.config import load_config
from reverie.provenance import commit


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser that knows `--out`; the first line of the description is shown."""
    result = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    result.add_argument("--out", type=Path, help="file that a line with the outcome is added to")
    return result


@contextmanager
def messages() -> Iterator[list[str]]:
    """Yield a list that collects what a quiet run says."""
    said: list[str] = []
    logger, handler = logging.getLogger("reverie"), logging.Handler(logging.INFO)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield said
    finally:
        logger.removeHandler(handler)


class Report:
    """Prints outcomes and adds each to a file, with the commit that the measurement was started with.

    Args:
        out: the file; None prints only.
    """

    def __init__(self, out: Path | None) -> None:
        self._out = out
        self._started, self._commit = time.monotonic(), commit()

    def write(self, row: dict[str, Any], run: Path | None = None) -> None:
        """Write one outcome.

        Args:
            row: what was measured.
            run: folder of a run, for the machine as its configuration uses it.
        """
        row = {**row, "seconds": round(time.monotonic() - self._started, 1), "commit": self._commit}
        if run is not None:
            row["machine"] = machine(load_config(run / "config.toml")) | {"commit": self._commit}
        print(json.dumps(row, indent=2))
        if self._out:
            with self._out.open("a") as file:
                file.write(json.dumps(row) + "\n")
