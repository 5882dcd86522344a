"""A sweep of fake runs in a Ray cluster of one or two nodes on this machine."""

import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from reverie.cli.main import main
from reverie.sweeps.processes import LOG
from reverie.sweeps.status import State
from reverie.training.stop_signal import Interrupted
from tests.helpers.sweeps import STEPS, grid, is_alive, launches, run_sweep, send_when, starts

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'reverie[ray]'")

from ray.cluster_utils import Cluster  # noqa: E402

from reverie.scaling.cluster import connect  # noqa: E402
from reverie.sweeps.ray_process import RayProcess  # noqa: E402


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    connect("local", cpus=4)
    yield
    ray.shutdown()


def in_cluster(cpus: float = 1.0) -> dict[str, Any]:
    return {"process": partial(RayProcess, cpus=cpus, gpus=0.0), "workers": 10}


def test_sweep_runs_as_many_at_a_time_as_have_a_place(cluster: None, tmp_path: Path) -> None:
    runs = grid(seeds=4)
    sweep, said = run_sweep(runs, tmp_path, pause=0.02, **in_cluster(cpus=2.0))
    assert len(sweep.of(State.DONE)) == 4
    assert "A-v0 full seed 0 is done: last score 200\n" in said
    events = [(each.time, 1 if each.what == "start" else -1) for run in runs for each in launches(run, tmp_path)]
    running = [sum(change for _, change in sorted(events)[: number + 1]) for number in range(len(events))]
    assert max(running) == 2
    assert [starts(run, tmp_path) for run in runs] == [1] * 4
    _, said = run_sweep(runs, tmp_path, **in_cluster())
    assert "begins" not in said


def test_sweep_failing_run_does_not_stop_the_others(cluster: None, tmp_path: Path) -> None:
    runs = grid(seeds=3)
    how = {runs[0].name: "fails", runs[1].name: "crashes"}
    sweep, _ = run_sweep(runs, tmp_path, how=how, **in_cluster())
    assert [status.error for status in sweep.of(State.FAILED)] == ["The motor is on fire.", "ended by SIGSEGV"]
    assert "The motor is on fire." in (tmp_path / runs[0].path / LOG).read_text()
    sweep, _ = run_sweep(runs, tmp_path, **in_cluster())
    assert len(sweep.of(State.DONE)) == 3


def test_sweep_stopped_saves_what_runs_and_gives_up_what_waits(cluster: None, tmp_path: Path) -> None:
    runs = grid(seeds=4)
    send_when(lambda: sum(starts(run, tmp_path) for run in runs) == 2, signal.SIGTERM)
    with pytest.raises(Interrupted):
        run_sweep(runs, tmp_path, pause=0.2, **in_cluster(cpus=2.0))
    found = [[launch.what for launch in launches(run, tmp_path)] for run in runs]
    assert sorted(found) == [[], [], ["start", "stop"], ["start", "stop"]]
    sweep, _ = run_sweep(runs, tmp_path, **in_cluster())
    assert len(sweep.of(State.DONE)) == 4


def test_run_whose_node_leaves_continues_in_another_one(tmp_path: Path) -> None:
    ray.shutdown()
    handler = signal.getsignal(signal.SIGTERM)  # the cluster's own stays after its end
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    other = nodes.add_node(num_cpus=1)
    runs = grid(seeds=2)

    def leave() -> bool:
        if has_begun := all((tmp_path / run.path / "metrics.jsonl").exists() for run in runs):
            nodes.remove_node(other, allow_graceful=False)
        return has_begun

    send_when(leave, signal.SIGCHLD)  # which does nothing
    try:
        connect(nodes.address, cpus=0)
        how = {run.name: "saves" for run in runs}
        sweep, said = run_sweep(runs, tmp_path, how=how, pause=0.5, **in_cluster())
    finally:
        ray.shutdown()
        nodes.shutdown()
        signal.signal(signal.SIGTERM, handler)
    assert len(sweep.of(State.DONE)) == 2, said
    assert "has lost its machine at step" in said
    found = [launches(run, tmp_path) for run in runs]
    # The one of the node that left was killed, or stopped with a checkpoint, and continued.
    lost = max(found, key=len)
    assert sorted({launch.what for launch in lost} - {"stop"}) == ["end", "start"]
    assert lost[-1].step == STEPS and max(launch.step for launch in lost if launch.what == "start") > 0
    assert not any(is_alive(launch.pid) for each in found for launch in each)


def test_sweep_command_in_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray.shutdown()
    plan = tmp_path / "plan.toml"
    plan.write_text(
        'preset = "debug"\nenvironments = ["CartPole-v1"]\nresources = {cpus = 1}\n'
        "vary = {replay.batch_size = [3, 4]}\n"
        "settings = {steps = 130, prefill = 100, eval_every = 0, world_model.encoder.kinds = 'all'}\n"
    )
    folder = tmp_path / "runs"
    assert main(["sweep", str(plan), "--out", str(folder), "--engine", "ray", "--address", "local"]) == 0
    ray.shutdown()
    assert sorted(path.name for path in (folder / "CartPole-v1").iterdir()) == [
        "full-batch_size=3",
        "full-batch_size=4",
    ]


def test_sweep_without_a_cluster_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ray.shutdown()
    words = ["sweep", "minatar-quick", "--out", str(tmp_path), "--engine", "ray", "--address", "127.0.0.1:1"]
    assert main(words) == 1
    assert "No Ray cluster answers at 127.0.0.1:1 (" in capsys.readouterr().err
