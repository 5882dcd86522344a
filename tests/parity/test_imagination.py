"""Files 12: imagined trajectories, the losses on them, and one update of actor and critic."""

import pytest
import torch
from torch import Tensor

from reverie.dreamer import Dreamer, State
from reverie.dreamer.actor_critic import ActorCriticLoss, ImaginedTargets
from reverie.dreamer.imagination import ImaginationNoise
from tests.parity.compare import (
    DEVICE,
    FORWARD,
    GRADIENT,
    Golden,
    LoadGolden,
    LoadWeights,
    categorical_noise,
    close,
    group,
    named_gradients,
    stats_of,
    stoch_of,
    stored_state,
    tensor,
)
from tests.parity.configs import CONTINUOUS, DISCRETE, config, env_spec
from tests.parity.metrics import ACTOR_CRITIC as METRICS
from tests.parity.weights import close_gradients, close_weights

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


def _agent(load: LoadWeights, arrays: Golden, name: str, gradient: str | None = None) -> Dreamer:
    kind, action, default = FILES[name]
    settings = {
        "behavior__actor__gradient": gradient or default,
        "behavior__actor__entropy": 0.03,
        "behavior__actor__dynamics_weight": 0.1,
    }
    agent = Dreamer(config(kind, **settings), env_spec(action), device=DEVICE)
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


def _imagined(agent: Dreamer, arrays: Golden, name: str) -> ImaginedTargets:
    """Rollouts with gradients, and their targets."""
    actor_critic = agent.actor_critic
    values = actor_critic.scheduled_values(0)
    return actor_critic.imagine_targets(agent.world_model, *_start(arrays), _noise(arrays, name), values)


def _loss(agent: Dreamer, arrays: Golden, name: str) -> ActorCriticLoss:
    return agent.actor_critic.loss(agent.world_model, *_start(arrays), _noise(arrays, name))


@every_file
def test_imagine_trajectory_is_that_of_the_release(golden: LoadGolden, load: LoadWeights, name: str) -> None:
    arrays = golden(name)
    agent = _agent(load, arrays, name)
    trajectory = _imagined(agent, arrays, name).trajectory
    for key in ("feat", "action", "discount", "weight", "reward"):
        close(getattr(trajectory, key), arrays[f"seq/{key}"], FORWARD, key)
    assert not trajectory.weight.requires_grad
    policy = agent.actor_critic.actor(trajectory.feat)
    for key in ("logits",) if agent.spec.action.kind == "discrete" else ("loc", "scale"):
        close(getattr(policy, key), arrays[f"actor_{key}"], FORWARD, key)
    close(policy.entropy()[:-2], arrays["entropy"], FORWARD)


@every_file
def test_rssm_imagine_along_stored_actions_has_the_states_of_the_release(
    golden: LoadGolden, load: LoadWeights, name: str
) -> None:
    arrays = golden(name)
    agent = _agent(load, arrays, name)
    start, _ = _start(arrays)
    noise = _noise(arrays, name)
    actions = tensor(arrays["seq/action"][1:])
    states = agent.world_model.rssm.imagine(actions, start, None if noise is None else noise.latent)
    close(states.deter, arrays["seq/deter"][1:], FORWARD, "deter")
    close(states.stats, stats_of(arrays, "seq/")[1:], FORWARD, "stats")
    close(states.stoch, stoch_of(arrays, "seq/")[1:], FORWARD, "stoch")


@every_file
def test_imagine_targets_are_those_of_the_release(golden: LoadGolden, load: LoadWeights, name: str) -> None:
    arrays = golden(name)
    imagined = _imagined(_agent(load, arrays, name), arrays, name)
    close(imagined.reward, arrays["seq/reward"], FORWARD, "reward")
    close(imagined.target, arrays["target"], FORWARD, "target")
    close(imagined.value, arrays["value"], FORWARD, "value")


@every_file
def test_actor_critic_losses_are_those_of_the_release(golden: LoadGolden, load: LoadWeights, name: str) -> None:
    arrays = golden(name)
    losses = _loss(_agent(load, arrays, name), arrays, name)
    close(losses.actor, arrays["actor_loss"], FORWARD, "actor loss")
    close(losses.critic, arrays["critic_loss"], FORWARD, "critic loss")


@every_file
def test_actor_critic_losses_have_the_gradients_of_the_release(
    golden: LoadGolden, load: LoadWeights, name: str
) -> None:
    arrays = golden(name)
    agent = _agent(load, arrays, name)
    losses = _loss(agent, arrays, name)
    actor, critic = agent.actor_critic.actor, agent.actor_critic.critic
    gradients = {
        **{f"actor.{key}": value for key, value in named_gradients(losses.actor, actor).items()},
        **{f"critic.{key}": value for key, value in named_gradients(losses.critic, critic).items()},
    }
    close_gradients(gradients, group(arrays, "grad/"), GRADIENT, "actor_critic")


@pytest.mark.parametrize("name", [name for name in FILES if name != SAMPLED])
def test_actor_critic_update_has_the_weights_and_metrics_of_the_release(
    golden: LoadGolden, load: LoadWeights, name: str
) -> None:
    arrays = golden(name)
    agent = _agent(load, arrays, name)
    before = {key: value.clone() for key, value in agent.world_model.named_parameters()}
    losses = _loss(agent, arrays, name)
    actor, critic = agent.actor_optimizer, agent.critic_optimizer
    metrics = losses.metrics | {
        "actor/gradient_norm": actor.step(losses.actor, actor.learning_rate(0)).grad_norm,
        "critic/gradient_norm": critic.step(losses.critic, critic.learning_rate(0)).grad_norm,
    }
    agent.actor_critic.update_target()
    for key, value in group(arrays, "metric/").items():
        close(metrics[METRICS[key]], value, FORWARD, key)
    close_weights(agent.actor_critic, group(arrays, "after/"), "actor_critic")
    for key, value in agent.world_model.named_parameters():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("name", AUTO)
def test_actor_critic_gradient_auto_is_that_of_the_release(golden: LoadGolden, load: LoadWeights, name: str) -> None:
    """Reinforce for discrete actions, dynamics for continuous ones."""
    arrays = golden(name)
    agent = _agent(load, arrays, name, gradient="auto")
    close(_loss(agent, arrays, name).actor, arrays["actor_loss"], FORWARD)
