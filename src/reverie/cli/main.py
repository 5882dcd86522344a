"""The `reverie` command: its subcommands, and errors as one sentence with an exit status."""

import errno
import os
import sys
from collections.abc import Sequence

from reverie.cli.console import UsageError, say
from reverie.cli.parser import parse
from reverie.errors import ReverieError
from reverie.provenance import reverie_version

COMMANDS = {
    "train": "train:Train",
    "eval": "evaluate:Eval",
    "dream": "dream:Dream",
    "diagnose": "diagnose:Diagnose",
    "studio": "studio:Studio",
    "play": "studio:Play",
    "plot": "plot:Plot",
    "report": "report:Report",
    "sweep": "sweep:Sweep",
    "tune": "tune:Tune",
    "ablate": "ablate:Ablate",
    "demo": "demo:Demo",
    "list presets": "listing:Presets",
    "list variants": "listing:Variants",
    "list envs": "listing:Envs",
    "list runs": "listing:Runs",
    "config": "config:ShowConfig",
    "data inspect": "data:Inspect",
    "data import": "data:Import",
    "data export": "data:Export",
    "digest": "digest:Digest",
    "verify": "verify:Verify",
    "replay-step": "replay_step:ReplayStep",
    "bench train-step": "bench:TrainStep",
    "bench collect": "bench:Collect",
    "bench replay": "bench:ReplayBench",
    "bench loop": "bench:Loop",
}
"""Module and class of each command, in the order of the help; they import PyTorch only when they run."""

OK, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, by default that of the process.

    Returns:
        Exit status: 0, 1 after an error, 2 if the command line was wrong, 128 and the signal's number if interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if words[0] == "help":
        words = [*words[1:], "--help"]
    try:
        if words[0] in ("-V", "--version", "version"):
            print(f"reverie {reverie_version() or '(version unknown: not installed)'}")
        else:
            parse(COMMANDS, words)()
        sys.stdout.flush()  # a closed pipe or a full disk is reported here, not at exit
        return OK
    except ReverieError as error:
        return _fail(str(error), MISUSED if isinstance(error, UsageError) else FAILED)
    except KeyboardInterrupt as error:
        # The message of a stopped trainer names its checkpoint.
        print(str(error) or "Interrupted.", file=sys.stderr)
        return 128 + int(getattr(error, "signal", INTERRUPTED - 128))
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT):
            raise
        # Nothing can be written any more, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:  # a reader may close its pipe (`| head`)
            return FAILED
        return _fail(f"The output could not be written ({error.strerror}); free some space.", FAILED)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else OK if stop.code is None else FAILED


def _fail(message: str, status: int) -> int:
    say(("error: ", "bold red"), " ".join(message.split()), stderr=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
