"""Non-finite updates: skipped and counted, and too many in a row end the run."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import reverie
from reverie.cli.main import main
from reverie.cli.replay_step import page
from reverie.dreamer import Dreamer
from reverie.errors import CheckpointError
from reverie.replay import ReplayBuffer
from reverie.runs.digest import digest
from reverie.runs.metrics import read_metrics
from reverie.runs.verify import verify
from reverie.training.failed_update import repeat
from reverie.training.nonfinite import Diverged

RUN: dict[str, Any] = {
    **{"env.parallel": False, "threads": 1, "steps": 200, "prefill": 40, "train_every": 8, "pretrain": 0, "seed": 2},
    **{"eval_every": 0, "video_every": 0, "log_every": 40, "checkpoint_every": 80, "async_collection": "off"},
}
UPDATES = 20


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have these batches, counted from 1, hold a reward that is NaN."""

    def spoil_batches(which: Callable[[int], bool]) -> None:
        count = 0
        real = ReplayBuffer.sample

        def sample(self: ReplayBuffer, *args: Any) -> Any:
            nonlocal count
            count += 1
            batch = real(self, *args)
            if which(count):
                batch["reward"][1, 0] = float("nan")
            return batch

        monkeypatch.setattr(ReplayBuffer, "sample", sample)

    return spoil_batches


def train(folder: Path, **settings: Any) -> Dreamer:
    return reverie.train("CartPole-v1", "debug", logdir=folder, **{**RUN, **settings})


def finite(agent: Dreamer) -> bool:
    return all(bool(value.isfinite().all()) for value in agent.parameters())


def test_train_skipped_updates_are_reported_and_counted(
    tmp_path: Path, spoil: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(lambda number: number in (3, 7, 8, 9, 20))
    agent = train(tmp_path, max_nonfinite_updates=3)
    assert finite(agent) and agent.updates == UPDATES
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row.get("train/nonfinite_updates") for row in rows] == [None, 1, 4, 4, 5]
    assert all(math.isfinite(row["model/reward_loss"]) for row in rows[1:])
    text = " ".join(capsys.readouterr().out.split())
    assert text.count("reward_loss was not finite in update 3, so the optimizers that it reached skipped this") == 1
    assert "update 7" not in text  # the tenth is reported next
    state = json.loads(max((tmp_path / "checkpoints").glob("step-*"), key=str).joinpath("state.json").read_text())
    counters = state["training"]["counters"]
    assert counters["nonfinite_updates"] == 5 and counters["nonfinite_in_a_row"] == 1
    assert not verify(tmp_path).damage


@pytest.mark.parametrize("allowed", [0, 1, 4])
def test_train_too_many_skipped_in_a_row_end_the_run(tmp_path: Path, spoil: Callable[..., None], allowed: int) -> None:
    spoil(lambda number: number >= 11)
    with pytest.raises(Diverged, match=r"reward_loss was not finite.*replay-step.*--resume") as caught:
        train(tmp_path, max_nonfinite_updates=allowed)
    assert f"number {allowed + 1} in a row" in str(caught.value)
    last = 11 + allowed
    folder = tmp_path / "failures" / f"update-{last:09d}"
    assert [folder] == list((tmp_path / "failures").iterdir()) and str(folder) in str(caught.value)
    newest = max((tmp_path / "checkpoints").glob("step-*"))
    assert newest.name == "step-000000080" and finite(reverie.load(newest))

    health = verify(tmp_path)
    assert not health.damage and f"failures: {folder.name}" in health.valid
    found = repeat(folder)
    assert found.same and found.update == last and not found.world_model_alone
    assert "model/reward_loss" in found.not_finite and not any(entry.not_finite for entry in found.weights)
    assert [entry.name for entry in found.batch if entry.not_finite] == ["reward"]
    broken = {entry.name.split(".")[0] for entry in found.gradients if entry.not_finite}
    assert broken == {"world_model"}
    shown = "\n".join(page(found))
    assert all(name in shown for name in ("model/reward_loss", "actor/loss", "critic/loss", "critic/gradient_norm"))


def test_train_resumed_after_too_many_equals_a_run_without_them(
    tmp_path: Path, spoil: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(whole, max_nonfinite_updates=2)
    with monkeypatch.context():
        spoil(lambda number: number >= 11)
        with pytest.raises(Diverged):
            train(broken, max_nonfinite_updates=2)
    monkeypatch.undo()
    train(broken, max_nonfinite_updates=2, resume=True)
    assert digest(broken) == digest(whole)


def test_train_skipped_in_a_row_are_counted_across_a_stop(tmp_path: Path, spoil: Callable[..., None]) -> None:
    spoil(lambda number: number in (9, 10))
    agent = train(tmp_path, max_nonfinite_updates=3, steps=120)
    assert agent.updates == 10
    spoil(lambda number: number in (1, 2))
    with pytest.raises(Diverged, match="in update 12, number 4 in a row"):
        train(tmp_path, max_nonfinite_updates=3, resume=True)


def test_replay_step_shows_what_is_not_finite(
    tmp_path: Path, spoil: Callable[..., None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(lambda number: number >= 11)
    with pytest.raises(Diverged):
        train(tmp_path, max_nonfinite_updates=1, pretrain_world_model=30)
    (folder,) = (tmp_path / "failures").iterdir()
    capsys.readouterr()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(["replay-step", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "Update 12 of the world model alone, at step 40: made again, it gives the same numbers as then." in text
    assert "model/reward_loss                 nan" in text and "1 not finite" in text
    assert main(["replay-step", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["same"] and found["now"]["model/loss"] == "nan" and found["world_model_alone"]
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "tensors.safetensors").write_bytes(before["tensors.safetensors"][:-1])
    assert [each.path for each in verify(tmp_path).damage] == [f"failures/{folder.name}"]
    assert main(["replay-step", str(folder)]) == 1
    assert "tensors.safetensors" in capsys.readouterr().err
    (folder / "tensors.safetensors").write_bytes(before["tensors.safetensors"])
    # A repetition with other results is reported.
    monkeypatch.setattr(Dreamer, "train_world_model", lambda self, batch: {"model/loss": torch.zeros(())})
    assert main(["replay-step", str(folder)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "other numbers than then" in text and "Every number is finite now" in text


def test_replay_step_without_a_failed_update_is_refused(tmp_path: Path) -> None:
    agent = train(tmp_path / "run")
    reverie.save(agent, tmp_path / "agent")
    with pytest.raises(CheckpointError, match="holds no failed update"):
        repeat(tmp_path / "agent")
    with pytest.raises(CheckpointError, match="There is no checkpoint at"):
        repeat(tmp_path / "nothing")


def test_train_failed_update_that_cannot_be_written_is_reported(tmp_path: Path, spoil: Callable[..., None]) -> None:
    spoil(lambda number: number >= 11)
    tmp_path.joinpath("failures").write_text("in the way")
    with pytest.raises(Diverged, match=r"reward_loss was not finite.*could not be kept.*--resume"):
        train(tmp_path, max_nonfinite_updates=0)
