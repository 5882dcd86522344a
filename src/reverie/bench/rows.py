"""The line of JSON that a measurement is written as."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_row(row: Mapping[str, Any], path: Path | None = None) -> None:
    """Print a row as one line of JSON, and append it to a file if one is given."""
    line = json.dumps(row)
    print(line, flush=True)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(f"{line}\n")
