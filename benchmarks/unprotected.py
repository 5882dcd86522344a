"""Run reverie's command line without checksums of steps and without waiting for the disk; see against.py."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from reverie.cli.main import main
from reverie.replay import database
from reverie.replay.database import Database

execute = Database.execute


def execute_without_sync(self: Database, sql: str, values: Sequence[Any] = ()) -> list[Any]:
    """Let no transaction wait for the disk."""
    return execute(self, "PRAGMA synchronous=OFF" if sql.startswith("PRAGMA synchronous") else sql, values)


Database.execute = execute_without_sync  # type: ignore[method-assign]
database.crc32 = lambda data, value=0, /: 0  # type: ignore[attr-defined]
os.fsync = lambda fd: None

if __name__ == "__main__":
    sys.exit(main())
