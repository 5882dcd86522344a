"""Open-loop errors by horizon: the model and two naive predictions."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reverie.dreamer import Dreamer, State
from reverie.dreamer.world_model import Batch

SAMPLES = 4
"""Imagined futures whose mean is compared. Where the future is uncertain, a single draw of a perfect model has twice
the error of the mean."""
MARGIN = 0.95
"""Share of another prediction's error below which a prediction is better; 5 % is within the noise of a sample."""


@dataclass(frozen=True)
class Horizons:
    """Mean squared errors by horizon 0 … H; None where no sequence reaches."""

    model: list[float | None]
    repeat: list[float | None]  # of the last value that the model saw
    mean: list[float | None]  # of the mean over the data

    def share_of(self, naive: str, first: int, last: int) -> float | None:
        """Return the model's error over horizons `first` to `last`, as a share of that of `repeat` or `mean`.

        None if no sequence reaches them, or the naive prediction is perfect.
        """
        pairs = zip(self.model[first : last + 1], getattr(self, naive)[first : last + 1], strict=True)
        known = [(a, b) for a, b in pairs if a is not None and b is not None]
        total = sum(b for _, b in known)
        return sum(a for a, _ in known) / total if known and total > 1e-12 * len(known) else None

    def error(self, first: int, last: int) -> float | None:
        """Return the mean of the model's error over horizons `first` to `last`; None if no sequence reaches them."""
        known = [value for value in self.model[first : last + 1] if value is not None]
        return sum(known) / len(known) if known else None

    def useful(self) -> tuple[int, int] | None:
        """Return first and last of the longest row of horizons at which the model beats both naive predictions.

        Horizon 0, which the model has seen, does not count. None if there is no such horizon.
        """
        rows = zip(self.model[1:], self.repeat[1:], self.mean[1:], strict=True)
        better = [a is not None and b is not None and c is not None and a < MARGIN * min(b, c) for a, b, c in rows]
        spans = [list(span) for is_better, span in groupby(range(len(better)), better.__getitem__) if is_better]
        longest = max(spans, key=len, default=None)
        return (longest[0] + 1, longest[-1] + 1) if longest else None


def squared_errors(
    predicted: Float[Tensor, "H1 B *X"],
    actual: Float[Tensor, "H1 B *X"],
    mean: Float[Tensor, "*X"],
    valid: Bool[Tensor, "H1 B"],
) -> Float[Tensor, "4 H1"]:
    """Return errors of model, repeating and mean, summed over `valid` steps, in the same episode, and their number.

        e_h = sum over valid b of mean_x (predicted[h, b, x] - actual[h, b, x])^2

    Entry 0 is the last step that the model saw, entry h is h steps later. Results of several batches add up.
    """

    def error(guess: Tensor) -> Tensor:
        difference = (guess - actual).square()
        each = difference.flatten(2).mean(-1) if difference.dim() > 2 else difference
        return (each * valid).sum(1)

    return torch.stack([error(predicted), error(actual[:1]), error(mean), valid.sum(1).float()])


def horizons(errors: Float[Tensor, "4 H1"]) -> Horizons:
    """Return means of sums."""
    *rows, reached = errors.tolist()
    return Horizons(*([e / n if n else None for e, n in zip(row, reached, strict=True)] for row in rows))


def same_episode(is_first: Bool[Tensor, "T B"], context: int) -> Bool[Tensor, "H1 B"]:
    """Return whether no new episode has begun since step `context` - 1; entry 0 is that step."""
    begun = is_first[context:].cumsum(0) > 0
    return ~torch.cat([torch.zeros_like(is_first[:1]), begun])


def open_loop_errors(
    agent: Dreamer,
    data: Batch,
    posterior: State,
    context: int,
    means: Mapping[str, Tensor],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Imagine from the last step of the context along the true actions, and return `squared_errors` by key.

    Data are preprocessed steps [T, B, …], T = context + H, with their posterior states; means, of the observations and
    of `reward` over all data, name the keys to compare.
    """
    model = agent.world_model
    actions = data["action"][context:]
    start = posterior.map(lambda part: part[context - 1])
    sums: dict[str, Tensor] = {}
    for _ in range(SAMPLES):
        noise = model.rssm.latents.draw_noise(tuple(actions.shape[:2]), generator)
        feat = torch.cat([start.feat[None], model.rssm.imagine(actions, start, noise).feat])
        images = {key: image.clamp(-0.5, 0.5) for key, image in model.decoder.images(feat).items()}
        for key, value in {**images, **model.decoder.vectors(feat), "reward": model.reward(feat)}.items():
            sums[key] = sums[key] + value if key in sums else value
    valid = same_episode(data["is_first"], context)
    return {
        key: squared_errors(sums[key] / SAMPLES, data[key][context - 1 :], mean, valid)
        for key, mean in means.items()
        if key in sums
    }
