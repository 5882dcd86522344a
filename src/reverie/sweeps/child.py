"""Process of a run: `reverie`, and a thread that ends it when the sweep has ended.

Standard input is a pipe whose other end the sweep holds. The system closes that end when the sweep ends, also by
`kill -9`. The run then stops as at SIGTERM, with a checkpoint.
"""

import os
import runpy
import signal
import sys
import threading
import time


def follow_parent(grace: float = 120.0) -> None:
    """End this process when standard input ends: by SIGTERM, and after `grace` seconds by SIGKILL."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    follow_parent()
    sys.argv[0] = "reverie"
    runpy.run_module("reverie", run_name="__main__")
