"""Fine-tuning: parts of a trained agent in a new one, in the same environment or another.

`reverie train ENV --from RUN` calls `transfer` and prints its table.
"""

from collections.abc import Collection
from typing import Literal, NamedTuple

import torch

from reverie.config import did_you_mean
from reverie.dreamer import Dreamer
from reverie.errors import ConfigError

Keep = Literal["model", "model+actor", "all"]
MODEL = {
    "preprocess": ("world_model.preprocess.",),
    "encoder": ("world_model.encoder.",),
    "rssm": ("world_model.rssm.",),
    "decoder": ("world_model.decoder.",),
    "reward": ("world_model.reward_head.",),
    "discount": ("world_model.discount_head.",),
}
PARTS = {
    **MODEL,
    "actor": ("actor_critic.actor.",),
    "critic": ("actor_critic.critic.", "actor_critic.target_critic.", "actor_critic.reward_norm."),
    "explorer": ("explorer.", "penalty_ensemble."),
}
"""Parts of an agent, with the prefixes of their parameters and statistics."""
KEPT: dict[str, Collection[str]] = {"model": MODEL, "model+actor": {*MODEL, "actor"}, "all": PARTS}


class Initial(NamedTuple):
    """Arguments of `transfer` for a new run."""

    source: Dreamer
    keep: Keep = "all"
    fresh: Collection[str] = ()


class TransferredPart(NamedTuple):
    """Row of the table: a part of the new agent."""

    name: str
    num_kept: int
    """Parameters that were copied."""
    num_fresh: int
    """Parameters that stay as the new agent was built."""
    others: list[str]
    """Names of tensors that were not copied, since they are missing there or have another shape."""

    def __str__(self) -> str:
        """Return a row of the table."""
        total = self.num_kept + self.num_fresh
        state = "kept" if not self.num_fresh else "fresh" if not self.num_kept else "in part"
        more = f" and {len(self.others) - 2} more" if len(self.others) > 2 else ""
        why = f"; {', '.join(self.others[:2])}{more}" if self.others else ""
        return f"  {self.name:<11}{state:<8}{self.num_kept:>11,} of {total:,} parameters{why}"


@torch.no_grad()
def transfer(agent: Dreamer, source: Dreamer, keep: Keep = "all", fresh: Collection[str] = ()) -> list[TransferredPart]:
    """Copy parts of one agent into another, which is untrained, where names and shapes agree.

    Optimizers, generators and counters are the new agent's.

    Args:
        agent: the new agent.
        source: the trained one.
        keep: parts that are copied: the world model, with the actor, or all.
        fresh: parts among them that are not, by their names in `PARTS`.

    Returns:
        What became of each part that the new agent has.

    Raises:
        ConfigError: if there is no part of a name, or no parameter fits.
    """
    if keep not in KEPT:
        raise ConfigError(f"keep is '{keep}', but it must be one of {', '.join(KEPT)}.")
    for name in fresh:
        if name not in PARTS:
            raise ConfigError(f"fresh names no part '{name}'{did_you_mean(name, PARTS, 'the parts are')}")
    own, other = agent.state_dict(), source.state_dict()
    table = []
    for part, prefixes in PARTS.items():
        names = [name for name in own if name.startswith(prefixes)]
        if not names:
            continue
        is_wanted = part in KEPT[keep] and part not in fresh
        fitting = {name for name in names if is_wanted and name in other and other[name].shape == own[name].shape}
        for name in [name for name in fitting if name.endswith(".bias")]:  # of a layer whose weight does not fit
            weight = name.removesuffix("bias") + "weight"
            fitting -= {name} if weight in own and weight not in fitting else set()
        for name in fitting:
            own[name].copy_(other[name])
        others = [
            f"{name} is {_shape(own[name])} here, {_shape(other[name]) if name in other else 'missing'} there"
            for name in names
            if is_wanted and (name not in other or other[name].shape != own[name].shape)
        ]
        sizes = {name: own[name].numel() for name in names}
        num_kept = sum(sizes[name] for name in fitting)
        table.append(TransferredPart(part, num_kept, sum(sizes.values()) - num_kept, others))
    if not any(part.num_kept > 1 for part in table):  # one is a reward's magnitude
        raise ConfigError(
            f"No weights of the agent for {source.config.env.name} fit: its networks have other sizes, or all parts "
            "are to be fresh. Nothing was trained. Train with its settings, or without --from."
        )
    return table


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
