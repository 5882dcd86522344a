"""Effects of variants: refused exactly where an update and a decision are the same without them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import reverie
from reverie.config import PRESETS, VARIANTS, Config, configure, diff, idle, preset, with_variant
from reverie.dreamer import Dreamer
from reverie.errors import ConfigError
from reverie.specs import EnvSpec
from tests.helpers.agents import random_steps, tensors
from tests.helpers.small_presets import ATARI, STRONG, shrunk, spec_of


def learned(config: Config, spec: EnvSpec) -> list[np.ndarray[Any, Any]]:
    """Return the weights after an update at a low and at a high KL, and sampled actions: all that a setting affects."""
    found = []
    for factor in (1.0, STRONG):
        agent = Dreamer(shrunk(config), spec, seed=3)
        agent.agent_steps = 100_000  # schedules are on their way
        with torch.no_grad():
            for head in (agent.world_model.rssm.prior_head, agent.world_model.rssm.posterior_head):
                head.weight.mul_(factor)
        agent.train_step(tensors(random_steps(spec, (3, 2))))
        found += [parameter.detach().numpy() for parameter in agent.parameters()]
    found.append(agent.act(tensors(random_steps(spec, (40,))))[0].numpy())
    return found


def equal(left: list[np.ndarray[Any, Any]], right: list[np.ndarray[Any, Any]]) -> bool:
    return len(left) == len(right) and all(map(np.array_equal, left, right))


@pytest.mark.parametrize("name", PRESETS)
def test_variants_are_idle_on_a_preset_exactly_where_an_update_shows_no_effect(name: str) -> None:
    base, spec = preset(name), spec_of(name)
    before = learned(base, spec)
    wrong = []
    for variant in VARIANTS:
        config = with_variant(base, variant)
        is_same = not diff(config, base) or equal(learned(config, spec), before)
        is_idle = bool(idle(variant, config, lambda _: base, spec))
        if variant != "full" and is_same != is_idle:
            wrong.append((variant, is_same, is_idle))
    assert not wrong


@pytest.mark.parametrize(
    ("name", "variant", "reason"),
    [
        ("article", "no-kl-balancing", "world_model.kl.balance is not read, as world_model.kl.objective is split. "),
        ("article", "free-nats", "world_model.kl.scale is not read, as world_model.kl.objective is split. "),
        ("article", "split", "world_model.kl.objective is split without it. "),
        ("atari", "reinforce-only", "behavior.actor.gradient is reinforce without it. "),
        ("dmc-vision", "straight-through-only", "behavior.actor.gradient is dynamics without it. "),
        (
            "dmc-proprio",
            "no-image-gradients",
            "world_model.head_gradients.image is not read, as no images are predicted. ",
        ),
        ("atari", "gru-norm", "world_model.rssm.gru_layer_norm is true without it. "),
        ("dreamer-v1", "long-term-entropy", "behavior.long_term_entropy is not read, as behavior.actor.entropy is 0. "),
        (
            "atari-paper",
            "split+no-kl-balancing",
            "no-kl-balancing changes nothing here: world_model.kl.bal",
        ),
        ("atari-paper", "free-nats+no-kl-balancing", "The variant no-kl-balancing changes nothing here: "),
    ],
)
def test_configure_with_an_idle_variant_is_refused_with_the_reason(name: str, variant: str, reason: str) -> None:
    with pytest.raises(ConfigError) as error:
        configure(preset(name), variant, {}, lambda _: spec_of(name))
    message = str(error.value)
    assert reason in message and message.startswith("The variant ") and message.endswith("Leave it out.")


@pytest.mark.parametrize(
    ("name", "variant", "settings"),
    [
        ("article", "kl-balancing", {}),
        ("atari", "full", {}),
        ("atari", "full+no-gru-norm", {}),
        # Idle alone, and not beside the others.
        ("dreamer-v1", "policy-entropy+long-term-entropy", {}),
        ("atari", "mixed-gradients", {"behavior.actor.reinforce_weight": 0.5}),
    ],
)
def test_configure_judges_variants_together_with_settings(name: str, variant: str, settings: dict[str, Any]) -> None:
    base = preset(name)
    found = configure(base, variant, settings, lambda _: spec_of(name))
    assert found == with_variant(base, variant).override(**settings)


def test_configure_with_a_variant_that_the_settings_undo_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no-gru-norm changes nothing here: .*gru_layer_norm is true without it\."):
        configure(preset("atari"), "no-gru-norm", {"world_model.rssm.gru_layer_norm": True}, lambda _: ATARI)


def test_train_with_an_idle_variant_is_refused_and_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="reinforce-only changes nothing here"):
        reverie.train("CartPole-v1", preset="debug", variant="reinforce-only", logdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
