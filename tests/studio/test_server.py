"""The server: who is let in, what is answered, and what no message can do."""

import base64
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the studio is not installed: pip install 'reverie[studio]'")

from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

import reverie
from reverie.analysis.report import report_runs
from reverie.runs.run_folder import RunFolder
from reverie.studio import server
from reverie.studio.access import COOKIE, remember, remembered_cookie
from reverie.studio.server import create_app
from reverie.studio.session import Session

HOST, TOKEN, VALUE = "127.0.0.1:8000", "one-time", "a-long-secret"
URL = f"http://{HOST}"
COOKIE_NAME = f"{COOKIE}8000"
Connect = Callable[..., TestClient]


@pytest.fixture
def connect(runs: Path) -> Iterator[Connect]:
    clients = []

    def make(folder: Path = runs, open_session: Any = Session, **options: Any) -> TestClient:
        app = create_app(folder, frozenset({HOST}), TOKEN, VALUE, open_session)
        client = TestClient(app, base_url=URL, **{"cookies": {COOKIE_NAME: VALUE}, **options})
        client.__enter__()
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.__exit__()


def play(client: TestClient, name: str = "breakout", **headers: str) -> Any:
    return client.websocket_connect(f"/game/{name}", headers={"origin": URL, "host": HOST, **headers})


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "replay.db-shm"
    }


# Access


def test_token_opens_once_and_leaves_a_cookie(connect: Connect) -> None:
    client = connect(cookies={})
    refused = client.get("/")
    assert (refused.status_code, "has been used, or is not complete" in refused.text) == (403, True)
    opened = client.get(f"/?token={TOKEN}", follow_redirects=False)
    assert (opened.status_code, opened.headers["location"]) == (303, "/")
    assert {"HttpOnly", "SameSite=lax"} <= {part.strip() for part in opened.headers["set-cookie"].split(";")}
    assert client.get("/").status_code == 200
    client.cookies.clear()
    assert client.get(f"/?token={TOKEN}").status_code == 403


@pytest.mark.parametrize("token", ["", "wrong", "one-tim", "ö" * 9])
def test_wrong_tokens_and_cookies_are_refused(connect: Connect, token: str) -> None:
    client = connect(cookies={COOKIE_NAME: "another"})
    assert client.get("/", params={"token": token}).status_code == 403
    assert client.get("/api/runs").status_code == 403


def test_other_hosts_and_origins_are_refused(connect: Connect) -> None:
    """A page elsewhere, also where its name leads to this machine, as in DNS rebinding."""
    client = connect()
    assert client.get("/api/runs", headers={"host": "evil.example:8000"}).status_code == 403
    assert client.get("/api/runs", headers={"origin": "http://evil.example"}).status_code == 403
    assert client.get("/api/runs", headers={"origin": URL}).status_code == 200
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {"host": "evil.example"}):
        with pytest.raises(WebSocketDisconnect) as refused, play(client, **headers):
            pass
        assert refused.value.code == 4403
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/watch", headers={"host": HOST}):
        pass  # a socket without an origin is no page


def test_token_under_another_name_is_refused_and_stays_valid(connect: Connect) -> None:
    client = connect(cookies={})
    assert client.get(f"/?token={TOKEN}", headers={"host": "evil.example"}).status_code == 403
    assert client.get(f"/?token={TOKEN}", follow_redirects=False).status_code == 303


def test_every_answer_has_a_content_security_policy(connect: Connect) -> None:
    client = connect()
    for path in ("/", "/run/breakout", "/play/breakout", "/api/runs", "/static/play.js", "/nothing", "/plotly.js"):
        headers = client.get(path).headers
        assert "default-src 'none'; script-src 'self'" in headers["content-security-policy"], path
        assert headers["x-content-type-options"] == "nosniff"
    assert "<script>" not in client.get("/play/breakout").text


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_nothing_but_reading_is_answered(connect: Connect, method: str) -> None:
    client = connect()
    for path in ("/", "/api/runs", "/run/breakout", "/static/play.js"):
        assert getattr(client, method)(path).status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "/run/../../etc/passwd",
        "/run/%2e%2e/%2e%2e",
        "/api/run/nothing",
        "/video/..%2fconfig.toml/breakout",
        "/video/config.toml/breakout",
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/play/" + "x" * 5000,
    ],
)
def test_paths_lead_nowhere_else(connect: Connect, path: str) -> None:
    assert connect().get(path).status_code == 404


def test_cookie_is_remembered_for_this_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first, path = remembered_cookie(), tmp_path / "cache" / "reverie" / "studio-cookie"
    assert len(first) >= 32
    assert path.stat().st_mode & 0o077 == 0
    assert remembered_cookie() == first
    path.write_text("short")
    assert len(remembered_cookie()) >= 32


