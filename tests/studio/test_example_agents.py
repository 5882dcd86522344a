"""The agents that come with the package: small, loadable, and playable."""

from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the studio is not installed: pip install 'reverie[studio]'")

import reverie
from reverie.cli.main import main
from reverie.errors import ReverieError
from reverie.studio.example_agents import PREFIX, example_names, example_path
from reverie.studio.runs import RunIndex
from reverie.studio.session import Session

NAMES = ("boxing", "cartpole")


def test_examples_are_small_and_described() -> None:
    assert set(example_names()) == set(NAMES)
    folder = example_path("boxing").parent
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    assert sum(sizes) < 12 << 20
    readme = (folder / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_example_is_played_beside_its_environment(name: str) -> None:
    agent = reverie.load(example_path(name))
    assert all(bool(parameter.isfinite().all()) for parameter in agent.parameters())
    session = Session(example_path(name))
    session.handle({"do": "begin", "from": "env", "seed": 0})
    for _ in range(15):
        answer = session.handle({"do": "step", "world": "both"})
    session.close()
    node = answer["node"]
    assert node["depth"] == 15
    assert node["divergence"] < 0.01  # of squared differences of images in [0, 1]; grey against black has 0.25


def test_examples_have_addresses_in_any_folder(tmp_path: Path) -> None:
    index = RunIndex(tmp_path)
    run = index.get(f"{PREFIX}boxing")
    assert run is not None and run.path == example_path("boxing")
    assert index.get(f"{PREFIX}../boxing") is None and index.get(f"{PREFIX}nothing") is None


def test_unknown_example_is_refused_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ReverieError, match="did you mean boxing"):
        example_path("boxng")
    assert main(["play", "--example", "boxng"]) == 1
    assert "There is no example agent 'boxng'; nothing was loaded; did you mean boxing?" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["play"], ["play", "runs/a", "--example", "boxing"]])
def test_one_agent_must_be_named(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) in (1, 2)
    assert "Name one agent" in capsys.readouterr().err
