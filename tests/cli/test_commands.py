"""Each command: what it makes of its arguments, and that it does its job."""

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch

from reverie import training
from reverie.cli import demo, train
from reverie.cli import main as cli
from reverie.config import (
    PATHS,
    PRESETS,
    Config,
    as_text,
    flatten,
    load_config,
    option,
    preset,
    to_dict,
    to_toml,
    with_variant,
)
from reverie.runs.provenance import UNNAMED, Launch
from tests.helpers.environments import Catch

Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command line that must succeed, in an empty folder; gives its standard output."""
    monkeypatch.chdir(tmp_path)

    def _run(line: str) -> str:
        status = cli.main(shlex.split(line))
        captured = capsys.readouterr()
        assert status == 0, captured.err
        return captured.out

    return _run


class Calls(list[dict[str, Any]]):
    """What training was asked for."""

    def __call__(
        self,
        config: Config,
        logdir: Path,
        resume: bool = False,
        env_factory: Callable[[], Any] | None = None,
        origin: Launch = UNNAMED,
        loggers: tuple[str, ...] = (),
        overwrite: bool = False,
        quiet: bool = False,
        init: Path | None = None,
        keep: str = "all",
        fresh: tuple[str, ...] = (),
        data: Any = None,
    ) -> None:
        call = {"config": config, "logdir": logdir, "resume": resume, "env_factory": env_factory, "origin": origin}
        self.append({**call, "loggers": loggers, "overwrite": overwrite, "quiet": quiet, "init": init})
        self[-1] |= {"keep": keep, "fresh": fresh, "data": data}
        logdir.mkdir(parents=True, exist_ok=True)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Nothing is trained, and the calls are noted."""
    noted = Calls()
    monkeypatch.setattr(training, "train_config", noted)
    monkeypatch.setattr(train, "next_commands", lambda agent, run: [])
    return noted


# train


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        ("", {}),
        ("--world-model.kl.scale 0.1", {"world_model.kl.scale": 0.1}),
        ("--world_model.kl.scale=0.1", {"world_model.kl.scale": 0.1}),
        ("--env.num-envs 4", {"env.num_envs": 4}),
        ("--steps 2e4 --train-every 8", {"training.steps": 20_000, "training.train_every": 8}),
        ("--training.steps 20_000", {"training.steps": 20_000}),
        ("--behavior.actor.entropy linear(3e-3,3e-4,2500000)", {"behavior.actor.entropy": "linear(3e-3,3e-4,2500000)"}),
        ("--env.parallel false", {"env.parallel": False}),
        ("--world-model.kl.forward on --steps 400", {"world_model.kl.forward": True, "training.steps": 400}),
        ("--world-model.encoder.keys image state", {"world_model.encoder.keys": ("image", "state")}),
        ("--behavior.return-lambda 0.9", {"behavior.return_lambda": 0.9}),
        (
            "--behavior.actor.reinforce-weight 0.9 --behavior.actor.gradient both",
            {"behavior.actor.reinforce_weight": 0.9, "behavior.actor.gradient": "both"},
        ),
        ("--seed 3 --device cpu --precision bf16", {"seed": 3, "device": "cpu", "precision": "bf16"}),
    ],
)
def test_settings_reach_training(run: Run, calls: Calls, arguments: str, settings: dict[str, Any]) -> None:
    run(f"train My-v0 --preset debug {arguments}")
    assert calls[0]["config"] == preset("debug").for_env("My-v0").override(**settings)


