"""A plain PyTorch train step of DreamerV2: what one would write from the article, as a yardstick for reverie's.

    python benchmarks/naive.py --preset atari-small --threads 2

times it on a random batch and prints one JSON line. It computes what `Dreamer.train_step` computes, eagerly and in
float32, module by module and step by step; `tests/test_naive.py` holds the two against each other. Adam's epsilon is
where PyTorch has it instead of TensorFlow, and weights start as PyTorch's layers do. Letters: T time, B batch,
H horizon, N = T*B rollouts.
"""

import argparse
import copy
import json
import math
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.conditions import machine, versions

GAMMA, LAMBDA = 0.999, 0.95
KL_SCALE, KL_BALANCE, DISCOUNT_SCALE = 0.1, 0.8, 5.0
ENTROPY_SCALE = 1e-3
MODEL_LR, ACTOR_LR, CRITIC_LR = 2e-4, 4e-5, 1e-4
WEIGHT_DECAY, CLIP, TARGET_EVERY = 1e-6, 100.0, 100
LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
WARM_UP = 2


@dataclass(frozen=True)
class Sizes:
    depth: int
    deter: int
    units: int
    layers: int = 4
    variables: int = 32
    classes: int = 32
    actions: int = 18
    horizon: int = 15


PRESETS = {"atari": Sizes(depth=48, deter=600, units=400), "atari-small": Sizes(depth=16, deter=200, units=200)}


def mlp(inputs: int, sizes: Sizes, outputs: int) -> nn.Sequential:
    widths = [inputs] + [sizes.units] * sizes.layers
    hidden = [layer for i in range(sizes.layers) for layer in (nn.Linear(widths[i], widths[i + 1]), nn.ELU())]
    return nn.Sequential(*hidden, nn.Linear(widths[-1], outputs))


def log_normal(mean: Tensor, value: Tensor) -> Tensor:
    """Log-density under a normal of variance 1."""
    return -0.5 * (value - mean).square() - LOG_SQRT_2PI


def draw(logits: Tensor, sample: bool) -> Tensor:
    """One-hot draws, or modes, with straight-through gradients."""
    probs = logits.softmax(-1)
    flat = probs.detach().flatten(0, -2)
    index = flat.multinomial(1) if sample else flat.argmax(-1, keepdim=True)
    one_hot = torch.zeros_like(flat).scatter_(1, index, 1.0).view_as(probs)
    return one_hot + (probs - probs.detach())


def kl(left: Tensor, right: Tensor) -> Tensor:
    """KL(left || right) of logits [T, B, S, K], summed over the variables, averaged over the rest."""
    log_left, log_right = left.log_softmax(-1), right.log_softmax(-1)
    return (log_left.exp() * (log_left - log_right)).sum((-2, -1)).mean()


class Encoder(nn.Module):
    """Images [N, 64, 64, 1] to embeddings [N, 32 d]."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        channels = [1, depth, 2 * depth, 4 * depth, 8 * depth]
        self.layers = nn.Sequential()
        for i in range(4):
            self.layers.append(nn.Conv2d(channels[i], channels[i + 1], 4, stride=2))
            self.layers.append(nn.ELU())

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).flatten(1)


class Decoder(nn.Module):
    """Features [N, F] to the means of images [N, 64, 64, 1]."""

    def __init__(self, inputs: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, 32 * depth),
            nn.Unflatten(1, (32 * depth, 1, 1)),
            nn.ConvTranspose2d(32 * depth, 4 * depth, 5, stride=2),
            nn.ELU(),
            nn.ConvTranspose2d(4 * depth, 2 * depth, 5, stride=2),
            nn.ELU(),
            nn.ConvTranspose2d(2 * depth, depth, 6, stride=2),
            nn.ELU(),
            nn.ConvTranspose2d(depth, 1, 6, stride=2),
        )

    def forward(self, feat: Tensor) -> Tensor:
        return self.layers(feat).permute(0, 2, 3, 1)


class GRUCell(nn.Module):
    """DreamerV2's: a joint layer norm, a reset gate on the candidate, an update gate with a bias of -1."""

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs + size, 3 * size)
        self.norm = nn.LayerNorm(3 * size, eps=1e-3)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        reset, candidate, update = self.norm(self.linear(torch.cat([x, state], -1))).chunk(3, -1)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        update = torch.sigmoid(update - 1)
        return update * candidate + (1 - update) * state


