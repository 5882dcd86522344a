"""Resuming that is refused, or has nothing to do: the folder stays as it was, byte for byte."""

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

import reverie
from reverie.config import load_config
from reverie.errors import ReverieError
from reverie.runs.run_folder import RunFolder
from reverie.runs.verify import verify
from reverie.training import train_config

SETTINGS: dict[str, Any] = {
    **{"steps": 40, "prefill": 20, "threads": 1, "train_every": 10, "log_every": 10, "checkpoint_every": 20},
    **{"eval_every": 0, "seed": 3, "env.parallel": False},
}


class Line(gymnasium.Env[Any, int]):
    """Episodes of 10 steps along a line."""

    width = 3
    observation_space = gymnasium.spaces.Box(-1, 1, (width,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start at zero."""
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(self.width, np.float32), {}

    def step(self, action: int) -> Any:
        """Move on."""
        self.steps += 1
        return np.full(self.width, self.steps / 10, np.float32), 1.0, self.steps == 10, False, {}


class Plane(Line):
    """The same with wider observations."""

    width = 4
    observation_space = gymnasium.spaces.Box(-1, 1, (width,), np.float32)


class Broken(Line):
    """An environment that cannot be made."""

    def __init__(self) -> None:
        raise ValueError("no power")


for other in (Plane, Broken):
    other.__qualname__ = Line.__qualname__  # A run's environment is named by it.


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    reverie.train(Line, "debug", logdir=folder, **SETTINGS)
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "run", symlinks=True)
    return tmp_path / "run"


def tree(folder: Path) -> dict[str, str]:
    """Hash of every file, link and folder, the lock's file included."""
    found = {}
    for path in folder.rglob("*"):
        link = path.is_symlink()
        content = str(path.readlink()) if link else path.read_bytes().hex() if path.is_file() else ""
        found[str(path.relative_to(folder))] = hashlib.sha256(content.encode()).hexdigest()
    return found


def newest(run: Path) -> Path:
    return max((run / "checkpoints").glob("step-*"))


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def damage_rows(run: Path) -> None:
    """Swap two steps, so that pages stay valid and only checksums find it."""
    with closing(sqlite3.connect(run / "replay.db")) as database, database:
        (one, first), (other, second) = database.execute("SELECT id, data FROM steps LIMIT 2 OFFSET 3").fetchall()
        database.executemany("UPDATE steps SET data = ? WHERE id = ?", [(second, one), (first, other)])


def damage_pages(run: Path) -> None:
    path = run / "replay.db"
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = b"\1" * 64
    path.write_bytes(data)


def damage_metrics(run: Path) -> None:
    path = run / "metrics.jsonl"
    path.write_text("nonsense\n" + path.read_text().partition("\n")[2])


def remove(name: str) -> Callable[[Path], Any]:
    return lambda run: shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink()


def nothing(run: Path) -> None:
    pass


CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
EPISODES = {"replay.sampling": "episodes"}
REFUSALS: dict[str, tuple[Callable[[Path], Any], Any, dict[str, Any], str]] = {
    "another environment": (nothing, "CartPole-v1", {}, "The run in {run} is of .*Line and cannot"),
    "another space": (nothing, Plane, {}, "another environment|other sizes|do not fit"),
    "an environment that cannot be made": (nothing, Broken, {}, "no power"),
    "another seed": (nothing, Line, {"seed": 5}, "The run in {run} has seed 3 .* Leave --seed out"),
    "another seed and nothing to do": (nothing, Line, {"seed": 5, "steps": 40}, "The run in {run} has seed 3"),
    "other sizes": (nothing, Line, {"world_model.rssm.deter": 24}, r"leave world_model\.rssm\.deter \(16 there\)"),
    "too long sequences": (nothing, Line, {**EPISODES, "replay.batch_length": 15}, "15 is too long for all of the"),
    "too large a batch": (nothing, Line, {"replay.batch_size": 10**9}, "A batch of replay.batch_size=1000000000 x"),
    "no such device": (nothing, Line, {"device": "cuda"}, "no CUDA device here"),
    "no such device and nothing to do": (nothing, Line, {"device": "cuda", "steps": 40}, "no CUDA device here"),
    "no such logger": (nothing, Line, {"loggers": ["nosuch"]}, "There is no logger 'nosuch'"),
    "no replay": (remove("replay.db"), Line, {}, r"{run} cannot be resumed: .*{run}/replay\.db is missing"),
    "an empty replay": (
        lambda run: (run / "replay.db").write_bytes(b""),
        Line,
        {},
        r"{run} cannot be resumed: .*{run}/replay\.db is empty",
    ),
    "damaged rows": (damage_rows, Line, {}, r"{run}/replay\.db is damaged .*`reverie verify {run}`"),
    "damaged pages": (damage_pages, Line, {}, r"{run}/replay\.db"),
    "no database": (
        lambda run: (run / "replay.db").write_bytes(b"x" * 5000),
        Line,
        {},
        r"{run}/replay\.db",
    ),
    "no checkpoints": (remove("checkpoints"), Line, {}, "{run} cannot be resumed: it has .* but no checkpoint"),
    "no configuration": (
        remove("config.toml"),
        Line,
        {},
        r"{run} cannot be resumed, since its config\.toml is missing",
    ),
    "no configuration and no checkpoints": (
        lambda run: (remove("config.toml")(run), remove("checkpoints")(run)),
        Line,
        {},
        r"{run} cannot be resumed, since its config\.toml is missing",
    ),
    "a damaged configuration": (
        lambda run: (run / "config.toml").write_text("{"),
        Line,
        {},
        r"{run}/config\.toml is not valid TOML",
    ),
    "damaged weights": (
        lambda run: damage(newest(run) / "tensors.safetensors"),
        Line,
        {},
        r"tensors\.safetensors does not have its checksum; `reverie verify {run} --repair`",
    ),
    "a damaged state": (lambda run: damage(newest(run) / "state.json"), Line, {}, r"state\.json does not have"),
    "no manifest": (lambda run: (newest(run) / "manifest.json").unlink(), Line, {}, r"manifest\.json is missing"),
    "damaged metrics": (damage_metrics, Line, {}, r"{run}/metrics\.jsonl, line 1 is damaged"),
}


@pytest.mark.parametrize("has_lock_file", [True, False])
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=CUDA if "device" in kind else ()) for kind in REFUSALS])
def test_train_resume_refused_changes_nothing(
    kind: str, has_lock_file: bool, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare, env, settings, words = REFUSALS[kind]
    prepare(run)
    if not has_lock_file:
        (run / ".lock").unlink()
    before = tree(run)
    with pytest.raises(ReverieError, match=words.replace("{run}", str(run))):
        reverie.train(env, logdir=run, resume=True, **{"steps": 60, **settings})
    assert tree(run) == before
    assert "nothing was trained" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "kind", ["another seed", "other sizes", "too long sequences", "damaged metrics", "damaged rows"]
)
def test_train_resume_refused_keeps_what_came_after_the_checkpoint(kind: str, run: Path) -> None:
    """Rows of metrics and replay after it are dropped when the run continues, and not before."""
    prepare, env, settings, _ = REFUSALS[kind]
    shutil.rmtree(newest(run))
    prepare(run)
    before = tree(run)
    with pytest.raises(ReverieError):
        reverie.train(env, logdir=run, resume=True, **{"steps": 60, **settings})
    assert tree(run) == before


