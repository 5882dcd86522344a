"""The studio's server: pages, data as JSON, and a socket for each game.

The address has a token, see `access.py`. Nothing but `GET` is answered, and no run is ever written to.
"""

import asyncio
import logging
import secrets
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp
from starlette.websockets import WebSocket, WebSocketDisconnect

from reverie.analysis.report import report_page
from reverie.errors import ReverieError
from reverie.studio.access import AccessMiddleware, remember, remembered, remembered_cookie
from reverie.studio.example_agents import PREFIX, example_names
from reverie.studio.messages import MessageError, parse_message
from reverie.studio.runs import RunIndex, WatchedRun, diagnosis
from reverie.studio.session import Session

LOCAL = ("127.0.0.1", "localhost", "::1")
"""Addresses that only this machine reaches."""
PORT_FILE = "studio-port"
MAX_MESSAGE = 1 << 20
"""Bytes of a message from a page."""
MAX_GAMES = 4
"""Games that may be open at the same time; each holds an agent."""
REFRESH = 2.0
"""Seconds between two looks at the runs for the pages that watch them, at least."""
LONGEST = 60.0
"""Seconds between them at most."""
LOAD = 0.01
"""Share of a core that looking may take."""


class Studio:
    """Pages, data and sockets.

    Args:
        index: the runs.
        open_session: returns a game with the agent of a run.
    """

    def __init__(self, index: RunIndex, open_session: Callable[[Path], Session] = Session) -> None:
        self.index = index
        self._open_session = open_session
        self._games = 0
        self._diagnosing = asyncio.Lock()
        self._templates = Environment(loader=PackageLoader("reverie.studio"), autoescape=True, auto_reload=False)

    def routes(self) -> list[Any]:
        """Return all routes."""
        static = StaticFiles(directory=str(files("reverie.studio") / "static"))
        return [
            Route("/", self.page_runs),
            Route("/run/{name:path}", self.page_run),
            Route("/play/{name:path}", self.page_play),
            Route("/compare", self.page_compare),
            Route("/report", self.page_report),
            Route("/api/runs", self.api_runs),
            Route("/api/run/{name:path}", self.api_run),
            Route("/api/series/{name:path}", self.api_series),
            Route("/api/diagnosis/{name:path}", self.api_diagnosis),
            Route("/video/{video}/{name:path}", self.video),
            Route("/plotly.js", self.plotly),
            Route("/style.css", self.style),
            WebSocketRoute("/watch", self.watch),
            WebSocketRoute("/game/{name:path}", self.game),
            Mount("/static", static),
        ]

    async def page_runs(self, request: Request) -> Response:
        """Serve the table of runs."""
        examples = {name: f"{PREFIX}{name}" for name in example_names()}
        return self._render("runs.html", title="Runs", folder=str(self.index.folder), examples=examples)

    async def page_run(self, request: Request) -> Response:
        """Serve the page of a run."""
        run = await self._run(request)
        return self._render("run.html", title=run.name, run=run.name)

    async def page_play(self, request: Request) -> Response:
        """Serve the page on which one plays."""
        run = await self._run(request)
        return self._render("play.html", title=f"Play {run.name}", run=run.name)

    async def page_compare(self, request: Request) -> Response:
        """Serve the page of several runs."""
        return self._render("compare.html", title="Compare")

    async def page_report(self, request: Request) -> Response:
        """Serve what `reverie report` writes about the runs of `?run=…`."""
        names = request.query_params.getlist("run")
        found = {name: await run_in_threadpool(self._find, name) for name in names}
        if gone := [name for name, run in found.items() if run is None]:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"There is no run {gone[0][:200]!r}. No report was made.")
        paths = [run.path for run in found.values() if run is not None]
        try:
            page = await run_in_threadpool(report_page, paths)
        except ReverieError as error:
            raise HTTPException(HTTPStatus.NOT_FOUND, str(error)) from None
        return HTMLResponse(page)

    async def api_runs(self, request: Request) -> Response:
        """Return the summaries of all runs."""
        return JSONResponse(await run_in_threadpool(self._summaries))

    async def api_run(self, request: Request) -> Response:
        """Return all about a run but its curves."""
        run = await self._run(request)
        return JSONResponse(_finite(await run_in_threadpool(run.details)))

    async def api_series(self, request: Request) -> Response:
        """Return curves of a run: those of `?metric=…`."""
        run = await self._run(request)
        return JSONResponse(_finite(await run_in_threadpool(run.series, request.query_params.getlist("metric"))))

    async def api_diagnosis(self, request: Request) -> Response:
        """Return the findings of `reverie diagnose` about the newest checkpoint, and its picture."""
        run = await self._run(request)
        async with self._diagnosing:  # it takes some seconds of a core, and one is enough
            try:
                found = await run_in_threadpool(diagnosis, run.path)
            except ReverieError as error:
                raise HTTPException(HTTPStatus.CONFLICT, str(error)) from None
        return JSONResponse(_finite(found))

    async def video(self, request: Request) -> Response:
        """Return a video that a run has saved."""
        run, name = await self._run(request), request.path_params["video"]
        path = run.path / "videos" / name
        is_video = Path(name).name == name and len(name) < 200 and path.suffix in (".gif", ".png")
        if not is_video or not path.is_file() or path.is_symlink():
            raise HTTPException(HTTPStatus.NOT_FOUND, f"The run has no video {name}.")
        return FileResponse(path)

    async def plotly(self, request: Request) -> Response:
        """Return the JavaScript that plotly's Python package brings."""
        path = str(files("plotly") / "package_data" / "plotly.min.js")
        return FileResponse(path, media_type="text/javascript", headers={"cache-control": "max-age=86400"})

    async def style(self, request: Request) -> Response:
        """Return the style that the pages share with those of `reverie report`."""
        return FileResponse(str(files("reverie.analysis.report") / "templates" / "style.css"))

    async def watch(self, socket: WebSocket) -> None:
        """Send the summaries of runs whenever one of them changes."""
        await socket.accept()
        known: dict[str, Any] = {}
        try:
            while True:
                started = time.monotonic()
                found = {each["name"]: each for each in await run_in_threadpool(self._summaries)}
                took = time.monotonic() - started
                changed = [each for name, each in found.items() if known.get(name) != each]
                gone = [name for name in known if name not in found]
                if changed or gone:
                    await socket.send_json({"changed": changed, "gone": gone})
                known = found
                try:  # what a page says here is not read; that it goes is noticed
                    await asyncio.wait_for(socket.receive(), max(REFRESH, min(took / LOAD, LONGEST)))
                except TimeoutError:
                    continue
                if socket.client_state.name != "CONNECTED":
                    return
        except (WebSocketDisconnect, RuntimeError):
            return

    async def game(self, socket: WebSocket) -> None:
        """Play: answer each message of a page."""
        await socket.accept()
        run = await run_in_threadpool(self._find, socket.path_params["name"])
        if run is None:
            await socket.send_json({"error": "This run is gone. Go back to the table of runs.", "ended": True})
            await socket.close()
            return
        if self._games >= MAX_GAMES:
            full = f"{MAX_GAMES} games are open, the most there can be. Close another one, and load this page again."
            await socket.send_json({"error": full, "ended": True})
            await socket.close()
            return
        self._games += 1
        session: Session | None = None
        try:
            try:
                session = await run_in_threadpool(self._open_session, run.path)
            except ReverieError as error:
                await socket.send_json({"error": str(error), "ended": True})
                await socket.close()
                return
            await socket.send_json(session.handle({"do": "hello"}))
            while True:
                try:
                    message = parse_message(await socket.receive_text())
                except MessageError as error:
                    await socket.send_json({"error": str(error)})
                    continue
                except KeyError:  # bytes instead of text
                    await socket.send_json({"error": "A message must be text. Nothing was done."})
                    continue
                await socket.send_json(_finite(await run_in_threadpool(_answer, session, message)))
        except (WebSocketDisconnect, RuntimeError):
            return
        finally:
            self._games -= 1
            if session is not None:
                await run_in_threadpool(session.close)

    def _summaries(self) -> list[dict[str, Any]]:
        return [_finite(each) for each in self.index.summaries(REFRESH / 2)]

    def _find(self, name: str) -> WatchedRun | None:
        run = self.index.get(name)
        if run is None:
            self.index.refresh()
            run = self.index.get(name)
        return run

    async def _run(self, request: Request) -> WatchedRun:
        name = request.path_params["name"]
        run = await run_in_threadpool(self._find, name)
        if run is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"There is no run {name[:200]!r} in {self.index.folder}.")
        return run

    def _render(self, template: str, **values: Any) -> Response:
        return HTMLResponse(self._templates.get_template(template).render(**values))


