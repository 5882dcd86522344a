"""Commands to type next, in the form in which they work in the shell that this program was started from."""

import os
import shlex
import sys
from pathlib import Path


def command_line(*words: object, env: str = "") -> str:
    """Return a `reverie` command for a shell.

    Args:
        words: what follows `reverie`.
        env: id of the environment that the command makes. One of a module of the user's own, `module:id`, is found
            through PYTHONPATH, if that is set.
    """
    path = os.environ.get("PYTHONPATH") if ":" in env else None
    started_as_module = Path(sys.argv[0]).parts[-2:] == ("reverie", "__main__.py")
    program = [Path(sys.executable).name, "-m", "reverie"] if started_as_module else ["reverie"]
    return (f"PYTHONPATH={shlex.quote(path)} " if path else "") + shlex.join([*program, *map(str, words)])