def test_own_address_is_answered_where_every_address_is(runs: Path) -> None:
    for is_every, status in ((False, 403), (True, 200)):
        app = create_app(runs, frozenset({"name:8000"}), TOKEN, VALUE, is_every=is_every)
        client = TestClient(app, base_url="http://192.168.7.7:8000", cookies={COOKIE_NAME: VALUE})
        assert client.get("/").status_code == status
        assert client.get("/", headers={"host": "192.168.7.8:8000"}).status_code == 403
        assert client.get("/", headers={"host": "NAME:8000"}).status_code == 200


def test_origin_that_is_no_address_is_refused(connect: Connect) -> None:
    assert connect().get("/", headers={"origin": "http://["}).status_code == 403


def test_previews_of_a_link_do_not_use_its_token_up(connect: Connect) -> None:
    client = connect(cookies={})
    assert client.head(f"/?token={TOKEN}").status_code == 403
    assert client.get(f"/?token={TOKEN}", follow_redirects=False).status_code == 303


def test_studio_starts_at_the_port_of_last_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with server._listen("127.0.0.1", 0, server.socket.AF_INET) as first:
        port = first.getsockname()[1]
        remember(server.PORT_FILE, str(port))
        with server._listen("127.0.0.1", 0, server.socket.AF_INET) as second:
            assert second.getsockname()[1] != port
    with server._listen("127.0.0.1", 0, server.socket.AF_INET) as again:
        assert again.getsockname()[1] == port


# Runs


def test_runs_and_their_curves(connect: Connect, runs: Path) -> None:
    client = connect()
    found = {run["name"]: run for run in client.get("/api/runs").json()}
    assert found.keys() == {"breakout", "cartpole"}
    assert found["cartpole"]["env"] == "CartPole-v1"
    assert (found["cartpole"]["state"], found["cartpole"]["step"], found["cartpole"]["planned"]) == (
        "finished",
        300,
        300,
    )
    details = client.get("/api/run/cartpole").json()
    assert ["training.steps", "300", "1000"] in details["changed"]
    assert "model/kl" in details["metrics"]
    series = client.get("/api/series/cartpole", params={"metric": ["model/kl", "no/such"]}).json()
    assert series.keys() == {"model/kl"}
    frames, values = series["model/kl"]
    assert len(frames) == len(values) > 0


def test_messages_of_a_run_newest_first(connect: Connect, runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "cartpole", tmp_path / "run")
    lines = [f"2026-12-01 10:00:{second:02} +0000 step {second}: <b>message</b> {second}\n" for second in range(60)]
    (tmp_path / "run" / "messages.log").write_text("".join(lines * 2))
    found = connect(tmp_path).get("/api/run/run").json()["messages"]
    assert found == (lines * 2)[-100:][::-1]


def test_report_is_the_page_that_the_command_writes(connect: Connect, runs: Path, tmp_path: Path) -> None:
    client = connect()
    page = client.get("/report", params={"run": ["cartpole", "breakout"]})
    written = report_runs([runs / "cartpole", runs / "breakout"], tmp_path / "report").page.read_text()
    without_time = re.compile(r"<dt>Made</dt><dd>.*?</dd>")
    assert without_time.sub("", page.text) == without_time.sub("", written)
    refused = client.get("/report", params={"run": ["cartpole", "absent"]})
    assert refused.status_code == 404 and len(refused.text) > 20


def test_diagnosis_has_findings_and_a_picture(connect: Connect, runs: Path) -> None:
    client = connect()
    before = content(runs)
    answer = client.get("/api/diagnosis/cartpole")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert {"rule", "section", "severity", "seen", "means", "advice"} == set(found["findings"][0])
    assert base64.b64decode(found["picture"]).startswith(b"\x89PNG")
    assert content(runs) == before


def test_diagnosis_that_is_impossible_says_why(connect: Connect, runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "cartpole", tmp_path / "run", ignore=shutil.ignore_patterns("replay.db*"))
    answer = connect(tmp_path).get("/api/diagnosis/run")
    assert answer.status_code == 409 and "replay" in answer.text