@pytest.mark.parametrize(
    "line",
    [
        "train ALE/Pong-v5 --preset debug --steps 400 --logdir there",
        "train --preset debug --steps 400 --logdir there ALE/Pong-v5",
        "train --steps 400 ALE/Pong-v5 --logdir=there --preset=debug",
        "train --logdir there --world-model.kl.forward false ALE/Pong-v5 --preset debug --training.steps=400",
        "train --env ALE/Pong-v5 --preset debug --steps 400 --logdir there",
        "train --env.name ALE/Pong-v5 --preset debug --steps 400 --logdir there",
    ],
)
def test_arguments_come_in_any_order(run: Run, calls: Calls, line: str) -> None:
    run(line)
    wanted = preset("debug").for_env("ALE/Pong-v5").override(steps=400)
    [call] = calls
    assert (call["config"], call["logdir"], call["resume"]) == (wanted, Path("there"), False)
    assert call["origin"] == ("debug", None, f"reverie {line}")


@pytest.mark.parametrize("logdir", ["", "--logdir there"])
def test_a_variant_comes_between_preset_and_options(run: Run, calls: Calls, logdir: str) -> None:
    options = "--variant no-gru-norm+no-kl-balancing --world-model.kl.scale 0.3"
    run(f"train {options} --preset debug {logdir} CliCatch-v0")
    wanted = (
        preset("debug")
        .for_env("CliCatch-v0")
        .override(
            **{"world_model.rssm.gru_layer_norm": False, "world_model.kl.balance": 0.5, "world_model.kl.scale": 0.3}
        )
    )
    [call] = calls
    assert call["config"] == wanted
    assert call["logdir"] == Path("there" if logdir else "runs/CliCatch-v0-debug-no-gru-norm+no-kl-balancing-1")
    assert call["origin"][:2] == ("debug", "no-gru-norm+no-kl-balancing")


