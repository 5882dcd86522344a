"""The `reverie` command: finds the subcommand, and turns errors into one sentence and an exit status."""

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from reverie.errors import ReverieError
from reverie.provenance import reverie_version


class Entry(NamedTuple):
    """A command: the module whose `run(argv)` does it, and what it is for."""

    module: str
    usage: str
    summary: str


COMMANDS: dict[str, Entry] = {
    "train": Entry("train", "ENV [options]", "Train an agent in an environment."),
    "eval": Entry("evaluate", "RUN [options]", "Score a trained agent."),
    "dream": Entry("dream", "RUN [options]", "Draw what the world model expects, beside what happened."),
    "diagnose": Entry("doctor", "RUN [options]", "Examine a run: what its world model is doing, and what to try."),
    "plot": Entry("plot", "RUN... [options]", "Draw the learning curves of runs."),
    "digest": Entry("digest", "RUN", "Print one hash over everything that a run has computed."),
    "verify": Entry("verify", "RUN", "Compare every file of a run with its checksum."),
    "replay-step": Entry("replay_step", "FOLDER", "Make an update again that was not finite and ended a run."),
    "sweep": Entry(
        "sweep", "PLAN [options]", "Run a grid of environments, variants and seeds; goes on where it stopped."
    ),
    "ablate": Entry("ablate", "[ENV...] [options]", "Train the agent and the article's ablations, and compare them."),
    "report": Entry("report", "RUN... [options]", "Compare runs with each other and with what was published."),
    "demo": Entry("demo", "[options]", "Train on an Atari game for some minutes, then show what was learned."),
    "bench": Entry("bench", "WHAT [options]", "Measure speed and memory: train-step, collect, replay or loop."),
    "config": Entry("config", "PRESET [options]", "Print a preset's configuration."),
    "presets": Entry("presets", "", "List the presets."),
    "variants": Entry("variants", "", "List the variants of the agent, for --variant."),
    "envs": Entry("envs", "", "List the environments that can be trained on here."),
}
"""In the order of the help. Modules are imported when they are needed: PyTorch alone takes seconds."""

OK, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130
_OUTPUT_LOST = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: arguments without the program's name; None takes those of the process.

    Returns:
        Exit status: 0, 1 after an error, 2 if the command line was wrong, 130 if interrupted (128 and the number of
        the signal).
    """
    try:
        status = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()  # here, where a closed pipe or a full disk can still be told
        return status
    except ReverieError as error:
        from reverie.cli.options import UsageError, say_error

        say_error(str(error))
        return MISUSED if isinstance(error, UsageError) else FAILED
    except KeyboardInterrupt as error:
        # A trainer that was stopped says where it saved.
        print(str(error) or "Interrupted.", file=sys.stderr)
        return 128 + int(getattr(error, "signal", INTERRUPTED - 128))
    except OSError as error:
        if error.errno not in _OUTPUT_LOST:
            raise
        # Nothing can be written any more, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:  # the reader of a pipe may go (`| head`)
            from reverie.cli.options import say_error

            say_error(f"The output could not be written ({error.strerror}); free some space.")
        return FAILED
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else OK if stop.code is None else FAILED


def _dispatch(argv: list[str]) -> int:
    first = argv[0] if argv else ""
    if first in ("", "-h", "--help", "help"):
        _print_help()
        return OK if first else MISUSED
    if first in ("-V", "--version", "version"):
        print(f"reverie {reverie_version() or '(version unknown: not installed)'}")
        return OK
    if first not in COMMANDS:
        from reverie.cli.options import unknown
        from reverie.config import nearest

        what = "There is no option" if first.startswith("-") else "There is no command"
        near = nearest(first, ["--help", "--version"] if first.startswith("-") else COMMANDS, 1)
        unknown(what, first, near, f"; the commands are {', '.join(COMMANDS)}.")
    module = importlib.import_module(f"reverie.cli.{COMMANDS[first].module}")
    module.run(argv[1:])
    return OK


def _print_help() -> None:
    from rich.table import Table

    from reverie.cli.options import console

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold cyan", no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, (_, usage, summary) in COMMANDS.items():
        table.add_row(f"  {name}", usage.replace("[", r"\["), summary)
    out = console()
    out.print("[bold]reverie[/bold]: DreamerV2 for PyTorch\n\nusage: reverie COMMAND ...\n")
    out.print(table)
    out.print(
        "\nStart with:\n"
        "  reverie demo\n"
        "  reverie train ALE/Pong-v5 --preset atari-small\n"
        "\n`reverie COMMAND --help` says more; `reverie train --help` lists every setting.",
        markup=False,
    )


if __name__ == "__main__":
    sys.exit(main())
