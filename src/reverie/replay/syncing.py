"""What was written goes onto the disk every second or so: a power cut takes no more than that."""

import os
import threading
from contextlib import suppress


class Syncer:
    """A thread that forces what was written onto the disk, again and again; it begins with the first file.

    Args:
        seconds: between two rounds; 0 leaves it to the system, and there is no thread.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._written: set[int] = set()
        self._error: OSError | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def note(self, descriptor: int) -> None:
        """Something was written to this file."""
        if not self._seconds:
            return
        with self._lock:
            self._written.add(descriptor)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="replay-sync", daemon=True)
            self._thread.start()

    def forget(self, descriptor: int) -> None:
        """This file is about to be closed, by somebody who knows whether it is on the disk."""
        with self._lock:
            self._written.discard(descriptor)

    def check(self) -> None:
        """Pass on an error of the thread: the system tells each of them once, and nobody else would learn of it.

        Raises:
            OSError: that some file could not be written.
        """
        error, self._error = self._error, None
        if error:
            raise error

    def stop(self) -> None:
        """Have the thread end; nothing more is forced onto the disk."""
        self._stop.set()

    def close(self) -> None:
        """End the thread."""
        self.stop()
        if self._thread:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            with self._lock:  # Of copies, since the files may be closed meanwhile.
                copies = [os.dup(descriptor) for descriptor in self._written]
                self._written.clear()
            for copy in copies:
                try:
                    os.fdatasync(copy)
                except OSError as error:
                    self._error = error
                finally:
                    with suppress(OSError):
                        os.close(copy)