class RSSM(nn.Module):
    """Latent dynamics; a state is (deter [N, D], stoch [N, S*K])."""

    def __init__(self, sizes: Sizes, embed: int) -> None:
        super().__init__()
        self.sizes = sizes
        width = sizes.variables * sizes.classes
        self.input = nn.Sequential(nn.Linear(width + sizes.actions, sizes.deter), nn.ELU())
        self.cell = GRUCell(sizes.deter, sizes.deter)
        self.prior = self._head(sizes.deter)
        self.posterior = self._head(sizes.deter + embed)

    def _head(self, inputs: int) -> nn.Sequential:
        deter, classes, variables = self.sizes.deter, self.sizes.classes, self.sizes.variables
        return nn.Sequential(
            nn.Linear(inputs, deter),
            nn.ELU(),
            nn.Linear(deter, variables * classes),
            nn.Unflatten(-1, (variables, classes)),
        )

    def imagine_step(self, deter: Tensor, stoch: Tensor, action: Tensor, sample: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Next deter, stoch from the prior, and the prior's logits [N, S, K]."""
        deter = self.cell(self.input(torch.cat([stoch, action], -1)), deter)
        logits = self.prior(deter)
        return deter, draw(logits, sample).flatten(-2), logits

    def observe_step(
        self, deter: Tensor, stoch: Tensor, action: Tensor, embed: Tensor, is_first: Tensor, sample: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Next deter, stoch from the posterior, and the logits of prior and posterior [B, S, K]."""
        keep = 1 - is_first.float()[:, None]
        deter = self.cell(self.input(torch.cat([stoch * keep, action * keep], -1)), deter * keep)
        posterior = self.posterior(torch.cat([deter, embed], -1))
        return deter, draw(posterior, sample).flatten(-2), self.prior(deter), posterior


class WorldModel(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        feat = sizes.variables * sizes.classes + sizes.deter
        self.encoder = Encoder(sizes.depth)
        self.rssm = RSSM(sizes, 32 * sizes.depth)
        self.decoder = Decoder(feat, sizes.depth)
        self.reward = mlp(feat, sizes, 1)
        self.discount = mlp(feat, sizes, 1)

    def loss(self, batch: dict[str, Tensor], sample: bool) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Losses by name, and the posterior's deter and stoch, [T, B, ...]."""
        image = batch["image"].float() / 255 - 0.5
        length, size = image.shape[:2]
        embed = self.encoder(image.flatten(0, 1)).unflatten(0, (length, size))
        deter = torch.zeros(size, self.sizes.deter)
        stoch = torch.zeros(size, self.sizes.variables * self.sizes.classes)
        steps = []
        for t in range(length):
            step = self.rssm.observe_step(deter, stoch, batch["action"][t], embed[t], batch["is_first"][t], sample)
            deter, stoch = step[:2]
            steps.append(step)
        deters, stochs, priors, posteriors = (torch.stack(part) for part in zip(*steps, strict=True))
        feat = torch.cat([stochs, deters], -1)

        mean = self.decoder(feat.flatten(0, 1)).unflatten(0, (length, size))
        label = GAMMA * (1 - batch["is_terminal"].float())
        losses = {
            "image": -log_normal(mean, image).sum((-3, -2, -1)).mean(),
            "reward": -log_normal(self.reward(feat)[..., 0], torch.tanh(batch["reward"])).mean(),
            "discount": F.binary_cross_entropy_with_logits(self.discount(feat)[..., 0], label),
            "kl": KL_BALANCE * kl(posteriors.detach(), priors) + (1 - KL_BALANCE) * kl(posteriors, priors.detach()),
        }
        losses["model"] = (
            losses["image"] + losses["reward"] + DISCOUNT_SCALE * losses["discount"] + KL_SCALE * losses["kl"]
        )
        return losses, deters.detach(), stochs.detach()


class Naive:
    """World model, actor and critic with their optimizers."""

    def __init__(self, sizes: Sizes, eps: float = 1e-5) -> None:
        feat = sizes.variables * sizes.classes + sizes.deter
        self.sizes = sizes
        self.model = WorldModel(sizes)
        self.actor = mlp(feat, sizes, sizes.actions)
        self.critic = mlp(feat, sizes, 1)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.optimizers = {
            module: torch.optim.AdamW(module.parameters(), lr, eps=eps, weight_decay=WEIGHT_DECAY / lr)
            for module, lr in ((self.model, MODEL_LR), (self.actor, ACTOR_LR), (self.critic, CRITIC_LR))
        }
        self.updates = 0

    def parameters(self) -> int:
        """Trained ones."""
        return sum(p.numel() for module in self.optimizers for p in module.parameters())

    def train_step(self, batch: dict[str, Tensor], sample: bool = True) -> dict[str, float]:
        """One update of everything on a batch of raw steps [T, B, ...]; `sample=False` takes modes."""
        losses, deter, stoch = self.model.loss(batch, sample)
        self._update(self.model, losses["model"])
        losses |= self._behavior_losses(
            deter.flatten(0, 1), stoch.flatten(0, 1), batch["is_terminal"].flatten(), sample
        )
        self._update(self.actor, losses["actor"])
        self._update(self.critic, losses["critic"])
        if self.updates % TARGET_EVERY == 0:
            self.target_critic.load_state_dict(self.critic.state_dict())
        self.updates += 1
        return {name: loss.item() for name, loss in losses.items()}

    def _update(self, module: nn.Module, loss: Tensor) -> None:
        self.optimizers[module].zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), CLIP)
        self.optimizers[module].step()

    def _behavior_losses(self, deter: Tensor, stoch: Tensor, is_terminal: Tensor, sample: bool) -> dict[str, Tensor]:
        """Imagine H steps from N states, then score actor (Reinforce) and critic."""
        with torch.no_grad():
            feats, actions = [torch.cat([stoch, deter], -1)], []
            for _ in range(self.sizes.horizon):
                action = draw(self.actor(feats[-1]), sample)
                deter, stoch, _ = self.model.rssm.imagine_step(deter, stoch, action, sample)
                feats.append(torch.cat([stoch, deter], -1))
                actions.append(action)
            feat = torch.stack(feats)
            reward = self.model.reward(feat)[..., 0]
            discount = torch.sigmoid(self.model.discount(feat)[..., 0])
            discount[0] = GAMMA * (1 - is_terminal.float())
            value = self.target_critic(feat)[..., 0]
            weight = torch.cat([torch.ones_like(discount[:1]), discount[:-1]]).cumprod(0)
            returns = [value[-1]]
            for t in reversed(range(self.sizes.horizon)):
                following = (1 - LAMBDA) * value[t + 1] + LAMBDA * returns[0]
                returns.insert(0, reward[t] + discount[t] * following)
            target = torch.stack(returns[:-1])

        log_policy = self.actor(feat[:-2]).log_softmax(-1)
        log_prob = (log_policy * torch.stack(actions[:-1])).sum(-1)
        entropy = -(log_policy.exp() * log_policy).sum(-1)
        objective = log_prob * (target[1:] - value[:-2]) + ENTROPY_SCALE * entropy
        log_value = log_normal(self.critic(feat[:-1])[..., 0], target)
        return {"actor": -(weight[:-2] * objective).mean(), "critic": -(weight[:-1] * log_value).mean()}


