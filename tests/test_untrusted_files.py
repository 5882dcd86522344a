"""Untrusted runs and agents: invented contents under valid checksums are refused in words, or taken as data."""

import faulthandler
import json
import mmap
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

import reverie
from reverie.acting import AgentPolicy
from reverie.agents import load_agent
from reverie.analysis.runs import read_run
from reverie.config import load_config
from reverie.dreamer import Dreamer
from reverie.errors import ReverieError
from reverie.runs.atomic_io import dumps_checksummed
from reverie.runs.checkpoint import TENSORS, Snapshot, read_checkpoint, write_checkpoint
from reverie.runs.digest import digest
from reverie.runs.metrics import read_metrics
from reverie.runs.provenance import read_provenance
from reverie.runs.verify import repair, verify
from reverie.training.failed_update import repeat
from tests.helpers.untrusted_databases import hostile_databases
from tests.helpers.untrusted_files import CHECKSUM, EXAMPLES, HOSTILE, little_memory, put, spoiled, spoiled_safetensors

RUN: dict[str, Any] = {
    **{"env.parallel": False, "threads": 1, "steps": 60, "prefill": 40, "train_every": 10, "pretrain": 1},
    **{"eval_every": 0, "video_every": 0, "log_every": 10, "checkpoint_every": 1000},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    reverie.train("CartPole-v1", "debug", logdir=folder, **RUN)
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy, and little memory."""
    shutil.copytree(trained, tmp_path / "run", symlinks=True)
    with little_memory():
        yield tmp_path / "run"


def newest(run: Path) -> Path:
    return max((run / "checkpoints").glob("step-*"))


def refused_or_done(*uses: Callable[[], Any]) -> bool:
    """Whether all of it worked; what did not said so in one sentence, that is no longer than one can read."""
    worked = True
    for use in uses:
        try:
            use()
        except ReverieError as error:
            worked = False
            assert 10 < len(str(error)) < 1500
    return worked


def acts(agent: Dreamer) -> None:
    """Assert that the agent chooses an action."""
    policy, observations = AgentPolicy(agent), agent.spec.observations
    action = policy({key: np.zeros((1, *spec.shape), spec.dtype) for key, spec in observations.items()})
    assert action.shape == (1, agent.spec.action.size)


@HOSTILE
@given(data=st.data())
def test_states(run: Path, data: st.DataObject) -> None:
    """Counters, configuration, spaces, generators, position of the replay: state.json."""
    folder = newest(run)
    content = json.loads((folder / "state.json").read_bytes())
    made_up = data.draw(spoiled(content))
    put(folder, "state.json", json.dumps(made_up).encode())
    try:
        refused_or_done(lambda: load_agent(folder, "cpu"), lambda: verify(run), lambda: digest(run))
    finally:
        put(folder, "state.json", json.dumps(content).encode())


@HOSTILE
@given(data=st.data())
def test_manifests(run: Path, data: st.DataObject) -> None:
    path = newest(run) / "manifest.json"
    before = path.read_bytes()
    content = json.loads(before)
    del content[CHECKSUM]
    made_up = data.draw(spoiled(content))
    try:
        path.write_bytes(dumps_checksummed(made_up) if isinstance(made_up, dict) else json.dumps(made_up).encode())
        refused_or_done(lambda: read_checkpoint(path.parent), lambda: reverie.load(run), lambda: verify(run))
    except (TypeError, ValueError) as error:
        assert "JSON" in str(error) or "surrogates" in str(error) or "compare" in str(error), error  # not to be written
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("group", ["weights", "model_optimizer", "generators", "carry", "collector"])
@HOSTILE
@given(data=st.data())
def test_tensors(run: Path, group: str, data: st.DataObject) -> None:
    """Headers of safetensors files, and what follows them."""
    folder = newest(run)
    before = (folder / TENSORS).read_bytes()
    put(folder, TENSORS, data.draw(spoiled_safetensors(before, f"{group}/")))
    try:
        refused_or_done(lambda: acts(load_agent(folder, "cpu")), lambda: verify(run))
    finally:
        put(folder, TENSORS, before)


@HOSTILE
@given(data=st.data())
def test_metrics(run: Path, data: st.DataObject) -> None:
    path = run / "metrics.jsonl"
    before = path.read_bytes()
    rows = [json.loads(line) for line in before.splitlines()]
    number = data.draw(st.integers(0, len(rows) - 1))
    rows[number] = data.draw(spoiled(rows[number]))
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows) + data.draw(st.binary(max_size=20)))
    try:
        refused_or_done(lambda: read_metrics(path), lambda: read_run(run), lambda: verify(run))
    finally:
        path.write_bytes(before)


def toml(value: Any) -> str:
    """TOML, or JSON of what TOML does not have."""
    try:
        return tomlkit.dumps(value)
    except Exception:
        return json.dumps(value)


@pytest.mark.parametrize("name", ["config.toml", "about.json"])
@HOSTILE
@given(data=st.data())
def test_descriptions(run: Path, name: str, data: st.DataObject) -> None:
    path = run / name
    before = path.read_bytes()
    if path.suffix == ".toml":
        path.write_text(toml(data.draw(spoiled(tomllib.loads(before.decode())))))
    else:
        path.write_bytes(json.dumps(data.draw(spoiled(json.loads(before)))).encode())
    uses = [lambda: verify(run), lambda: read_run(run), lambda: read_provenance(run / "about.json")]
    try:
        refused_or_done(*uses, lambda: load_config(run / "config.toml"))
    finally:
        path.write_bytes(before)


@settings(parent=HOSTILE, max_examples=max(1, EXAMPLES // 10))
@given(data=st.data())
def test_runs_that_are_resumed(run: Path, data: st.DataObject) -> None:
    """Whatever the checkpoint says of counters, environments, generators and the replay's position."""
    folder = newest(run)
    content = json.loads((folder / "state.json").read_bytes())
    training = data.draw(spoiled(content["training"]))
    copy = run.with_name("resumed")
    shutil.copytree(run, copy, symlinks=True)
    put(newest(copy), "state.json", json.dumps({**content, "training": training}).encode())
    try:
        refused_or_done(lambda: reverie.train("CartPole-v1", logdir=copy, resume=True, steps=64, quiet=True))
    finally:
        shutil.rmtree(copy)


@pytest.fixture
def hostile_run(run: Path) -> Iterator[Callable[[st.DataObject], Path]]:
    """Returns a copy of the run with a hostile replay; a process that hangs ends with a traceback."""
    copy = run.with_name("hostile")

    def make(data: st.DataObject) -> Path:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(run, copy, symlinks=True)
        data.draw(hostile_databases(copy / "replay.db"))
        faulthandler.dump_traceback_later(60, exit=True)
        return copy

    yield make
    faulthandler.cancel_dump_traceback_later()


@HOSTILE
@given(data=st.data())
def test_replays(hostile_run: Callable[[st.DataObject], Path], data: st.DataObject) -> None:
    """SQLite files: other schemas, made up values with valid checksums, other headers, pages and logs."""
    run = hostile_run(data)
    refused_or_done(lambda: verify(run), lambda: digest(run), lambda: repair(run), lambda: verify(run))


@settings(parent=HOSTILE, max_examples=max(1, EXAMPLES // 10))
@given(data=st.data())
def test_replays_that_are_resumed(hostile_run: Callable[[st.DataObject], Path], data: st.DataObject) -> None:
    run = hostile_run(data)
    refused_or_done(lambda: reverie.train("CartPole-v1", logdir=run, resume=True, steps=64, quiet=True))


def test_it_would_be_noticed(run: Path) -> None:
    """An agent of a billion weights is not begun, nor one whose layers nobody counts to the end of."""
    folder = newest(run)
    content = json.loads((folder / "state.json").read_bytes())
    for path, size in (("rssm", {"deter": 1 << 20}), ("reward_head", {"layers": 1 << 40})):
        changed = json.loads(json.dumps(content))
        changed["config"]["world_model"][path] |= size
        put(folder, "state.json", json.dumps(changed).encode())
        with pytest.raises(ReverieError, match="do not have the sizes"):
            load_agent(folder)
    with pytest.raises(OSError), little_memory(1 << 28):
        mmap.mmap(-1, 1 << 29)


def test_failed_updates_are_checkpoints(run: Path) -> None:
    """So what was tested above holds for them; this is what they hold beside it."""
    step, saved = read_checkpoint(newest(run))
    tensors = {**saved.tensors, "batch": saved.tensors["carry"]}
    for failure in (None, {}, {"world_model_alone": True}, {"world_model_alone": True, "metrics": {"model/loss": "x"}}):
        write_checkpoint(run / "failed", step, Snapshot(tensors, {**saved.state, "failure": failure}))
        with pytest.raises(ReverieError):
            repeat(run / "failed")
