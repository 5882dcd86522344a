"""A whole examination: of a run that was really trained, and of agents whose answers are known."""

import hashlib
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from reverie.agents import load, save_agent
from reverie.analysis.diagnose import Report, examine, find
from reverie.analysis.diagnose.examine import measure
from reverie.analysis.diagnose.page import WIDTH, page, to_json
from reverie.analysis.diagnose.picture import PANELS, actions, draw, open_loop
from reverie.cli import main as cli
from reverie.config import Config, load_config, preset, to_toml
from reverie.dreamer import Dreamer
from reverie.errors import CheckpointError, ReplayError, ReverieError, RunError
from reverie.replay import ReplayReader
from reverie.runs.run_folder import RunFolder, find_checkpoint
from reverie.specs import STEP_KEYS, ActionSpec, ArraySpec, EnvSpec, Step
from tests.helpers.diagnosed_reports import healthy, ill, predicted
from tests.helpers.environments import Catch

SMALL: dict[str, Any] = {"batches": 2, "context": 4, "horizon": 12, "batch_size": 3}
IMAGES = EnvSpec({"image": ArraySpec((64, 64, 1), "uint8")}, ActionSpec("discrete", (3,)))
VECTORS = EnvSpec(
    {"here": ArraySpec((3,), "float32"), "there": ArraySpec((2,), "float32")}, ActionSpec("continuous", (2,))
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, from the command line."""
    gymnasium.register("DoctorCatch-v0", entry_point=Catch, kwargs={"balls": 6})
    return train(tmp_path_factory.mktemp("doctor") / "run", 160, 0, "--prefill 100 --log-every 20")


def train(folder: Path, steps: int, seed: int, options: str = "--prefill 100") -> Path:
    line = f"train DoctorCatch-v0 --preset debug --steps {steps} --seed {seed} --train-every 20 {options} --logdir"
    assert cli.main([*line.split(), str(folder)]) == 0
    return folder


def random_steps(spec: EnvSpec, length: int = 20, size: int = 4, seed: int = 0) -> Step:
    rng = np.random.default_rng(seed)
    steps: Step = {}
    for key, one in {**spec.observations, **STEP_KEYS}.items():
        shape = (length, size, *one.shape)
        value = rng.integers(0, 256, shape) if one.is_image else rng.standard_normal(shape)
        steps[key] = value.astype(one.dtype)
    if spec.action.kind == "discrete":
        steps["action"] = np.eye(spec.action.size, dtype=np.float32)[
            rng.integers(spec.action.size, size=(length, size))
        ]
    else:
        steps["action"] = rng.uniform(-1, 1, (length, size, spec.action.size)).astype(np.float32)
    steps["reward"] = rng.standard_normal((length, size)).astype(np.float32)
    for key in ("is_first", "is_last", "is_terminal"):
        steps[key] = np.zeros((length, size), bool)
    steps["is_first"][0] = True
    return steps


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def constant(agent: Dreamer, reward: float, discount: float, value: float) -> None:
    """Heads and critics that say the same everywhere."""
    model, critics = agent.world_model, (agent.actor_critic.critic, agent.actor_critic.target_critic)
    heads = [(model.reward_head, reward), *((critic.mlp, value) for critic in critics)]
    if agent.config.world_model.predict_discount:
        heads.append((model.discount_head, math.log(discount / (1 - discount))))
    with torch.no_grad():
        for head, bias in heads:
            last = [layer for layer in head.modules() if isinstance(layer, torch.nn.Linear)][-1]
            last.weight.zero_()
            last.bias.fill_(bias)


def test_a_trained_run(trained: Path) -> None:
    before = fingerprint(trained)
    report = examine(trained, **SMALL)
    assert fingerprint(trained) == before
    assert report.config.env.name == "DoctorCatch-v0" and report.frames == report.agent_steps == 160
    assert report.steps_seen == 2 * 3 * 16 and report.replay_steps >= 160
    assert report.updates > 0 and report.learning.rows > 0 and report.learning.not_finite == 0
    assert set(report.prediction) == {"image", "reward"} and report.observation == "image"
    assert len(report.prediction["image"].model) == 13
    assert report.latents.kl == pytest.approx(sum(report.latents.kl_per_variable), rel=1e-4)
    assert sum(one.steps for one in report.reward.groups.values()) == report.steps_seen
    assert report.actor.kind == "discrete" and sum(report.actor.actions[0]) == pytest.approx(1, rel=1e-4)
    assert report.value["replayed"].states == 2 * 3 * 4  # steps 4 to 7 of 16
    assert "too-early" in {finding.rule for finding in find(report)}


def fingerprint(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_gives_the_same_report(trained: Path) -> None:
    reports = [to_json(examine(trained, **SMALL, seed=seed)) for seed in (3, 3, 4)]
    assert reports[0] == reports[1]
    assert reports[0]["latents"]["kl"] != reports[2]["latents"]["kl"]


def test_a_run_that_goes_on(trained: Path) -> None:
    """The lock of the process that trains is no obstacle."""
    with RunFolder.create(trained, preset("debug").for_env("DoctorCatch-v0"), resume=True):
        assert examine(trained, None, 1, 4, 4, batch_size=2).steps_seen == 16


@pytest.fixture(scope="module")
def other_seed(trained: Path) -> Path:
    """A run of the same environment with another seed."""
    return train(trained.parent / "other-seed", 120, 1)


def test_the_replay_of_another_run(trained: Path, other_seed: Path) -> None:
    """What is measured on it is what a direct measurement of the agent on it gives."""
    report = examine(trained, **SMALL, holdout=other_seed)
    own, alone = to_json(report), to_json(examine(trained, **SMALL))
    assert alone["holdout"] is None and {**own, "holdout": None} == alone
    assert (own["holdout"]["run"], own["holdout"]["shared_steps"]) == (str(other_seed), 0)
    assert 100 < own["holdout"]["replay_steps"] < own["replay_steps"]

    agent = load(find_checkpoint(trained), "cpu")
    rng = np.random.default_rng(0)
    with ReplayReader(other_seed / "replay.db", agent.spec.step) as reader:
        batches = [reader.windows(rng, 16, 3) for _ in range(2)]
        endings = reader.endings(rng, 16, 64)
    direct = measure(agent, batches, endings, 4, generator())
    assert report.holdout is not None
    assert report.holdout.prediction == direct.prediction and report.holdout.reward == direct.reward


def test_steps_that_both_runs_have_are_left_out(trained: Path, tmp_path: Path) -> None:
    """Runs with one seed begin with the same random play."""
    longer = train(tmp_path / "longer", 260, 0, "--prefill 120")
    holdout = examine(trained, **SMALL, holdout=longer).holdout
    assert holdout is not None and 100 <= holdout.shared_steps < 130
    text = " ".join(show(ill("", holdout=holdout)).split())
    assert f"of {longer}, without its first {holdout.shared_steps}, which are the run's own." in text
    with pytest.raises(RunError, match=r"all but \d+ steps in the replay of .*copy are in that of the run itself"):
        examine(trained, **SMALL, holdout=shutil.copytree(trained, tmp_path / "copy"))


def test_values_of_constant_heads() -> None:
    """Returns in imagination and in the replay, by hand."""
    reward, discount, value, gamma, lambda_, horizon = 0.3, 0.8, 2.0, 0.9, 0.6, 4
    config = preset("debug").override(
        **{"world_model.discount": gamma, "behavior.return_lambda": lambda_, "behavior.horizon": horizon,
           "world_model.reward_transform": "identity"}
    )  # fmt: skip
    agent = Dreamer(config, IMAGES)
    constant(agent, reward, discount, value)
    steps = random_steps(IMAGES)
    found = measure(agent, [steps], None, 3, generator())
    wanted = value
    for t in reversed(range(horizon)):  # the real state's own discount is gamma, the others are the head's
        wanted = reward + (gamma if t == 0 else discount) * ((1 - lambda_) * value + lambda_ * wanted)
    assert found.value["imagined"].returns == pytest.approx(wanted, rel=1e-4)
    assert found.value["imagined"].bias == pytest.approx(value - wanted, rel=1e-3)
    replayed = [value] * 4
    returns = []
    for t in range(18, -1, -1):
        replayed = [float(steps["reward"][t, b]) + gamma * replayed[b] for b in range(4)]
        returns.append(replayed)
    kept = returns[::-1][3:10]
    assert found.value["replayed"].returns == pytest.approx(np.mean(kept), rel=1e-4)
    assert found.value["replayed"].bias == pytest.approx(value - np.mean(kept), rel=1e-4)
    assert found.reward.predicted_mean == pytest.approx(reward, rel=1e-4)
    assert found.discount is not None and found.discount.on_going == pytest.approx(discount, rel=1e-4)


def test_long_term_entropy_is_part_of_imagined_returns() -> None:
    """Random actions: every state but the last of a rollout pays its entropy, as far as the episode continues there."""
    weight, value, gamma, discount, lambda_, horizon = 0.5, 2.0, 0.9, 0.8, 0.6, 4
    config = preset("debug").override(
        **{"world_model.discount": gamma, "behavior.return_lambda": lambda_, "behavior.horizon": horizon,
           "behavior.long_term_entropy": True, "behavior.actor.entropy": weight}
    )  # fmt: skip
    agent = Dreamer(config, IMAGES)
    constant(agent, 0, discount, value)
    with torch.no_grad():
        agent.actor_critic.actor.head.weight.zero_()
        agent.actor_critic.actor.head.bias.zero_()
    wanted = value
    for t in reversed(range(horizon)):
        going = gamma if t == 0 else discount
        wanted = weight * going / gamma * math.log(3) + going * ((1 - lambda_) * value + lambda_ * wanted)
    found = measure(agent, [random_steps(IMAGES)], None, 3, generator())
    assert found.value["imagined"].returns == pytest.approx(wanted, rel=1e-4)


def test_ends_are_looked_up() -> None:
    """Terminal last steps count, those of a time limit do not."""
    agent = Dreamer(preset("debug"), IMAGES)
    constant(agent, 0, 0.25, 0)
    endings = random_steps(IMAGES, seed=1)
    endings["is_last"][-1] = True
    endings["is_terminal"][-1, :3] = True
    found = measure(agent, [random_steps(IMAGES)], endings, 3, generator()).discount
    assert found is not None and (found.terminals, found.end_rate) == (3, 0)
    assert found.on_terminal == pytest.approx(0.25, rel=1e-4)


def test_measure_of_endings_takes_their_last_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a predicted discount that differs from state to state."""
    agent = Dreamer(preset("debug"), IMAGES)
    model, seen = agent.world_model, []
    infer = model.infer
    monkeypatch.setattr(model, "infer", lambda *args, **options: seen.append(infer(*args, **options)) or seen[-1])
    monkeypatch.setattr(model, "discount", lambda feat: feat.float().mean(-1).sigmoid())
    endings = random_steps(IMAGES, seed=1)
    endings["is_terminal"][-1] = True
    found = measure(agent, [random_steps(IMAGES)], endings, 3, generator()).discount
    predicted = model.discount(seen[-1].posterior.feat).mean(1).tolist()
    assert found is not None and found.on_terminal == pytest.approx(predicted[-1], rel=1e-4)
    assert found.on_terminal != pytest.approx(predicted[-2], rel=1e-4)


@pytest.mark.parametrize("distribution", ["trunc_normal", "tanh_normal"])
def test_vectors_gaussians_and_continuous_actions(distribution: str, tmp_path: Path) -> None:
    config = preset("debug").override(
        **{"world_model.rssm.latents": "gaussian", "world_model.predict_discount": False,
           "world_model.normalize_vectors": True, "behavior.actor.distribution": distribution}
    )  # fmt: skip
    agent = Dreamer(config, VECTORS)
    weights = {name: value.clone() for name, value in agent.state_dict().items()}
    found = measure(agent, [random_steps(VECTORS, seed=seed) for seed in range(2)], None, 3, generator())
    assert all(value.equal(weights[name]) for name, value in agent.state_dict().items())
    assert set(found.prediction) == {"here", "there", "reward"} and found.images == []
    assert found.discount is None and found.latents.classes == 0
    assert found.actor.kind == "continuous" and found.actor.scale is not None
    assert show(found)
    texts = drawn(found, tmp_path)
    assert "the discount is a constant" in texts


def test_binary_latents(tmp_path: Path) -> None:
    agent = Dreamer(preset("debug").override(**{"world_model.rssm.latents": "binary"}), IMAGES)
    found = measure(agent, [random_steps(IMAGES)], None, 3, generator())
    assert found.latents.classes == 2
    assert found.latents.max_entropy == pytest.approx(found.latents.variables * math.log(2))
    assert show(found) and drawn(found, tmp_path)


def test_short_sequences_have_no_returns() -> None:
    agent = Dreamer(preset("debug"), IMAGES)
    found = measure(agent, [random_steps(IMAGES, length=6)], None, 5, generator())
    assert "replayed" not in found.value and len(found.prediction["image"].model) == 2
    assert show(found)


# What is shown


def show(report: Report) -> str:
    console = Console(width=WIDTH, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(page(report, find(report)))
    return console.export_text()


def drawn(report: Report, folder: Path) -> list[str]:
    svg = draw(report, find(report), folder / "page.svg").read_text()
    return re.findall(r"<!-- (.*?) -->", svg)


def test_the_page_puts_findings_first_and_fits() -> None:
    report = ill("learning", ill("latents", unused_classes=7), not_finite=2)
    text = show(report)
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    order = [text.index(part) for part in ("Findings", "problem not-finite", "note unused-classes", "✓ prediction")]
    sections = ("latents", "prediction of image", "reward", "discount", "value and imagined return", "actor", "speed")
    order += [text.index(f"\n{name}") for name in sections]
    assert order == sorted(order)
    for words in (
        "kl                          2\n",
        "unused classes              7",
        "predicted 0.7, actual 0.76, steps 300",
    ):
        assert words in "\n".join(line.rstrip() for line in text.splitlines()), words


def test_the_page_compares_with_another_run(tmp_path: Path) -> None:
    own = healthy().prediction["image"]
    found = predicted([0.0006] + [0.002] * 10 + [0.003] * 20, own.repeat, own.mean)
    poor = ill("reward", ill("", run="runs/other", steps_seen=800), explained=0.21)
    poor = ill("latents", ill("", poor, prediction={**poor.prediction, "image": found}), kl=2.6)
    report = ill("", holdout=poor)
    text = " ".join(show(report).split())
    assert "Holdout: 800 steps, drawn from 100,000 of runs/other." in text
    assert "kl 2 holdout 2.6" in text
    assert "seen error 0.0005 holdout 0.0006" in text
    assert "planned error 0.001 holdout 0.002333" in text  # (10 * 0.002 + 5 * 0.003) / 15
    assert "explained 0.8 holdout 0.21" in text
    assert "80% of the rewards' variance is explained in its own replay, and 21% in that of runs/other." in text
    assert max(len(line) for line in show(report).splitlines()) <= WIDTH
    assert "model, holdout run" in drawn(report, tmp_path)
    assert "model, holdout run" not in drawn(healthy(), tmp_path) and "oldout" not in show(healthy())
    lines = {}
    for one in (report, healthy()):
        axes = Figure().add_subplot()
        open_loop(axes, one)
        lines |= {str(line.get_label()): list(line.get_ydata()) for line in axes.lines}  # type: ignore[arg-type]
    assert lines["model, holdout run"] == found.model and lines["model"] == healthy().prediction["image"].model


def test_the_picture_has_its_panels(trained: Path, tmp_path: Path) -> None:
    report = examine(trained, **SMALL)
    texts = drawn(report, tmp_path)
    for title in PANELS:
        assert title in texts, title
    for text in ("repeating the last", "the mean", "horizon of the actor", "at random", "too-early (note)"):
        assert any(text in one for one in texts), text
    out = draw(report, [], tmp_path / "new" / "page.png")
    picture = Image.open(out)
    assert picture.width > 1000 and len(picture.convert("RGB").getcolors(1 << 24) or []) > 100
    first = out.read_bytes()
    assert draw(report, [], out).read_bytes() == first


def test_open_loop_names_the_actor_horizon_outside_of_the_curves() -> None:
    axes = Figure().add_subplot()
    open_loop(axes, healthy())
    legend = axes.get_legend()
    assert legend is not None and "horizon of the actor" in [text.get_text() for text in legend.get_texts()]
    assert not axes.texts


@pytest.mark.parametrize("dimensions", [1, 3, 20])
def test_actions_continuous_has_a_tick_for_dimensions_only(dimensions: int) -> None:
    report = ill("actor", kind="continuous", mode=[0.1] * dimensions, scale=[0.3] * dimensions)
    axes = Figure().add_subplot()
    actions(axes, report)
    assert axes.get_xlim() == (-0.5, dimensions - 0.5)
    shown = [tick for tick in axes.get_xticks() if -0.5 <= tick <= dimensions - 0.5]
    assert 0 in shown and len(shown) <= 10 and all(tick == int(tick) for tick in shown)
    assert dimensions > 1 or shown == [0]


def test_json_is_plain() -> None:
    report = ill("reward", mean=math.inf)
    data = to_json(report, find(report))
    again = json.loads(json.dumps(data, allow_nan=False))
    assert again == data
    assert again["reward"]["mean"] is None and again["latents"]["kl"] == 2.0
    assert again["prediction"]["image"]["model"][0] == 0.0005 and again["speed"]["collect_share"] == 0.3
    assert {finding["severity"] for finding in again["findings"]} == {"ok"}


# Mistakes


def test_mistakes(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="There is nothing at"):
        examine(tmp_path / "nowhere", **SMALL)
    with pytest.raises(ReplayError, match="in a row at its last checkpoint"):
        examine(trained, horizon=1000)
    with pytest.raises(ReverieError, match=r"\.svg, \.png, \.pdf"):
        draw(healthy(), [], tmp_path / "page.jpg")
    save_agent(Dreamer(preset("debug"), IMAGES), tmp_path / "saved")
    with pytest.raises(RunError, match="has no replay"):
        examine(tmp_path / "saved", **SMALL)
    config = Config().for_env("X-v0")
    with RunFolder.create(tmp_path / "young", config) as young, pytest.raises(CheckpointError, match="yet"):
        young.begin(config)
        examine(tmp_path / "young", **SMALL)


def test_mistakes_with_another_run(trained: Path, other_seed: Path, tmp_path: Path) -> None:
    def mistake(holdout: Path, words: str) -> None:
        with pytest.raises(RunError, match=words):
            examine(trained, **SMALL, holdout=holdout)

    mistake(trained / "checkpoints", "--holdout: .* is the run itself, which has seen its own replay; give another run")
    mistake(tmp_path / "nowhere", "There is nothing at .*nowhere")
    other = shutil.copytree(other_seed, tmp_path / "other")
    config = load_config(other / "config.toml")
    for setting, value, words in (
        (
            "env.name",
            "DoctorThrow-v0",
            "has env.name DoctorThrow-v0, and the run has DoctorCatch-v0; give a run with the same",
        ),
        ("env.action_repeat", 4, r"has env\.action_repeat 4, and the run has 1; give a run with the same settings"),
    ):
        (other / "config.toml").write_text(to_toml(config.override(**{setting: value})))
        mistake(other, words)
    more = config.override(**{"env.num_envs": 3, "env.parallel": not config.env.parallel})
    (other / "config.toml").write_text(to_toml(more))
    assert examine(trained, **SMALL, holdout=other).holdout is not None
    (other / "replay.db").unlink()
    mistake(other, "other has no replay to examine; give the folder of a run that still has its own")