def random_batch(length: int, size: int, actions: int) -> dict[str, Tensor]:
    """Raw random steps [T, B, ...], each sequence the beginning of an episode."""
    generator = torch.Generator().manual_seed(0)
    lead = (length, size)
    batch = {
        "image": torch.randint(0, 256, (*lead, 64, 64, 1), dtype=torch.uint8, generator=generator),
        "action": F.one_hot(torch.randint(0, actions, lead, generator=generator), actions).float(),
        "reward": torch.randn(lead, generator=generator),
        "is_terminal": torch.rand(lead, generator=generator) < 0.01,
        "is_first": torch.zeros(lead, dtype=torch.bool),
    }
    batch["is_first"][0] = True
    return batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=list(PRESETS), default="atari", help="sizes")
    parser.add_argument("--batch", type=int, default=16, help="sequences per update")
    parser.add_argument("--length", type=int, default=50, help="steps per sequence")
    parser.add_argument("--repeats", type=int, default=5, help=f"timed updates, after {WARM_UP} that are not")
    parser.add_argument("--threads", type=int, default=0, help="0 leaves it to PyTorch")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    sizes = PRESETS[options.preset]
    naive, batch = Naive(sizes), random_batch(options.length, options.batch, sizes.actions)
    seconds = []
    for _ in range(WARM_UP + options.repeats):
        started = time.perf_counter()
        naive.train_step(batch)
        seconds.append(time.perf_counter() - started)
    result = {
        "seconds_median": statistics.median(seconds[WARM_UP:]),
        "seconds_all": seconds[WARM_UP:],
        "parameters": naive.parameters(),
        "preset": options.preset,
        "batch": options.batch,
        "length": options.length,
        "precision": "fp32",
        "sizes": asdict(sizes),
        "threads": torch.get_num_threads(),
        "versions": versions("torch"),
        **machine(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
