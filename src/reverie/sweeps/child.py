"""Process of a run: `reverie`, and a thread that ends it when the sweep has ended.

The sweep holds one end of a pipe, and the run's standard input is the other. The system closes the sweep's end when
it ends, however it ends, a `kill -9` included. The run then stops as at SIGTERM, with a checkpoint.
"""

import os
import runpy
import signal
import sys
import threading
import time

GRACE = 120.0
"""Seconds that a run has for its last step and its checkpoint."""


def follow_parent(grace: float = GRACE) -> None:
    """End this process when standard input ends: by SIGTERM at first, and by SIGKILL if that did not help in time."""
    threading.Thread(target=_watch, args=(grace,), daemon=True).start()


def _watch(grace: float) -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    follow_parent()
    sys.argv[0] = "reverie"
    runpy.run_module("reverie", run_name="__main__")
