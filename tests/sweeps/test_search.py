"""Searches with fake runs, whose score is best at a horizon of 12."""

import io
import signal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from reverie.cli.main import main
from reverie.config import load_config
from reverie.errors import ConfigError, RunError
from reverie.sweeps.planned_runs import PlannedRun
from reverie.training.stop_signal import Interrupted
from tests.helpers.sweeps import send_when, spec_of, stub_command

optuna = pytest.importorskip("optuna", reason="Optuna is not installed: pip install 'reverie[tune]'")

from reverie.sweeps.search import BEST, Searcher  # noqa: E402
from reverie.sweeps.search_plan import Search, read_search  # noqa: E402

PLAN = """
keep_replay = false
preset = "debug"
environments = ["A-v0"]
seeds = [0, 1]
workers = 2
[settings]
steps = 200
prefill = 100
"""
SPACE = """
[space]
behavior.horizon = {low = 2, high = 30}
"world_model.optimizer.lr" = {low = 1e-4, high = 1e-2, log = true}
"""


def search_of(folder: Path, text: str = PLAN + SPACE) -> Search:
    (folder / "plan.toml").write_text(text)
    return read_search(folder / "plan.toml")


def run(folder: Path, trials: int, how: str = "scores", pause: float = 0.0) -> tuple[Any, str]:
    """Search in a folder; return the study and what was printed."""
    console = Console(file=io.StringIO(), width=160)

    def command(run: PlannedRun, trial: Path) -> list[str]:
        return stub_command({run.name: how}, pause)(run, trial)

    search = search_of(folder)
    searcher = Searcher(search, folder / "out", console, spec_of=spec_of, command=command, poll=0.02)
    study = searcher.run(trials)
    return study, console.file.getvalue()  # type: ignore[attr-defined]


def starts(folder: Path) -> list[int]:
    """Number of starts of each run of each trial."""
    found = sorted((folder / "out").glob("trial-*/A-v0/full/seed-*/launches"))
    return [path.read_text().count("start") for path in found]


def test_read_search(tmp_path: Path) -> None:
    search = search_of(tmp_path, PLAN + SPACE + '[objective]\nmetric = "model/loss"\ndirection = "minimize"\n')
    assert search.space == {
        "behavior.horizon": {"low": 2, "high": 30},
        "world_model.optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True},
    }
    assert (search.metric, search.direction, search.plan.workers) == ("model/loss", "minimize", 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PLAN, "[space] is missing"),
        (PLAN + "[space]\nbehavior.horison = [1, 2]", "space: There is no setting"),
        (PLAN + "[space]\nbehavior.horizon = [1]", "space: behavior.horizon is [1], but it must be a list of choices"),
        (PLAN + "[space]\nbehavior.horizon = {low = 3, high = 2}", "but it must be a list of choices, or a table"),
        (PLAN + "[space]\nbehavior.horizon = {low = 0, high = 2, log = true}", "for a search of magnitudes above 0"),
        (PLAN + "[space]\nbehavior.horizon = {low = 1, hihg = 2}", "but it must be a list of choices, or a table"),
        (PLAN + "[space]\nbehavior.horizon = 3", "behavior.horizon is 3, but it must be a list of choices"),
        (PLAN + SPACE + "[vary]\nreplay.batch_size = [1, 2]", "vary is given, but a search chooses the values itself"),
        (PLAN + SPACE + "[objective]\nname = 3", "objective.name is an unknown key"),
        ('objective = "eval/return"' + PLAN + SPACE, "objective is 'eval/return', but it must be a table"),
        (PLAN + "[space]\ntraining.steps = [300, 400]", "training.steps is searched, but another part of the plan"),
        (PLAN + "[space]\ntraining.seed = [3, 4]", "training.seed is searched, but another part of the plan sets it"),
        (PLAN + SPACE + '[objective]\ndirection = "up"', "objective.direction is up, but it must be maximize"),
        (PLAN.replace('["A-v0"]', '["A-v0", "B-v0"]') + SPACE, "environments names 2, but a search compares"),
    ],
)
def test_read_search_mistake_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        search_of(tmp_path, text)
    assert words in str(error.value)


