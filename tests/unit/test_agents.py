"""Agents as `reverie train` builds them: sizes, devices, precision."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from reverie.agents import build_agent, load_agent, num_parameters, snapshot, unread_observations
from reverie.config import preset
from reverie.devices import resolve_device, resolve_dtype
from reverie.dreamer import Dreamer
from reverie.errors import CheckpointError, ConfigError
from reverie.runs.checkpoint import write_checkpoint
from reverie.specs import ActionSpec, EnvSpec
from tests.helpers.agents import ATARI_IMAGE, DICT, DISCRETE, tiny

ATARI_COUNTS = {
    "encoder": 1_549_776,
    "rssm": 5_664_848,
    "decoder": 10_497_553,
    "reward_head": 1_131_601,
    "discount_head": 1_131_601,
    "actor": 1_138_418,
    "critic": 1_131_601,
    "trained": 22_245_398,
    "target_critic": 1_131_601,
}
SMALL_COUNTS = {
    "encoder": 172_528,
    "rssm": 1_044_848,
    "decoder": 1_516_721,
    "reward_head": 365_801,
    "discount_head": 365_801,
    "actor": 369_218,
    "critic": 365_801,
    "trained": 4_200_718,
    "target_critic": 365_801,
}


@pytest.mark.parametrize(
    ("name", "num_actions", "expected"),
    [
        ("atari", 18, ATARI_COUNTS),
        ("atari", 6, ATARI_COUNTS | {"rssm": 5_657_648, "actor": 1_133_606, "trained": 22_233_386}),
        ("atari-small", 18, SMALL_COUNTS),
    ],
)
def test_num_parameters_of_a_preset_are_those_of_its_layers(
    name: str, num_actions: int, expected: dict[str, int]
) -> None:
    spec = EnvSpec(ATARI_IMAGE, ActionSpec("discrete", (num_actions,)))
    agent = build_agent(preset(name), spec, device="cpu")
    modules = {**dict(agent.world_model.named_children()), **dict(agent.actor_critic.named_children())}
    for module in expected.keys() & modules.keys():
        assert sum(p.numel() for p in modules[module].parameters()) == expected[module]
    assert num_parameters(agent) == expected["trained"]
    # Counted once more over the agent's own parameters and those of its optimizers.
    assert sum(p.numel() for p in agent.parameters() if p.requires_grad) == expected["trained"]
    assert sum(p.numel() for p in agent.parameters()) == expected["trained"] + expected["target_critic"]


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("auto", torch.float32)]
)
def test_build_agent_has_the_device_and_precision_of_its_configuration(precision: str, dtype: torch.dtype) -> None:
    """`auto` is float32 on a processor without bf16 extensions, as all are in the tests."""
    agent = build_agent(tiny(training__precision=precision), EnvSpec(ATARI_IMAGE, DISCRETE))
    assert (agent.device, agent.dtype) == (torch.device("cpu"), dtype)


@pytest.mark.parametrize("flags", [{"avx512_bf16"}, {"amx_bf16", "sse"}])
def test_resolve_dtype_auto_on_a_processor_with_bf16_is_bf16(monkeypatch: pytest.MonkeyPatch, flags: set[str]) -> None:
    monkeypatch.setattr("reverie.devices.cpu_flags", lambda: frozenset(flags))
    assert resolve_dtype(torch.device("cpu"), "auto") == torch.bfloat16
    assert resolve_dtype(torch.device("cpu"), "fp32") == torch.float32


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_resolve_device_cuda_without_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="no CUDA device"):
        resolve_device("cuda")
    assert resolve_device("auto") == torch.device("cpu")


def test_resolve_device_of_an_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="There is no device 'tpux'"):
        resolve_device("tpux")


def test_load_agent_of_another_version_names_folder_and_setting(tmp_path: Path) -> None:
    saved = snapshot(Dreamer(tiny(), EnvSpec(ATARI_IMAGE, DISCRETE)))
    config = {**saved.state["config"], "env": {**saved.state["config"]["env"], "max_faults": 3}}
    write_checkpoint(tmp_path / "old", 0, replace(saved, state={**saved.state, "config": config}))
    with pytest.raises(CheckpointError, match=r"old has settings of another version .*'env\.max_faults'"):
        load_agent(tmp_path / "old")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, ""),
        (
            {"world_model__encoder__kinds": "images"},
            "Observations that the agent does not read: position, speed. --world-model.encoder.kinds all "
            "--world-model.decoder.kinds all adds them.",
        ),
        (
            {"world_model__encoder__keys": ("image",)},
            "Observations that the agent does not read: position, wrist, speed.",
        ),
    ],
    ids=["all", "images", "keys"],
)
def test_unread_observations_are_those_outside_kinds_and_keys(settings: dict[str, object], message: str) -> None:
    assert unread_observations(Dreamer(tiny(**settings), EnvSpec(DICT, DISCRETE))) == message
