"""The `reverie` command: its subcommands, and errors as one sentence with an exit status."""

import errno
import os
import sys
from collections.abc import Sequence

from reverie.cli.ablate import Ablate
from reverie.cli.bench import BENCHMARKS
from reverie.cli.config import ShowConfig
from reverie.cli.console import UsageError, say
from reverie.cli.demo import Demo
from reverie.cli.diagnose import Diagnose
from reverie.cli.digest import Digest
from reverie.cli.dream import Dream
from reverie.cli.evaluate import Eval
from reverie.cli.listing import LISTINGS
from reverie.cli.parser import Group, parse
from reverie.cli.plot import Plot
from reverie.cli.replay_step import ReplayStep
from reverie.cli.report import Report
from reverie.cli.sweep import Sweep
from reverie.cli.train import Train
from reverie.cli.verify import Verify
from reverie.errors import ReverieError
from reverie.provenance import reverie_version

REVERIE = Group(
    "DreamerV2 for PyTorch. Start with: reverie demo, or reverie train ALE/Pong-v5 --preset atari-small.",
    {
        "train": Train,
        "eval": Eval,
        "dream": Dream,
        "diagnose": Diagnose,
        "plot": Plot,
        "report": Report,
        "sweep": Sweep,
        "ablate": Ablate,
        "demo": Demo,
        "list": Group("List presets, variants, environments or runs.", LISTINGS),
        "config": ShowConfig,
        "digest": Digest,
        "verify": Verify,
        "replay-step": ReplayStep,
        "bench": Group("Measure speed and memory.", BENCHMARKS),
    },
)
"""Commands in the order of the help. Their modules import PyTorch only when they run: it takes seconds."""

OK, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, by default that of the process.

    Returns:
        Exit status: 0, 1 after an error, 2 if the command line was wrong, 128 and the signal's number if interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    try:
        if words[:1] in (["-V"], ["--version"], ["version"]):
            print(f"reverie {reverie_version() or '(version unknown: not installed)'}")
        else:
            parse(REVERIE, words or ["--help"])()
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