def test_search_finds_the_best_setting_and_continues(tmp_path: Path) -> None:
    run(tmp_path, trials=8)
    study, said = run(tmp_path, trials=30)
    assert "trial 7:" not in said and "trial 8: behavior.horizon=" in said
    assert len(study.trials) == 30
    assert max(starts(tmp_path)) == 1
    assert len({trial.params["world_model.optimizer.lr"] for trial in study.trials}) == 30  # none was suggested twice
    assert abs(study.best_params["behavior.horizon"] - 12) <= 1
    best = load_config(tmp_path / "out" / BEST)
    assert best.behavior.horizon == study.best_params["behavior.horizon"]
    assert best.world_model.optimizer.lr == study.best_params["world_model.optimizer.lr"]
    runs = tmp_path / "out" / "trial-000" / "A-v0" / "full"
    assert (runs / "seed-0" / "metrics.jsonl").exists() and not (runs / "seed-0" / "replay.db").exists()


def test_search_stops_trials_below_the_median(tmp_path: Path) -> None:
    study, said = run(tmp_path, trials=14, pause=0.02)
    states = [trial.state.name for trial in study.trials]
    assert states[:5].count("PRUNED") == 0 and "PRUNED" in states
    assert "stopped early: below the median" in said
    pruned = next(trial for trial in study.trials if trial.state.name == "PRUNED")
    path = tmp_path / "out" / f"trial-{pruned.number:03d}" / "A-v0" / "full" / "seed-0"
    assert "end" not in (path / "launches").read_text()
    assert pruned.number != study.best_trial.number


def test_search_interrupted_continues_the_trials_that_were_running(tmp_path: Path) -> None:
    send_when(lambda: len(list((tmp_path / "out").glob("trial-*/A-v0/full/seed-0/metrics.jsonl"))) == 2, signal.SIGTERM)
    with pytest.raises(Interrupted):
        run(tmp_path, trials=3, pause=0.1)
    first = (tmp_path / "out" / "trial-000" / "A-v0" / "full" / "seed-0" / "launches").read_text().split()
    assert (first[0], first[4]) == ("start", "stop")
    study, said = run(tmp_path, trials=3)
    assert "trial 0: behavior.horizon=" in said
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3
    assert starts(tmp_path) == [2, 1, 2, 1, 1, 1]


def test_search_of_which_every_trial_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"None of the 3 trials has succeeded. Each output.log"):
        run(tmp_path, trials=3, how="fails")
    study, _ = run(tmp_path, trials=3)  # in place of those that failed
    assert [trial.state.name for trial in study.trials] == ["FAIL"] * 3 + ["COMPLETE"] * 3


def test_search_of_values_that_no_agent_can_have_is_refused_before_anything_runs(tmp_path: Path) -> None:
    search = search_of(tmp_path, PLAN + "[space]\nbehavior.horizon = {low = 0, high = 3}")
    with pytest.raises(ConfigError, match="horizon is 0"):
        Searcher(search, tmp_path / "out", Console(file=io.StringIO()), spec_of=spec_of).run(2)
    assert not (tmp_path / "out").exists()


def test_search_for_a_metric_that_does_not_exist_ends_with_the_first_trial(tmp_path: Path) -> None:
    search = search_of(tmp_path, PLAN + SPACE + '[objective]\nmetric = "eval/retrun"')
    command = stub_command({}, 0.0)
    with pytest.raises(ConfigError, match=r"objective.metric is eval/retrun, but no such metric is in"):
        Searcher(
            search, tmp_path / "out", Console(file=io.StringIO()), spec_of=spec_of, command=command, poll=0.02
        ).run(9)
    assert len(list((tmp_path / "out").glob("trial-*"))) <= 2


def test_another_search_in_the_folder_is_refused(tmp_path: Path) -> None:
    run(tmp_path, trials=1)
    search = search_of(tmp_path, PLAN + SPACE.replace("30", "31"))
    with pytest.raises(RunError, match="holds another search"):
        Searcher(search, tmp_path / "out", Console(file=io.StringIO()), spec_of=spec_of).run(2)


def test_tune_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = 'preset = "vector"\nenvironments = ["CartPole-v1"]\n'
    settings = "settings = {steps = 1001, pretrain = 1, eval_every = 1000}\n"
    (tmp_path / "pole.toml").write_text(text + settings + "[space]\nbehavior.horizon = [3, 4]\n")
    assert main(["tune", str(tmp_path / "pole.toml"), "--trials", "2", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "Best: trial" in said and "reverie train CartPole-v1 --config" in said
    assert load_config(tmp_path / "out" / BEST).behavior.horizon in (3, 4)
