"""`reverie studio` and `reverie play`: mistakes get a sentence before anything is served."""

import socket
from pathlib import Path

import pytest

from reverie.cli.main import main

pytest.importorskip("starlette", reason="the studio is not installed: pip install 'reverie[studio]'")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("studio nowhere", "There is no folder nowhere. Nothing is shown."),
        ("studio . --port 99999", "Port 99999 of 127.0.0.1 cannot be used"),
        ("studio . --host no.such.host.invalid", "of no.such.host.invalid cannot be used"),
        ("studio . --port web", "Error parsing --port"),
        ("play nowhere", "There is nothing at nowhere"),
        ("play .", "is not the folder of a run, of a checkpoint or of a saved agent"),
    ],
)
def test_mistakes(
    line: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) in (1, 2)
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["studio", str(tmp_path), "--port", str(port)]) == 1
    assert f"Port {port} of 127.0.0.1 cannot be used (Address already in use" in capsys.readouterr().err