def test_run_that_trains_is_watched(connect: Connect, runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "live"
    folder.mkdir()
    (folder / "config.toml").write_bytes((runs / "cartpole" / "config.toml").read_bytes())
    lines = (runs / "cartpole" / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text(lines[0])
    client = connect(tmp_path)
    server.REFRESH, kept = 0.1, server.REFRESH
    try:
        with client.websocket_connect("/watch", headers={"origin": URL, "host": HOST}) as socket:
            first = socket.receive_json()
            assert (first["changed"][0]["name"], first["changed"][0]["state"]) == ("live", "stopped")
            with RunFolder.hold(folder):
                (folder / "metrics.jsonl").write_text("".join(lines) + lines[0][:20])  # a row is being written
                while (state := socket.receive_json()["changed"][0])["state"] != "running":
                    pass
            while state["step"] != 300:
                (state,) = socket.receive_json()["changed"]
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
            while not (gone := socket.receive_json()["gone"]):
                pass
            assert gone == ["live"]
    finally:
        server.REFRESH = kept
    assert client.get("/run/live").status_code == 404


def test_unreadable_run_is_named_with_its_reason(connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.toml").write_text("[training\n")
    (tmp_path / "broken" / "metrics.jsonl").write_text("no json\n" + '{"step": 1, "frames": 1, "a": null, "b": [1]}\n')
    (run,) = connect(tmp_path).get("/api/runs").json()
    assert run["name"] == "broken"
    assert run["problem"]
    assert run["step"] == 1


def test_long_curves_are_thinned_and_keep_their_mean(connect: Connect, runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "long"
    folder.mkdir()
    (folder / "config.toml").write_bytes((runs / "cartpole" / "config.toml").read_bytes())
    rows = ({"step": i, "frames": i, "model/kl": i % 7} for i in range(70_000))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    frames, values = connect(tmp_path).get("/api/series/long?metric=model/kl").json()["model/kl"]
    assert len(frames) == 1000
    assert sum(values) / 1000 == pytest.approx(3)
    assert frames == sorted(frames)


# Games


def test_game_over_the_socket_changes_nothing_in_the_run(connect: Connect, runs: Path) -> None:
    before = content(runs)
    with play(connect()) as socket:
        assert socket.receive_json()["env"] == "MinAtar/Breakout-v1"
        socket.send_json({"do": "begin", "from": "env", "seed": 1})
        assert socket.receive_json()["meanings"] == ["NOOP", "LEFT", "RIGHT"]
        for depth in range(1, 6):
            socket.send_json({"do": "step", "world": "both"})
            assert socket.receive_json()["node"]["depth"] == depth
        socket.send_json({"do": "episodes"})
        assert socket.receive_json()["episodes"]
    assert content(runs) == before


def test_malformed_messages_are_answered_with_a_sentence(connect: Connect) -> None:
    with play(connect()) as socket:
        socket.receive_json()
        long = "9" * 400
        for text in (
            "",
            "{",
            "[]",
            r'{"do": "\ud800"}',
            f'{{"do": "step", "action": {long}}}',
            "null",
            '{"do": 7}',
            '{"do": "step", "node": 1e999}',
            "[" * 50_000,
        ):
            socket.send_text(text)
            assert len(socket.receive_json()["error"]) > 10
        socket.send_bytes(b"\x00\xff")
        assert "must be text" in socket.receive_json()["error"]
        socket.send_json({"do": "begin"})
        assert "node" in socket.receive_json()


def test_error_of_an_environment_ends_no_game(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    with play(connect()) as socket:
        socket.receive_json()
        with monkeypatch.context() as patch:
            patch.setattr(Session, "_playing", lambda self: 1 / 0)
            socket.send_json({"do": "step"})
            assert "ZeroDivisionError" in socket.receive_json()["error"]
        socket.send_json({"do": "begin"})
        assert "node" in socket.receive_json()


def test_run_without_an_agent_says_so(connect: Connect, runs: Path, tmp_path: Path) -> None:
    (tmp_path / "young").mkdir()
    (tmp_path / "young" / "config.toml").write_bytes((runs / "cartpole" / "config.toml").read_bytes())
    client = connect(tmp_path)
    for name, words in (("young", "has no checkpoint yet"), ("absent", "This run is gone")):
        with play(client, name) as socket:
            answer = socket.receive_json()
            assert words in answer["error"]
            assert answer["ended"]


def test_checkpoints_and_saved_agents_are_played_by_their_paths(connect: Connect, runs: Path, tmp_path: Path) -> None:
    newest = max(path.name for path in (runs / "breakout" / "checkpoints").glob("step-*"))
    with play(connect(), f"breakout/checkpoints/{newest}") as socket:
        assert socket.receive_json()["checkpoint"] == newest
    reverie.save(reverie.load(runs / "cartpole"), tmp_path / "agent")
    client = connect(tmp_path)
    assert client.get("/play/agent").status_code == 200
    with play(client, "agent") as socket:
        assert socket.receive_json()["env"] == "CartPole-v1"
    assert client.get(f"/play/../{runs.name}/breakout/checkpoints/{newest}").status_code == 404


def test_games_are_limited_and_closed(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_GAMES", 1)
    client = connect()
    with play(client) as socket:
        socket.receive_json()
        with play(client) as other:
            assert "1 games are open" in other.receive_json()["error"]
    with play(client) as socket:
        assert "env" in socket.receive_json()