def test_train_without_resume_refused_changes_nothing(run: Path) -> None:
    before = tree(run)
    with pytest.raises(ReverieError, match=f"{run} already holds a run"):
        reverie.train(Line, "debug", logdir=run, **SETTINGS)
    assert tree(run) == before


def test_train_resume_of_a_locked_run_changes_nothing(run: Path) -> None:
    with RunFolder.hold(run):
        before = tree(run)
        with pytest.raises(ReverieError, match=f"{run} is in use by process"):
            reverie.train(Line, logdir=run, resume=True, steps=60)
        assert tree(run) == before


def test_train_resume_refused_before_the_first_checkpoint_changes_nothing(tmp_path: Path) -> None:
    """A run that was killed in its set-up starts from its beginning, but not if that fails, too."""
    config = reverie.preset("debug").for_env("CartPole-v1")
    with RunFolder.create(tmp_path / "run", config) as folder:
        folder.begin(config)
    before = tree(tmp_path)
    with pytest.raises(ReverieError, match="no power"):
        reverie.train(Broken, "debug", logdir=tmp_path / "run", resume=True, **SETTINGS)
    assert tree(tmp_path) == before


def test_train_resume_of_an_empty_folder_refuses_a_variant_without_effect(tmp_path: Path) -> None:
    with pytest.raises(ReverieError, match="no-kl-balancing changes nothing here"):
        reverie.train(Line, "article", logdir=tmp_path, variant="no-kl-balancing", resume=True)
    assert not list(tmp_path.iterdir())