def test_train_refuses_a_variant_without_effect_but_resumes_a_run_that_has_it(
    run: Run, calls: Calls, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ([], ["--logdir", str(tmp_path / "new"), "--resume"]):
        assert cli.main(["train", "CliCatch-v0", "--preset", "article", "--variant", "no-kl-balancing", *more]) == 1
        assert "no-kl-balancing changes nothing here: world_model.kl.balance is not read" in capsys.readouterr().err
        assert not calls
    (tmp_path / "config.toml").write_text(to_toml(with_variant(preset("debug"), "no-gru-norm").for_env("CliCatch-v0")))
    run(f"train CliCatch-v0 --variant no-gru-norm --logdir {tmp_path} --resume")
    assert calls[0]["config"].world_model.rssm.gru_layer_norm is False


@pytest.mark.parametrize("path", [path for path in PATHS if path != "env.name"])
def test_every_setting_is_an_option(run: Run, calls: Calls, path: str) -> None:
    base = preset("atari-paper")
    value = flatten(base)[path]
    text = "image" if value == () else as_text(value)
    text = shlex.quote(text) if isinstance(value, str) else text
    run(f"train My-v0 --preset atari-paper {option(path)} {text}")
    expected = {"env.name": "My-v0"} | ({path: ("image",)} if value == () else {})
    assert calls[0]["config"] == base.override(**expected)


def test_train_options_of_the_run_reach_training(run: Run, calls: Calls) -> None:
    run("train My-v0 --preset debug")
    chosen = "--overwrite --logdir a --from runs/b --keep model --fresh reward discount --quiet"
    out = run(f"train My-v0 --preset debug --log wandb --log mlflow {chosen}")
    options = [(call["loggers"], call["overwrite"], call["quiet"], call["init"]) for call in calls]
    assert options == [(("tensorboard",), False, False, None), (("wandb", "mlflow"), True, True, Path("runs/b"))]
    assert out == ""
    assert [(call["keep"], call["fresh"]) for call in calls] == [("all", ()), ("model", ("reward", "discount"))]
    run("train My-v0 --preset debug --log none")
    assert calls[2]["loggers"] == ()


def test_train_takes_a_class_of_the_current_folder(run: Run, calls: Calls, tmp_path: Path) -> None:
    code = "from gymnasium.envs.classic_control import CartPoleEnv\n\nclass Own(CartPoleEnv):\n    pass\n"
    (tmp_path / "cli_own_class.py").write_text(code)
    run("train cli_own_class:Own")
    [call] = calls
    assert call["origin"].preset == "vector"
    assert call["config"].env.name == "cli_own_class:Own"
    assert call["env_factory"].__name__ == "Own"
    assert call["logdir"] == Path("runs/cli_own_class-Own-vector-1")


def test_train_imports_no_class_that_only_the_run_names(
    calls: Calls, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.toml").write_text(to_toml(preset("debug").for_env("antigravity:geohash")))
    assert cli.main(["train", "--resume", "--logdir", str(tmp_path)]) == 1
    assert "imported only if you name it. Give it: --env antigravity:geohash" in capsys.readouterr().err
    assert not calls and "antigravity" not in sys.modules


def test_run_folders_are_numbered_and_flat(run: Run, calls: Calls) -> None:
    outputs = [run("train ALE/Pong-v5 --preset debug") for _ in range(2)]
    assert [call["logdir"] for call in calls] == [Path("runs/Pong-v5-debug-1"), Path("runs/Pong-v5-debug-2")]
    assert "runs/Pong-v5-debug-2" in outputs[1]


def test_what_differs_from_the_preset_is_printed(run: Run, calls: Calls) -> None:
    out = run("train My-v0 --preset atari --world-model.kl.scale 0.2 --steps 60000")
    assert re.findall(r"^ +(.*: .* \(was .*\))$", out, re.MULTILINE) == [
        "world_model.kl.scale: 0.2 (was 0.1)",
        "training.steps: 60_000 (was 50_000_000)",
    ]


@pytest.mark.parametrize(
    ("environment", "name"), [("ALE/Pong-v5", "atari"), ("CartPole-v1", "vector"), ("CliCatch-v0", "crafter")]
)
def test_the_environment_chooses_the_preset(run: Run, calls: Calls, environment: str, name: str) -> None:
    run(f"train {environment}")
    assert calls[0]["origin"].preset == name
    assert calls[0]["config"] == preset(name).for_env(environment)


def test_a_resumed_run_keeps_its_configuration(run: Run, calls: Calls, tmp_path: Path) -> None:
    saved = preset("debug").for_env("My-v0").override(seed=7)
    (tmp_path / "config.toml").write_text(to_toml(saved))
    run(f"train My-v0 --logdir {tmp_path} --resume --steps 5000")
    call = calls[0]
    assert (call["config"], call["logdir"], call["resume"]) == (saved.override(steps=5000), tmp_path, True)
    assert call["origin"].preset is None
    run(f"train --resume My-v0 --logdir {tmp_path} --preset vector")
    assert calls[1]["config"] == preset("vector").for_env("My-v0").override(seed=7)


@pytest.mark.parametrize(
    ("line", "origin", "default"),
    [
        ("train CliCatch-v0", "those of the preset crafter.", 100_000_000),
        ("train CartPole-v1", "those of the preset vector.", 20_000),
        ("train CliCatch-v0 --preset=atari_small", "those of the preset atari-small.", 250_000),
        ("train", "those of the preset atari.", 50_000_000),
        ("train My-v0 --logdir saved --resume", "the given configuration's.", 7_777),
        ("train --config saved/config.toml", "the given configuration's.", 7_777),
        ("ablate CliCatch-v0", "the given configuration's.", 100_000_000),
        ("ablate", "the given configuration's.", 40_000),
        ("ablate --suite boxing", "the given configuration's.", 164_000),
        ("ablate --suite plan.toml", "the given configuration's.", 5_000),
        ("bench loop --preset debug", "those of the preset debug.", 1_000),
        ("demo", "those of the preset demo.", 7_000),
    ],
)
def test_help_names_the_preset_of_its_defaults(run: Run, tmp_path: Path, line: str, origin: str, default: int) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "config.toml").write_text(to_toml(preset("debug").for_env("My-v0").override(steps=7_777)))
    plan = 'name = "mine"\npreset = "debug"\nenvironments = ["My-v0"]\nsettings = {steps = 5_000}'
    (tmp_path / "plan.toml").write_text(plan)
    text = re.sub(r"[\s│]+", " ", run(f"{line} --help"))
    assert f"The defaults below are {origin}" in text
    assert re.search(rf"--steps INT ((?! --).)*\(default: {default}\)", text)


def test_train_resume_names_the_preset_of_the_run(run: Run, tmp_path: Path) -> None:
    settings = "--steps 40 --prefill 20 --threads 1 --eval-every 0"
    run(f"train CartPole-v1 --preset debug --logdir {tmp_path} {settings}")
    out = run(f"train CartPole-v1 --logdir {tmp_path} --resume --steps 50")
    assert "with preset debug" in out and "CartPole-v1 · debug · " in out
    assert re.findall(r"^ +(.*: .* \(was .*\))$", out, re.MULTILINE) == ["training.steps: 50 (was 40)"]
    assert "Continuing from step 40 of 50." in out


# config, presets, envs


@pytest.mark.parametrize("name", PRESETS)
def test_config_as_json(run: Run, name: str) -> None:
    assert json.loads(run(f"config {name} --json")) == to_dict(preset(name))


def test_config_takes_settings(run: Run) -> None:
    found = json.loads(run("config atari --json --world-model.kl.scale 0.5"))
    assert found == to_dict(preset("atari").override(**{"world_model.kl.scale": 0.5}))


def test_config_prints_toml_that_train_reads(run: Run, calls: Calls, tmp_path: Path) -> None:
    out = run("config atari --world-model.kl.balance 0.7")
    assert "\nscale = 0.1  # default: 1\nbalance = 0.7  # default: 0.8\nequal_scale = false\n" in out
    (tmp_path / "mine.toml").write_text(out)
    run(f"train My-v0 --config {tmp_path}/mine.toml --world-model.kl.scale 0.3")
    changes = {"env.name": "My-v0", "world_model.kl.balance": 0.7, "world_model.kl.scale": 0.3}
    assert calls[0]["config"] == preset("atari").override(**changes)
    assert calls[0]["origin"].preset is None


def test_train_takes_environment_and_settings_from_the_file_of_a_run(run: Run, calls: Calls, tmp_path: Path) -> None:
    of_run = preset("debug").for_env("My-v0").override(seed=7)
    (tmp_path / "config.toml").write_text(to_toml(of_run))
    run(f"train --config {tmp_path}/config.toml")
    assert (calls[0]["config"], calls[0]["logdir"]) == (of_run, Path("runs/My-v0-run-1"))
    run(f"train CartPole-v1 --config {tmp_path}/config.toml --variant no-gru-norm")
    expected = with_variant(of_run.for_env("CartPole-v1"), "no-gru-norm")
    assert calls[1]["config"] == expected
    (tmp_path / "other.toml").write_text('base = "vector"\n[env]\nname = "My-v0"\n')
    run(f"train --config {tmp_path}/other.toml --resume --logdir {tmp_path}")
    assert calls[2]["config"] == preset("vector").for_env("My-v0").override(seed=7)


def test_config_of_a_run_or_file_is_its_configuration(run: Run, tmp_path: Path) -> None:
    of_run = preset("debug").for_env("My-v0").override(seed=7)
    (tmp_path / "config.toml").write_text(to_toml(of_run))
    for source in (".", "config.toml"):
        assert json.loads(run(f"config {source} --json --steps 5000")) == to_dict(of_run.override(steps=5000))


def test_presets(run: Run) -> None:
    out = run("list presets")
    for entry in PRESETS.values():
        assert re.search(rf"{entry.name} .*{re.escape(entry.description)}", out)
    assert re.search(r"dreamer-v1 .* 5 steps ", out)  # 100 updates every 500
    assert set(json.loads(run("list presets --json"))) == set(PRESETS)


def test_envs(run: Run) -> None:
    out = run("list envs")
    assert "CartPole-v1" in out
    assert "ALE/" in out
    assert "ALE/Boxing-v5" in run("list envs --family atari").split()
    assert "CartPole-v1" in json.loads(run("list envs --json"))["Classic control"]


# The whole way, once


@pytest.fixture(scope="module", autouse=True)
def catch() -> None:
    """A small environment with images, under a name."""
    gymnasium.register("CliCatch-v0", entry_point=Catch, kwargs={"balls": 6})


@pytest.fixture(scope="module")
def trained(catch: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, from the command line."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    line = "train CliCatch-v0 --preset debug --steps 140 --prefill 100 --train-every 20 --log-every 20 --logdir"
    assert cli.main([*line.split(), str(folder)]) == 0
    return folder


def test_train(trained: Path) -> None:
    assert load_config(trained / "config.toml") == preset("debug").for_env("CliCatch-v0").override(
        steps=140, prefill=100, train_every=20, log_every=20
    )
    assert (trained / "metrics.jsonl").stat().st_size > 0


def test_a_used_folder_is_refused(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "CliCatch-v0", "--preset", "debug", "--logdir", str(trained)]) == 1
    assert "--resume" in capsys.readouterr().err


def test_eval(run: Run, trained: Path) -> None:
    result = json.loads(run(f"eval {trained} --episodes 2 --seed 1 --json"))
    returns = [episode["return"] for episode in result["episodes"]]
    assert len(returns) == 2
    assert result["mean"] == pytest.approx(sum(returns) / 2)
    assert (result["normalised"], result["references"]) == ({}, {})
    assert result["protocol"]["sticky_actions"] is None
    out = run(f"eval {trained} --episodes 2 --seed 1")
    assert f"mean return {result['mean']:,.2f}" in out
    assert "protocol: mode actions, sampled latents, whole episodes (up to 100 steps), seed 1 (given)" in out
    assert "checkpoint of step 140" in out
    assert "normalised" not in out


@pytest.mark.parametrize("line", ["eval {} --episodes 1", "dream {} --context 3 --horizon 8"])
def test_acting_takes_one_thread(line: str, run: Run, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(2)
    try:
        run(line.format(trained))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_list_runs_shows_progress_and_score(run: Run, trained: Path) -> None:
    found = json.loads(run(f"list runs {trained.parent} --json"))
    known = {"run": str(trained), "environment": "CliCatch-v0", "seed": 0, "status": "finished", "steps": 140}
    assert known.items() <= found.items()
    assert re.search(r"CliCatch-v0 .* finished .* 140 of 140 ", run(f"list runs {trained.parent}"))


def test_list_runs_names_what_it_leaves_out(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.toml").write_text("steps = ")
    (tmp_path / "good").symlink_to(trained)
    assert cli.main(["list", "runs", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert "CliCatch-v0" in captured.out
    assert captured.err.startswith(f"{tmp_path}/broken is left out. The configuration ")


def test_plot_of_a_folder_draws_the_runs_inside(run: Run, trained: Path) -> None:
    assert f"{trained}: return of training episodes" in run(f"plot {trained.parent}")


def test_plot_metric_names_the_path_that_it_leaves_out(run: Run, trained: Path) -> None:
    out = run(f"plot {trained} /nowhere --metric model/kl --smooth 3")
    assert "/nowhere is left out. There is nothing at /nowhere." in out
    assert f"{trained}: model/kl" in out and "Wrote learning-curve.png" in out


def test_plot(run: Run, trained: Path) -> None:
    out = run(f"plot {trained} --out curves.svg")
    assert "Wrote curves.svg" in out
    assert "return of training episodes" in out
    assert Path("curves.svg").read_text().lstrip().startswith("<?xml")


def test_dream(run: Run, trained: Path) -> None:
    assert f"Wrote {trained}/videos/dream.gif" in run(f"dream {trained} --context 3 --horizon 8")
    assert (trained / "videos" / "dream.gif").read_bytes()[:4] == b"GIF8"
    run(f"dream {trained} --context 3 --horizon 8 --out strip.png")
    assert Path("strip.png").read_bytes()[1:4] == b"PNG"


def test_demo(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "PRESET", "debug")
    monkeypatch.setattr(demo, "HORIZON", 8)
    out = run("demo --episodes 1 --env.name CliCatch-v0 --steps 120 --prefill 100 --train-every 20 --log-every 20")
    assert "runs/demo" in out
    assert "What was learned" in out
    for path in ("learning-curve.png", "videos/dream.gif", "videos/dream.png"):
        assert (Path("runs/demo") / path).is_file()
        assert path in out


def test_demo_without_images_draws_no_dream(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "PRESET", "debug")
    out = run("demo --episodes 1 --env.name CartPole-v1 --steps 40 --prefill 20 --logdir 'a demo'")
    assert "learning-curve.png" in out and "dream" not in out
    assert "reverie train CartPole-v1 --logdir 'a demo' --resume --steps 160" in out


def suggested(out: str) -> list[str]:
    return re.findall(r"^  reverie (.*)$", out.partition("Next:")[2], re.MULTILINE)


@pytest.mark.parametrize(
    ("line", "commands"),
    [
        ("CartPole-v1", ["eval 'a run'", "plot 'a run'"]),
        ("CliCatch-v0 --env.time-limit 20", ["eval 'a run'", "dream 'a run' --horizon 16", "plot 'a run'"]),
        ("CliCatch-v0 --env.time-limit 80", ["eval 'a run'", "dream 'a run' --horizon 31", "plot 'a run'"]),
    ],
)
def test_train_suggests_only_commands_that_work(run: Run, line: str, commands: list[str]) -> None:
    settings = "--preset debug --steps 140 --prefill 120 --train-every 10 --log-every 70 --eval-every 0"
    found = suggested(run(f"train {line} {settings} --logdir 'a run'"))
    assert found == commands
    for command in found:
        run(command)


def test_train_suggestions_find_the_users_own_module(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = tmp_path / "my modules"
    modules.mkdir()
    entry = "'gymnasium.envs.classic_control:CartPoleEnv'"
    (modules / "cli_own_module.py").write_text(f"import gymnasium\ngymnasium.register('Own-v0', {entry})\n")
    monkeypatch.syspath_prepend(str(modules))
    monkeypatch.setenv("PYTHONPATH", str(modules))
    settings = "--preset debug --steps 40 --prefill 20 --eval-every 0 --env.parallel false"
    out = run(f"train cli_own_module:Own-v0 {settings} --logdir run")
    again = "reverie eval run --env cli_own_module:Own-v0"
    assert f"\n  PYTHONPATH='{modules}' {again}\n  reverie plot run\n" in out


def test_the_demo_is_what_it_says() -> None:
    config = preset("demo")
    assert config.env.name == "ALE/Boxing-v5"
    assert config.training.steps <= 10_000


def test_digest_is_of_the_run_and_of_each_part(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"steps": 40, "prefill": 20, "threads": 1, "eval_every": 0}
    training.train("CartPole-v1", "debug", logdir=tmp_path / "a run", **settings)
    capsys.readouterr()
    whole = run("digest 'a run'").strip()
    assert re.fullmatch("[0-9a-f]{64}", whole)
    lines = [line.split() for line in run("digest 'a run' --parts").splitlines()]
    parts = {name: value for value, name in lines}
    assert parts["run"] == whole and set(parts) == {"weights", "state", "replay", "metrics", "videos", "run"}
    assert json.loads(run("digest 'a run' --json")) == parts
    assert cli.main(["digest", str(tmp_path)]) == 1
    assert "Give the folder of a run" in " ".join(capsys.readouterr().err.split())
