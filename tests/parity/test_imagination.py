"""Files 12: imagined trajectories, the losses on them, and one update of actor and critic."""

import pytest
import torch
from torch import Tensor

from reverie.agent import Dreamer
from reverie.behavior import BehaviorLoss
from reverie.behavior.imagination import ImaginationNoise, imagine_states
from reverie.fast.features import Features
from reverie.world_model import State
from tests.parity.compare import (
    FORWARD,
    GRADIENT,
    Golden,
    LoadGolden,
    categorical_noise,
    close,
    close_state,
    group,
    named_gradients,
    stored_state,
    tensor,
)
from tests.parity.configs import CONTINUOUS, DISCRETE, config, env_spec
from tests.parity.metrics import BEHAVIOR as METRICS
from tests.parity.weights import close_gradients, close_weights, load

SAMPLED = "12b_imagine_discrete_reinforce_sampled"
# (settings, actions, gradient)
FILES = {
    "12_imagine_discrete_reinforce": ("atari", DISCRETE, "reinforce"),
    SAMPLED: ("atari", DISCRETE, "reinforce"),
    "12c_imagine_discrete_dynamics": ("atari", DISCRETE, "dynamics"),
    "12d_imagine_discrete_both": ("atari", DISCRETE, "both"),
    "12e_imagine_continuous_dynamics": ("atari", CONTINUOUS, "dynamics"),
    "12f_imagine_continuous_both": ("atari", CONTINUOUS, "both"),
    "12g_imagine_continuous_dynamics_nodisc": ("dmc", CONTINUOUS, "dynamics"),
}
AUTO = ("12_imagine_discrete_reinforce", "12e_imagine_continuous_dynamics", "12g_imagine_continuous_dynamics_nodisc")
# The files have no weights for what imagination does not need.
UNSET = ("world_model.encoder.", "world_model.decoder.", "world_model.rssm.posterior_")
every_file = pytest.mark.parametrize("name", FILES)


def _agent(arrays: Golden, name: str, gradient: str | None = None) -> Dreamer:
    kind, action, default = FILES[name]
    settings = {
        "behavior__actor__gradient": gradient or default,
        "behavior__actor__entropy": 0.03,
        "behavior__actor__dynamics_weight": 0.1,
    }
    agent = Dreamer(config(kind, **settings), env_spec(action))
    load(agent, group(arrays, "param/"), unset=UNSET)
    return agent


def _start(arrays: Golden) -> tuple[State, Tensor]:
    """Start states and whether they are terminal, in one row, ordered as the release orders them."""
    state = stored_state(arrays, "start/").map(lambda part: part.flatten(0, 1))
    return state, tensor(arrays["is_terminal"]).flatten()


def _noise(arrays: Golden, name: str) -> ImaginationNoise | None:
    """None for modes; in the sampled file, the noise with which ours draws what the release drew."""
    if name != SAMPLED:
        return None
    latent = categorical_noise(arrays["seq/logit"][1:], arrays["seq/stoch"][1:])
    action = categorical_noise(arrays["actor_logits"][:-1], arrays["seq/action"][1:])[..., None]
    return ImaginationNoise(latent, action)


def _loss(agent: Dreamer, arrays: Golden, name: str) -> BehaviorLoss:
    return agent.behavior.loss(agent.world_model, *_start(arrays), _noise(arrays, name))


@every_file
def test_trajectory(golden: LoadGolden, name: str) -> None:
    arrays = golden(name)
    agent = _agent(arrays, name)
    trajectory = _loss(agent, arrays, name).trajectory
    feat = trajectory.feat.dense() if isinstance(trajectory.feat, Features) else trajectory.feat
    close(feat, arrays["seq/feat"], FORWARD, "feat")
    for key in ("action", "discount", "weight", "reward"):
        close(getattr(trajectory, key), arrays[f"seq/{key}"], FORWARD, key)
    assert not trajectory.weight.requires_grad
    policy = agent.behavior.actor(trajectory.feat)
    for key in ("logits",) if agent.spec.action.kind == "discrete" else ("loc", "scale"):
        close(getattr(policy, key), arrays[f"actor_{key}"], FORWARD, key)
    close(policy.entropy()[:-2], arrays["entropy"], FORWARD)


@every_file
def test_states(golden: LoadGolden, name: str) -> None:
    arrays = golden(name)
    agent = _agent(arrays, name)
    horizon, noise = agent.config.behavior.horizon, _noise(arrays, name)
    start, _ = _start(arrays)
    state, action = imagine_states(agent.world_model, agent.behavior.actor, start, horizon, noise)
    close_state(state, arrays, "seq/")
    close(action, arrays["seq/action"], FORWARD, "action")


@every_file
def test_losses(golden: LoadGolden, name: str) -> None:
    arrays = golden(name)
    agent = _agent(arrays, name)
    losses = _loss(agent, arrays, name)
    close(losses.target, arrays["target"], FORWARD, "target")
    close(agent.behavior.target_critic(losses.trajectory.feat), arrays["value"], FORWARD, "value")
    close(losses.actor, arrays["actor_loss"], FORWARD, "actor loss")
    close(losses.critic, arrays["critic_loss"], FORWARD, "critic loss")


@every_file
def test_gradients(golden: LoadGolden, name: str) -> None:
    arrays = golden(name)
    agent = _agent(arrays, name)
    losses = _loss(agent, arrays, name)
    behavior = agent.behavior
    gradients = {
        **{f"actor.{key}": value for key, value in named_gradients(losses.actor, behavior.actor).items()},
        **{f"critic.{key}": value for key, value in named_gradients(losses.critic, behavior.critic).items()},
    }
    close_gradients(gradients, group(arrays, "grad/"), GRADIENT, "behavior")


@pytest.mark.parametrize("name", [name for name in FILES if name != SAMPLED])
def test_update(golden: LoadGolden, name: str) -> None:
    arrays = golden(name)
    agent = _agent(arrays, name)
    before = {key: value.clone() for key, value in agent.world_model.named_parameters()}
    losses = _loss(agent, arrays, name)
    actor, critic = agent.actor_optimizer, agent.critic_optimizer
    metrics = losses.metrics | {
        "behavior/actor_gradient_norm": actor.step(losses.actor, actor.advance(0)).norm,
        "behavior/critic_gradient_norm": critic.step(losses.critic, critic.advance(0)).norm,
    }
    agent.behavior.update_target(0)
    for key, value in group(arrays, "metric/").items():
        close(metrics[METRICS[key]], value, FORWARD, key)
    close_weights(agent.behavior, group(arrays, "after/"), "behavior")
    for key, value in agent.world_model.named_parameters():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("name", AUTO)
def test_auto_is_what_the_release_takes(golden: LoadGolden, name: str) -> None:
    """Reinforce for discrete actions, dynamics for continuous ones."""
    arrays = golden(name)
    agent = _agent(arrays, name, gradient="auto")
    close(_loss(agent, arrays, name).actor, arrays["actor_loss"], FORWARD)