# Nothing to do


HAS_ITS = "This run has its 40 steps; nothing was trained or saved"
FEWER = "This run has 40 steps, and 30 were asked for; nothing was trained or saved"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, f"{HAS_ITS}. Raise"),
        ({"steps": 40, "seed": 3, "log_every": 10}, f"{HAS_ITS}. Raise"),
        ({"steps": 30}, f"{FEWER}. Raise"),
        ({"replay.capacity": 1000}, f"{HAS_ITS}, nor were new settings. Raise"),
        ({"steps": 30, "log_every": 5}, f"{FEWER}, nor were new settings. Raise"),
    ],
)
def test_train_resume_with_nothing_to_do_changes_nothing_and_reports_it(
    settings: dict[str, Any], words: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(run)
    agent = reverie.train(Line, logdir=run, resume=True, **settings)
    assert tree(run) == before
    assert agent.agent_steps == 40
    out = " ".join(capsys.readouterr().out.split())
    assert words in out and out.endswith("Raise --steps to continue it.")
    assert not verify(run).damage


def test_train_resume_with_nothing_to_do_names_an_unknown_logger(run: Path) -> None:
    before = tree(run)
    with pytest.raises(ReverieError, match="nonsuch"):
        reverie.train(Line, logdir=run, resume=True, loggers=["nonsuch"])
    assert tree(run) == before


def test_train_resume_of_folders_without_results_starts_the_run(tmp_path: Path) -> None:
    """A run that was killed while its folder was laid out has no configuration yet."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "metrics.jsonl").touch()
    assert reverie.train(Line, "debug", logdir=tmp_path, resume=True, **SETTINGS).agent_steps == 40


def test_train_resume_with_a_preset_keeps_the_seed_of_the_run(run: Path) -> None:
    reverie.train(Line, "debug", logdir=run, resume=True, **{**SETTINGS, "steps": 50} | {"seed": 3})
    settings = {name: value for name, value in SETTINGS.items() if name != "seed"}
    reverie.train(Line, "debug", logdir=run, resume=True, **{**settings, "steps": 60})
    assert load_config(run / "config.toml").training.seed == 3


def test_train_config_resume_with_another_seed_is_refused(run: Path) -> None:
    config = load_config(run / "config.toml").override(seed=4, steps=60)
    with pytest.raises(ReverieError, match="has seed 3"):
        train_config(config, run, resume=True, env_factory=Line)


# Messages


def test_train_resume_reports_where_it_continues_and_what_has_changed(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reverie.train(Line, logdir=run, resume=True, steps=60, **{"world_model.kl.scale": 0.5})
    out = capsys.readouterr().out
    assert "debug" in out.splitlines()[0]  # the preset that the run was started with
    assert "Continuing from step 40 of 60." in out
    assert "world_model.kl.scale: 0.5 (was 1)" in out and "training.steps: 60 (was 40)" in out
    saved = load_config(run / "config.toml")
    assert saved.world_model.kl.scale == 0.5
    assert json.loads((run / "about.json").read_text())["preset"] == "debug"
