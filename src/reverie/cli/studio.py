"""`reverie studio` and `reverie play`: watch runs and play inside the dream, in a browser."""

import sys
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import tyro

from reverie.cli.console import require, say
from reverie.errors import ReverieError
from reverie.runs.layout import CHECKPOINTS, CONFIG


@dataclass(frozen=True)
class Studio:
    """Watch runs, and play inside the dream of their agents, in a browser.

    The address is printed on the first line. Only this machine is answered, and only who has the address.
    """

    folder: tyro.conf.Positional[Path] = Path("runs")
    """Folder that holds runs, up to four levels down."""
    port: int = 0
    """Port to listen on; 0 takes a free one."""
    host: str = "127.0.0.1"
    """Address to listen on. Others than this machine's own let in the first browser of the network that opens the
    printed address; nothing is encrypted."""
    open: bool = True
    """Open the page, where there is a display."""

    def __call__(self) -> None:
        advice = "Nothing is shown. Name one that holds runs, or train an agent."
        require(self.folder.is_dir(), f"There is no folder {self.folder}. {advice}")
        folder, page = self.folder.resolve(), "/"
        if (folder / CONFIG).is_file():  # a run itself
            folder, page = folder.parent, f"/run/{quote(folder.name)}"
        run_studio(folder, self.host, self.port, self.open, page)


@dataclass(frozen=True)
class Play:
    """Play inside the dream of an agent, and beside it in its environment, in a browser."""

    run: tyro.conf.Positional[Path | None] = None
    """Folder of a run, of one of its checkpoints, or of a saved agent."""
    example: str | None = None
    """Instead of a run: an agent that comes with reverie, boxing or cartpole."""
    env: str | None = None
    """Gymnasium id or module:Class, also from the current folder; needed if the run was trained on a class."""
    port: int = 0
    """Port to listen on; 0 takes a free one."""
    host: str = "127.0.0.1"
    """Address to listen on, see `reverie studio`."""
    open: bool = True
    """Open the page, where there is a display."""

    def __call__(self) -> None:
        from reverie.runs.run_folder import find_checkpoint

        is_one = (self.run is None) != (self.example is None)
        require(is_one, "Name one agent: reverie play RUN, or reverie play --example boxing. Nothing is shown.")
        if self.run is None:
            assert self.example is not None
            from reverie.studio.example_agents import PREFIX, example_path

            folder = example_path(self.example)
            page = f"/play/{PREFIX}{folder.name}"
            run_studio(folder.parent, self.host, self.port, self.open, page, self.env)
            return
        find_checkpoint(self.run)  # or one sentence that says why there is nothing to play with
        folder = self.run.resolve()
        folder = folder.parent if folder.is_file() else folder
        folder = folder.parent if folder.name == CHECKPOINTS else folder
        run_studio(folder.parent, self.host, self.port, self.open, f"/play/{quote(folder.name)}", self.env)


def run_studio(folder: Path, host: str, port: int, opens: bool, page: str = "/", env: str | None = None) -> None:
    """Serve until interrupted."""
    try:
        from reverie.studio.server import serve
    except ImportError as error:
        raise ReverieError(
            f"The studio needs {error.name}, which is not installed. Install it: pip install 'reverie[studio]'."
        ) from error
    from reverie.training.threads import act_on_one_thread

    act_on_one_thread()
    is_local = host in ("127.0.0.1", "localhost", "::1")
    if not is_local:
        say(("warning: ", "yellow"), f"{host} is reached from other machines, and nothing is encrypted.", stderr=True)

    def started(address: str) -> None:
        print(address, flush=True)
        say("Ctrl-C ends it.", stderr=True)
        if opens and sys.stdout.isatty() and is_local:
            webbrowser.open(address)

    serve(folder, host, port, started, page, env)
