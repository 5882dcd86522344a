"""Agents on a device and in files: build, save, load."""

import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reverie import kernels
from reverie.config import Config, flatten, from_dict, to_dict
from reverie.devices import resolve_device, resolve_dtype
from reverie.dreamer import Dreamer, State
from reverie.dreamer.actor_critic import ActorCritic
from reverie.dreamer.exploration import build_explorer, build_penalty_ensemble
from reverie.dreamer.world_model import WorldModel
from reverie.envs.space_json import spec_from_json, spec_to_json
from reverie.errors import CheckpointError, ConfigError
from reverie.policy import Policy
from reverie.runs.checkpoint import Shapes, Snapshot, read_checkpoint, validate_contents, write_checkpoint
from reverie.runs.run_folder import find_checkpoint
from reverie.specs import EnvSpec


class Agent(Dreamer):
    """DreamerV2 with a policy for Gymnasium environments."""

    def policy(self, deterministic: bool = True, seed: int | None = None) -> Policy:
        """Return a policy that takes what an environment's `step` returns, and gives what it takes.

        Args:
            deterministic: take the actor's most likely actions, as in evaluation; False samples them.
            seed: seed of the samples; None takes that of the configuration.
        """
        return Policy(self, deterministic, seed)

    def __repr__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return (
            f"Agent({self.config.env.name}, {num_parameters(self):,} parameters, {self.agent_steps:,} steps, "
            f"{self.updates:,} updates, {self.device}, {dtype})"
        )


def build_agent(config: Config, spec: EnvSpec, seed: int | None = None, device: str | None = None) -> Agent:
    """Build an untrained agent as `reverie train` does: on its device, in its precision, with fast kernels.

    Seed of weights and samples, and device (auto, cpu or cuda) are those of the configuration if they are None.

    Raises:
        ConfigError: if the device is not available.
    """
    resolved = resolve_device(device or config.training.device)
    agent = Agent(config, spec, seed, resolved, resolve_dtype(resolved, config.training.precision))
    return kernels.optimize(agent)


def unread_observations(agent: Dreamer) -> str:
    """Return a message that names the observations which the agent does not read; empty if it reads all."""
    read = agent.world_model.encoder.keys
    unread = [key for key in agent.spec.observations if key not in {**read.images, **read.vectors}]
    kinds = "--world-model.encoder.kinds all --world-model.decoder.kinds all"
    how = "" if agent.config.world_model.encoder.keys else f" {kinds} adds them."
    return f"Observations that the agent does not read: {', '.join(unread)}.{how}" if unread else ""


def snapshot(agent: Dreamer) -> Snapshot:
    """Return the agent's weights, optimizers, generators, counters and configuration."""
    tensors = {
        "weights": dict(agent.state_dict()),
        "generators": {name: generator.get_state() for name, generator in _generators(agent).items()},
        "carry": {} if agent.carry is None else agent.carry._asdict(),
    }
    tensors |= {f"{name}_optimizer": optimizer.state_dict() for name, optimizer in agent.optimizers.items()}
    state = {
        "config": to_dict(agent.config),
        "spec": spec_to_json(agent.spec),
        "updates": agent.updates,
        "critic_updates": agent.actor_critic.num_critic_updates,
        "agent_steps": agent.agent_steps,
    }
    return Snapshot(tensors, state)


def restore(agent: Dreamer, saved: Snapshot) -> None:
    """Load the result of `snapshot` into an agent, or raise CheckpointError where its sizes are others."""
    try:
        agent.load_state_dict(saved.tensors["weights"])
    except RuntimeError as error:
        raise CheckpointError(
            "The checkpoint's weights do not fit this agent; train it with the settings of the checkpoint's own "
            "configuration, or start a new run."
        ) from error
    if not saved.state.get("weights_only"):
        for name, optimizer in agent.optimizers.items():
            optimizer.load_state_dict(saved.tensors[f"{name}_optimizer"])
        for name, generator in _generators(agent).items():
            state = saved.tensors["generators"][name]
            if state.shape == generator.get_state().shape:  # else that of another kind of device
                generator.set_state(state)
        carry = {name: part.to(agent.device) for name, part in saved.tensors["carry"].items()}
        agent.carry = State(**carry) if carry else None
    agent.updates = operator.index(saved.state["updates"])
    for actor_critic in agent.actor_critics:
        actor_critic.num_critic_updates = operator.index(saved.state["critic_updates"])
    agent.agent_steps = operator.index(saved.state["agent_steps"])
    if agent.explorer is not None:
        agent.explorer.schedule(agent.agent_steps)


