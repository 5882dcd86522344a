"""Durations in environment frames; the forms themselves are compared with the release in tests/parity/test_misc.py."""

import pytest

from reverie.config import Config, KLConfig, config_in_steps, parse_schedule
from reverie.config.schedules import in_steps
from reverie.dreamer import Dreamer
from reverie.errors import ConfigError
from reverie.specs import EnvSpec
from tests.helpers.agents import ATARI_IMAGE, DISCRETE, tiny

FRAMES = (0, 10, 20, 55, 80, 200)


@pytest.mark.parametrize("text", ["linear(1,0,80{})", "warmup(80{},3)", "exp(1,0.1,40{})", "horizon(10,99,80{})"])
@pytest.mark.parametrize("space", [" ", "", "\t "])
def test_frames_are_agent_steps_times_the_action_repeat(text: str, space: str) -> None:
    in_frames, at_once = text.format(f"{space}frames"), parse_schedule(text.format(""))
    four = parse_schedule(in_frames, frames_per_step=4)
    rewritten = parse_schedule(in_steps(in_frames, 4) or 0)
    for frames in FRAMES:
        assert four(frames / 4) == pytest.approx(at_once(frames))
        assert rewritten(frames / 4) == pytest.approx(at_once(frames))


@pytest.mark.parametrize("value", [0.5, "0.5", "linear(1,0,80)", None])
def test_what_counts_no_frames_stays(value: float | str | None) -> None:
    assert in_steps(value, 4) == value


@pytest.mark.parametrize("text", ["linear(1 frames,0,80)", "linear(1,0,frames)", "linear(1,0,80 frame)", "80 frames"])
def test_frames_stand_behind_a_duration(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a schedule"):
        parse_schedule(text, frames_per_step=4)


def test_frames_are_refused_where_the_action_repeat_is_unknown() -> None:
    with pytest.raises(ConfigError, match=r"lr: 'linear\(1,0,80 frames\)' is not a schedule"):
        parse_schedule("linear(1,0,80 frames)", "lr")


def test_every_schedule_of_a_configuration_is_counted_in_steps() -> None:
    text = "linear(0.5,0.25,80 frames)"
    names = ("kl.scale", "kl.free_nats", "kl.prior_scale", "kl.posterior_entropy_scale", "optimizer.lr")
    paths = [f"world_model.{name}" for name in names]
    paths += [f"behavior.actor.{name}" for name in ("entropy", "dynamics_weight", "reinforce_weight", "optimizer.lr")]
    paths += ["behavior.critic.optimizer.lr"]
    settings = dict.fromkeys(paths, text) | {"behavior.actor.gradient": "both", "env.action_repeat": 4}
    config = tiny().override(**settings)
    assert "frames" not in str(config_in_steps(config))
    agent = Dreamer(config, EnvSpec(ATARI_IMAGE, DISCRETE))
    assert agent.config == config  # a checkpoint keeps what the user wrote
    agent.agent_steps = 10
    numbers = agent.scheduled_values()
    expected = {"kl_scale", "free_nats", "entropy_weight", "dynamics_weight", "reinforce_weight"}
    expected |= {"model_lr", "actor_lr", "critic_lr"}
    assert {name for name in numbers if numbers[name] == 0.375} >= expected
    for optimizer in (agent.model_optimizer, agent.actor_optimizer, agent.critic_optimizer):
        assert optimizer.learning_rate(10) == 0.375


def test_a_setting_may_count_frames() -> None:
    assert KLConfig(scale="linear(1,0,8 frames)")
    assert config_in_steps(Config()) == Config()
