"""Steps on the disk every second, without the training loop waiting for it."""

import sqlite3
import threading
from pathlib import Path


class Syncer:
    """A thread that writes the write-ahead log of an SQLite file into it and forces both onto the disk.

    Args:
        path: the file.
        interval: seconds between two rounds; 0 starts no thread.
    """

    def __init__(self, path: Path, interval: float) -> None:
        self._path = path
        self._interval = interval
        self._stop = threading.Event()
        self._error: sqlite3.Error | None = None
        self._thread = threading.Thread(target=self._run, name="replay-sync", daemon=True)
        if interval:
            self._thread.start()

    def check(self) -> None:
        """Raise what went wrong in the thread since the last call.

        Raises:
            sqlite3.Error: as SQLite raised it.
        """
        error, self._error = self._error, None
        if error:
            raise error

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._interval:
            self._thread.join()

    def _run(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        try:
            while not self._stop.wait(self._interval):
                try:
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
                except sqlite3.Error as error:
                    self._error = error
        finally:
            connection.close()