def save_agent(agent: Dreamer, folder: Path | str, weights_only: bool = False) -> None:
    """Save an agent in a folder of its own, for `reverie.load`.

    Args:
        agent: the agent.
        folder: the new folder.
        weights_only: leave out optimizers and random generators, and round the weights to 16 bits (float16): a sixth
            of the size. The agent acts, dreams, and can be the start of another run, but its training does not go on.

    Raises:
        CheckpointError: if the folder cannot be written.
    """
    saved = snapshot(agent)
    if weights_only:
        rounded = {name: parameter.detach().half() for name, parameter in agent.named_parameters()}
        fitting = {name: parameter for name, parameter in rounded.items() if bool(parameter.isfinite().all())}
        saved = Snapshot({"weights": saved.tensors["weights"] | fitting}, {**saved.state, "weights_only": True})
    write_checkpoint(Path(folder), agent.agent_steps, saved)


def load_agent(folder: Path | str, device: str | None = None) -> Agent:
    """Load an agent from what `save_agent` wrote, or from a checkpoint of a run.

    Raises:
        CheckpointError: if the folder is missing or damaged, or has settings of another version.
        ConfigError: if the device is not available.
    """

    def check(state: dict[str, Any], shapes: Shapes) -> None:
        try:
            config = from_dict(state["config"])
        except ConfigError as error:
            raise CheckpointError(f"{folder} has settings of another version of reverie. {error}") from None
        _check_sizes(config, spec_from_json(state["spec"], config.env.name), shapes["weights"])

    _, saved = read_checkpoint(Path(folder), check=check)
    if device is not None:
        resolve_device(device)
    with validate_contents(folder):
        config, spec = from_dict(saved.state["config"]), spec_from_json(saved.state["spec"])
        agent = build_agent(config, spec, device=device)
        restore(agent, saved)
    return agent


def load(path: Path | str, device: str = "auto") -> Agent:
    """Load a trained agent.

    Args:
        path: a run folder (its newest checkpoint), one of its checkpoints (`RUN/checkpoints/best`), or a folder that
            `reverie.save` wrote.
        device: auto, cpu or cuda.

    Raises:
        RunError: if there is no agent.
        CheckpointError: if it is damaged; a valid checkpoint is offered where there is one.
    """
    return load_agent(find_checkpoint(path), device)


def num_parameters(agent: Dreamer) -> int:
    """Return the number of trained parameters; the target critic's are not trained."""
    return sum(p.numel() for optimizer in agent.optimizers.values() for p in optimizer.parameters)


def _generators(agent: Dreamer) -> dict[str, torch.Generator]:
    return {"learn": agent.generator, "act": agent.act_generator}


def _check_sizes(config: Config, spec: EnvSpec, weights: Mapping[str, tuple[int, ...]]) -> None:
    """Compare the sizes of weights with those of an agent, before memory is allocated for either."""
    deepest = max(value for path, value in flatten(config).items() if path.endswith(".layers"))
    if deepest <= len(weights):
        with torch.device("meta"):
            model = WorldModel(config.world_model, spec)
            actor_critic = ActorCritic(config.behavior, model.rssm.feat_size, spec.action)
            explorer = build_explorer(config, model, spec)
            ensemble = build_penalty_ensemble(config, model, spec, explorer)
        parts = {"world_model": model, "actor_critic": actor_critic, "explorer": explorer, "penalty_ensemble": ensemble}
        expected = nn.ModuleDict({name: part for name, part in parts.items() if part is not None}).state_dict()
        if {name: tuple(value.shape) for name, value in expected.items()} == weights:
            return
    raise CheckpointError("The checkpoint's weights do not have the sizes that its configuration says.")