def create_app(
    folder: Path,
    hosts: frozenset[str],
    token: str,
    cookie: str,
    open_session: Callable[[Path], Session] = Session,
    is_every: bool = False,
) -> ASGIApp:
    """Return the studio of a folder of runs.

    Args:
        folder: holds runs, up to four levels down.
        hosts: values of the `Host` header that are answered.
        token: valid for one request.
        cookie: value of the cookie that it leaves.
        open_session: returns a game with the agent of a run.
        is_every: answer under every address of this machine, too.
    """
    studio = Studio(RunIndex(folder), open_session)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await run_in_threadpool(studio.index.refresh)
        yield

    def explain(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return Response(error.detail, error.status_code, media_type="text/plain")

    app = Starlette(routes=studio.routes(), lifespan=lifespan, exception_handlers={HTTPException: explain})
    return AccessMiddleware(app, hosts, token, cookie, is_every)


def serve(
    folder: Path, host: str, port: int, on_start: Callable[[str], None], page: str = "/", env: str | None = None
) -> None:
    """Serve a folder until interrupted.

    Args:
        folder: holds runs.
        host: address to listen on.
        port: 0 takes a free one.
        on_start: called with the address of a page once it is served.
        page: path of that page.
        env: environment in place of the agents' own, see `Session`.
    """
    import uvicorn

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = _listen(host, port, family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ReverieError(
            f"Port {port} of {host} cannot be used ({reason}). Nothing is served. Choose another "
            "--port; 0 takes a free one."
        ) from error
    port = listener.getsockname()[1]
    if host in LOCAL:
        remember(PORT_FILE, str(port))
    is_every = host in ("0.0.0.0", "::")
    names = {host} if host not in LOCAL and not is_every else {host, *LOCAL}
    names |= set() if host in LOCAL else {socket.gethostname()}
    hosts = {f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in names}
    hosts |= names if port == 80 else set()  # browsers leave this one out
    token = secrets.token_urlsafe(16)
    app = create_app(folder, frozenset(hosts), token, remembered_cookie(), partial(Session, env=env), is_every)
    config = uvicorn.Config(app, log_level="warning", ws_max_size=MAX_MESSAGE, ws="websockets-sansio", lifespan="on")
    server = uvicorn.Server(config)
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else host
    address = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}{page}?token={token}"

    def wait() -> None:
        while not server.started and not server.should_exit:
            threading.Event().wait(0.05)
        if server.started:
            on_start(address)

    threading.Thread(target=wait, daemon=True).start()
    with listener:
        server.run(sockets=[listener])


def _listen(host: str, port: int, family: int) -> socket.socket:
    """Return a socket; for port 0 at the port of last time, at which links and bookmarks of a browser are valid."""
    if port == 0 and host in LOCAL and (last := remembered(PORT_FILE)).isdecimal():
        with suppress(OSError, OverflowError):
            return socket.create_server((host, int(last)), family=family)
    return socket.create_server((host, port), family=family)


def _answer(session: Session, message: Any) -> dict[str, Any]:
    try:
        return session.handle(message)
    except Exception as error:  # of an environment or of PyTorch: the game may go on
        logging.getLogger("reverie").exception("A message of a game failed.")
        said = " ".join(str(error).split())[:200]
        return {"error": f"That failed ({type(error).__name__}: {said}). The game is as it was; its server has more."}


def _finite(value: Any) -> Any:
    """Return a value for JSON, with None for what is not finite."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and value - value != 0 else value
