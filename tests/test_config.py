"""Settings by name, their errors, their files, and the presets."""

import inspect
import json
import pydoc
import re
import tomllib
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reverie
from reverie.config import (
    PATHS,
    PRESETS,
    VARIANTS,
    ActorConfig,
    Config,
    EnvConfig,
    KLConfig,
    MLPConfig,
    OptimizerConfig,
    ReplayConfig,
    TrainingConfig,
    as_text,
    default_preset,
    diff,
    flatten,
    from_dict,
    load_config,
    nearest,
    preset,
    resolve,
    schema,
    to_dict,
    to_toml,
)
from reverie.errors import ConfigError
from reverie.specs import ActionSpec, ArraySpec, EnvSpec


def message(name: str, value: Any, base: Config | None = None) -> str:
    """What is said when a setting is refused."""
    with pytest.raises(ConfigError) as caught:
        (base or Config()).override(**{name: value})
    return str(caught.value)


# Names


def test_every_path_leads_to_a_value() -> None:
    for path in PATHS:
        value: Any = Config()
        for part in path.split("."):
            value = getattr(value, part)
        assert value == flatten(Config())[path]
    assert {"world_model.kl.scale", "behavior.actor.optimizer.lr", "training.steps", "env.num_envs"} <= set(PATHS)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("world_model.kl.scale", "world_model.kl.scale"),
        ("world-model.kl.free-nats", "world_model.kl.free_nats"),
        ("steps", "training.steps"),
        ("train-every", "training.train_every"),
        ("training.steps", "training.steps"),
        ("behavior.return-lambda", "behavior.return_lambda"),
        ("behavior.return_lambda", "behavior.return_lambda"),
        ("world_model.kl", "world_model.kl"),
    ],
)
def test_names(name: str, path: str) -> None:
    assert resolve(name, PATHS) == path


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("stepz", "training.steps"),
        ("world_model.kl.scal", "world_model.kl.scale"),
        ("world_modle.kl.scale", "world_model.kl.scale"),
        ("horizon", "behavior.horizon"),
        ("horizn", "behavior.horizon"),
        ("batchsize", "replay.batch_size"),
        ("kl.scale", "world_model.kl.scale"),
        ("actor.entropy", "behavior.actor.entropy"),
        ("critic.optimizer.lr", "behavior.critic.optimizer.lr"),
        ("env.numenvs", "env.num_envs"),
    ],
)
def test_an_unknown_name_gives_the_nearest(name: str, meant: str) -> None:
    text = message(name, 1)
    assert re.match(rf"There is no setting '{re.escape(name)}'; did you mean {re.escape(meant)}\b", text), text


def test_a_name_that_several_settings_end_in_gives_them_all() -> None:
    text = message("lr", 1e-3)
    for path in ("world_model.optimizer.lr", "behavior.actor.optimizer.lr", "behavior.critic.optimizer.lr"):
        assert path in text


def test_a_name_like_nothing_is_refused_without_advice() -> None:
    assert message("xyzzy", 1) == "There is no setting 'xyzzy'."


def test_nearest_ignores_case() -> None:
    assert nearest("ATRAI", ["atari", "crafter"]) == ["atari"]


# Values


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("steps", 20_000, 20_000),
        ("steps", 20_000.0, 20_000),
        ("steps", "2e4", 20_000),
        ("steps", "20_000", 20_000),
        ("seed", 2**53 + 1, 2**53 + 1),
        ("seed", str(2**53 + 1), 2**53 + 1),
        ("world_model.discount", "0.9", 0.9),
        ("world_model.discount", 1, 1.0),
        ("env.parallel", "false", False),
        ("env.parallel", "True", True),
        ("env.parallel", False, False),
        ("world_model.kl.scale", "0.1", 0.1),
        ("world_model.kl.scale", 1, 1.0),
        ("world_model.kl.scale", "linear(1,0.1,1000)", "linear(1,0.1,1000)"),
        ("behavior.actor.reinforce_weight", None, None),
        ("behavior.actor.reinforce_weight", "none", None),
        ("world_model.encoder.keys", ["image", "state"], ("image", "state")),
        ("world_model.encoder.keys", "image,state", ("image", "state")),
        ("world_model.encoder.keys", (), ()),
        ("world_model.encoder.keys", "image state", ("image", "state")),
        ("training.precision", "bf16", "bf16"),
        ("env.name", "ALE/Pong-v5", "ALE/Pong-v5"),
    ],
)
def test_values(name: str, value: Any, expected: Any) -> None:
    found = flatten(Config().override(**{name: value}))[resolve(name, PATHS)]
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("steps", 1.5, "training.steps is 1.5, but it must be a whole number."),
        ("steps", "many", "training.steps is 'many', but it must be a whole number."),
        ("steps", True, "training.steps is True, but it must be a whole number."),
        ("steps", None, "training.steps is None, but it must be a whole number."),
        ("world_model.discount", "x", "world_model.discount is 'x', but it must be a number."),
        ("world_model.discount", float("nan"), "world_model.discount is nan, but it must be a number."),
        ("env.parallel", 1, "env.parallel is 1, but it must be true or false."),
        ("env.parallel", "maybe", "env.parallel is 'maybe', but it must be true or false."),
        ("precision", "fp16", "training.precision is 'fp16', but it must be one of auto, fp32, bf16."),
        ("replay.sampling", "step", "replay.sampling is 'step', but it must be one of episodes, steps."),
        ("env.name", 3, "env.name is 3, but it must be text."),
        ("world_model.encoder.keys", 64, "world_model.encoder.keys is 64, but it must be a list."),
        ("world_model.encoder.keys", [1], "world_model.encoder.keys is 1, but it must be text."),
        ("world_model.kl.scale", [1], "world_model.kl.scale is [1], but it must be a number or a schedule"),
        ("world_model.kl", 3, "world_model.kl is a group of settings and cannot be 3"),
    ],
)
def test_values_of_the_wrong_type(name: str, value: Any, words: str) -> None:
    assert message(name, value).startswith(words)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("world_model.optimizer.lr", "fast"),
        ("behavior.actor.optimizer.lr", -1),
        ("behavior.critic.optimizer.lr", "linear(1,2)"),
        ("behavior.critic.optimizer.eps", 0),
        ("behavior.actor.optimizer.max_grad_norm", -1),
        ("behavior.actor.layers", -1),
        ("behavior.critic.units", 0),
        ("world_model.reward_head.units", 0),
        ("world_model.encoder.mlp.units", 0),
        ("world_model.decoder.cnn_depth", 0),
        ("world_model.rssm.classes", 0),
        ("world_model.kl.balance", 1.1),
        ("world_model.kl.free_nats", "exp(1,0)"),
        ("world_model.kl.scale", "linear(1,0,0)"),
        ("world_model.loss_scales.reward", -1),
        ("world_model.discount", 1.1),
        ("behavior.actor.entropy", "const"),
        ("behavior.horizon", 1),
        ("behavior.reward_norm.momentum", 2),
        ("replay.batch_length", 1),
        ("replay.capacity", 10),
        ("training.seed", -1),
        ("training.keep_checkpoints", 0),
        ("env.num_envs", 0),
        ("env.sticky_actions", 1.5),
    ],
)
def test_values_out_of_range_name_the_full_path(name: str, value: Any) -> None:
    assert re.match(rf"{re.escape(name)}( is |: )", message(name, value))


def test_a_class_of_its_own_names_itself() -> None:
    with pytest.raises(ConfigError, match=r"^OptimizerConfig\.eps is 0\.0, but"):
        OptimizerConfig(eps=0.0)
    with pytest.raises(ConfigError, match=r"^ActorConfig\.units is 0, but"):
        ActorConfig(units=0)
    with pytest.raises(ConfigError, match=r"^KLConfig\.scale: 'x' is not a schedule"):
        KLConfig(scale="x")


def test_configurations_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Config().training.steps = 3  # type: ignore[misc]
    base = Config()
    base.override(**{"steps": 20_000})
    assert base == Config()


def test_signature_and_help_are_short() -> None:
    for public in (reverie.Config, reverie.train):
        assert len(str(inspect.signature(public))) < 850
        assert len(pydoc.render_doc(public, renderer=pydoc.plaintext)) < 4000


# Several settings at once


def test_settings_that_need_each_other_come_in_any_order() -> None:
    wanted = {"behavior.actor.reinforce_weight": 0.9, "behavior.actor.gradient": "both"}
    one = Config().override(**wanted)
    other = Config().override(**dict(reversed(wanted.items())))
    assert one == other
    assert one.behavior.actor.reinforce_weight == 0.9
    assert message("behavior.actor.reinforce_weight", 0.9).startswith("behavior.actor.reinforce_weight is 0.9, but it")


def test_a_group_is_set_by_a_mapping_or_an_object() -> None:
    by_mapping = Config().override(**{"world_model.kl": {"scale": 0.1}})
    by_object = Config().override(**{"world_model.kl": KLConfig(scale=0.1)})
    assert by_mapping == by_object == Config().override(**{"world_model.kl.scale": 0.1})


def test_setting_the_same_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"training.steps is set twice"):
        Config().override(**{"steps": 20_000, "training.steps": 30_000})
    with pytest.raises(ConfigError, match=r"set twice"):
        Config().override(**{"world_model.kl": KLConfig(), "world_model.kl.scale": 1})


def test_override_leaves_the_mapping_of_the_caller_as_it_was() -> None:
    group = {"kl": {"scale": 0.1}}
    config = Config().override(**{"world_model": group, "world_model.kl.free_nats": 1.0})
    assert (config.world_model.kl.scale, config.world_model.kl.free_nats) == (0.1, 1.0)
    assert group == {"kl": {"scale": 0.1}}


def test_override_keeps_everything_else() -> None:
    changed = preset("atari").override(steps=60_000, **{"world_model.kl.scale": 0.2})
    assert diff(changed, preset("atari")) == [
        ("world_model.kl.scale", 0.1, 0.2),
        ("training.steps", 50_000_000, 60_000),
    ]
    assert diff(changed, changed) == []


def test_for_env() -> None:
    assert diff(Config().for_env("CartPole-v1"), Config()) == [("env.name", "", "CartPole-v1")]


# Contradictions


def test_prefill_must_hold_a_sequence_of_every_environment() -> None:
    base = preset("debug")  # sequences of 10
    assert message("prefill", 9, base).startswith("training.prefill is 9, but at least 10 steps are needed")
    assert base.override(**{"prefill": 10}).training.prefill == 10
    with pytest.raises(ConfigError, match=r"training\.prefill is 200, but at least 250 steps"):
        base.override(**{"env.num_envs": 25})


def test_steps_include_prefill() -> None:
    assert "training.prefill alone takes 200" in message("steps", 199, preset("debug"))
    assert preset("debug").override(**{"steps": 200}).training.steps == 200


def test_episodes_must_be_as_long_as_sequences() -> None:
    # An episode must have more entries than the sequence, its reset included (SPEC 45): 50 steps have 51.
    assert message("env.time_limit", 49).startswith("replay.batch_length is 50, but env.time_limit=49")
    Config().override(**{"env.time_limit": 50})
    Config().override(**{"env.time_limit": 20, "replay.sampling": "steps"})
    Config().override(**{"env.time_limit": 0})


def test_imagine_last_is_at_most_a_sequence() -> None:
    assert message("behavior.imagine_last", 51) == (
        "behavior.imagine_last is 51, but sequences have only replay.batch_length=50 steps; lower it, or set 0 for all "
        "steps."
    )
    assert Config().override(**{"behavior.imagine_last": 50}).behavior.imagine_last == 50


def test_contradictions_are_found_however_a_configuration_is_made() -> None:
    with pytest.raises(ConfigError, match=r"training\.steps is 100"):
        Config(training=TrainingConfig(steps=100))
    with pytest.raises(ConfigError, match=r"batch_length"):
        replace(Config(), env=EnvConfig(time_limit=10))
    with pytest.raises(ConfigError, match=r"training\.prefill"):
        from_dict({"replay": {"batch_length": 20_000}})


# Files


def test_dictionaries_are_plain_json() -> None:
    data = to_dict(preset("atari-paper"))
    assert json.loads(json.dumps(data)) == data
    assert data["behavior"]["actor"]["dynamics_weight"] == "linear(0.1,0,10e6 frames)"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_a_file(name: str, tmp_path: Path) -> None:
    config = preset(name).override(**{"world_model.encoder.keys": ("image",)})
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config))
    assert load_config(path) == config


def test_to_toml_writes_every_setting_below_its_group() -> None:
    config = Config().override(**{"env.name": 'a "name"\\', "world_model.encoder.keys": ["a", "b"]})
    text = to_toml(config, {"training.steps": "default: 3"})
    data = tomllib.loads(text)
    assert "\nsteps = 100000000  # default: 3\n" in text
    assert data["behavior"]["actor"]["reinforce_weight"] == "none"
    assert from_dict(data) == config
    groups = re.findall(r"^\[(.*)\]$", text, re.MULTILINE)
    assert len(groups) == len(set(groups)) and groups.index("world_model") < groups.index("world_model.encoder")
    assert len(re.findall(r"^\w+ = ", text, re.MULTILINE)) == len(PATHS)


def test_load_config_changes_its_base(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('base = "atari-small"\ndescription = "Mine."\n[training]\nsteps = "2e5"\n')
    assert load_config(path) == preset("atari-small").override(steps=200_000)
    path.write_text("world_model.kl.scale = 0.3\n")
    assert load_config(path) == Config().override(**{"world_model.kl.scale": 0.3})


@settings(max_examples=25)
@given(
    steps=st.integers(10_000, 2**60),
    lr=st.one_of(st.floats(0, 1), st.just("warmup(1000,3e-4)")),
    keys=st.lists(st.text(st.characters(categories=["L"]), min_size=1), max_size=3),
    size=st.integers(1, 100),
)
def test_any_configuration_survives_a_dictionary(steps: int, lr: float | str, keys: list[str], size: int) -> None:
    config = Config(
        replay=ReplayConfig(batch_size=size),
        training=TrainingConfig(steps=steps),
        world_model=Config().override(**{"world_model.optimizer.lr": lr, "world_model.encoder.keys": keys}).world_model,
    )
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


def test_absent_settings_take_their_defaults() -> None:
    assert from_dict({}) == Config()
    # The default of the field, which is not that of the class.
    assert from_dict({"behavior": {"actor": {"optimizer": {"eps": 1e-4}}}}).behavior.actor.optimizer.lr == 8e-5


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"world_model": {"kl": {"scael": 1}}}, r"'world_model\.kl\.scael'; did you mean world_model\.kl\.scale\?"),
        ({"trainig": {}}, r"'trainig'; did you mean training\?"),
        ({"training": {"steps": "x"}}, r"training\.steps is 'x'"),
        ({"behavior": {"critic": {"optimizer": {"eps": 0}}}}, r"behavior\.critic\.optimizer\.eps is 0"),
        ({"training": 3}, r"training is a group"),
    ],
)
def test_from_dict_is_strict(data: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        from_dict(data)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", r"^The configuration .*config\.toml is not valid TOML: "),
        (b"\xff", r"^The configuration .*config\.toml is not valid TOML: "),
        (
            "[training]\nstepz = 1",
            r"^In the configuration .*config\.toml: There is no setting 'training\.stepz'; did you",
        ),
        (
            "[world_model.kl]\nbalance = 2",
            r"config\.toml: world_model\.kl\.balance is 2\.0, but it must be between 0 and",
        ),
        ("training = 1", r"training is a group of settings and cannot be 1"),
        ("[training]\nsteps = 2024-01-01", r"training\.steps is datetime.*, but it must be a whole number\."),
        ('base = "atrai"', r"config\.toml: There is no preset 'atrai'; did you mean atari\?"),
        ("base = 3", r"config\.toml: There is no preset '3'"),
    ],
)
def test_load_config_of_a_bad_file_names_file_and_setting(tmp_path: Path, text: str | bytes, words: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=words):
        load_config(path)


def test_load_config_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(to_toml(Config()), encoding="utf-8-sig")
    assert load_config(path) == Config()


def test_load_config_of_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.toml cannot be read: No such file"):
        load_config(tmp_path / "config.toml")


# Presets

RELEASE: dict[str, dict[str, Any]] = {
    # configs.yaml of the release, transcribed.
    "atari": {
        "env.time_limit": 27_000, "env.action_repeat": 4, "training.steps": 50_000_000, "training.prefill": 50_000,
        "training.train_every": 16, "training.eval_every": 250_000, "training.pretrain": 2,
        "world_model.reward_transform": "tanh", "world_model.rssm.hidden": 600, "world_model.rssm.deter": 600,
        "world_model.optimizer.lr": 2e-4, "behavior.actor.optimizer.lr": 4e-5, "behavior.critic.optimizer.lr": 1e-4,
        "behavior.actor.entropy": 1e-3, "world_model.discount": 0.999, "world_model.kl.scale": 0.1,
        "world_model.loss_scales.discount": 5.0, "replay.batch_size": 16, "replay.batch_length": 50,
        "replay.capacity": 2_000_000, "replay.prioritize_ends": True, "env.full_action_space": False,
        "behavior.actor.gradient": "auto", "world_model.encoder.cnn_depth": 48, "behavior.critic.units": 400,
    },
    "crafter": {
        "world_model.rssm.hidden": 1024, "world_model.rssm.deter": 1024, "world_model.discount": 0.999,
        "world_model.optimizer.lr": 1e-4, "behavior.actor.optimizer.lr": 1e-4, "behavior.critic.optimizer.lr": 1e-4,
        "behavior.actor.entropy": 3e-3, "training.prefill": 10_000, "training.train_every": 5,
        "world_model.kl.scale": 1.0,
    },
    "dmc-vision": {
        "env.action_repeat": 2, "training.eval_every": 10_000, "training.prefill": 1_000, "training.pretrain": 101,
        "world_model.reward_transform": "identity", "world_model.predict_discount": False,
        "replay.prioritize_ends": False, "world_model.rssm.hidden": 200, "world_model.rssm.deter": 200,
        "world_model.optimizer.lr": 3e-4, "behavior.actor.optimizer.lr": 8e-5, "behavior.critic.optimizer.lr": 8e-5,
        "behavior.actor.entropy": 1e-4, "world_model.kl.free_nats": 1.0, "world_model.kl.scale": 1.0,
        "world_model.discount": 0.99,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", RELEASE)
def test_presets_are_the_release(name: str) -> None:
    values = flatten(preset(name))
    assert {path: values[path] for path in RELEASE[name]} == RELEASE[name]


def test_defaults_are_the_release() -> None:
    values = flatten(Config())
    for part in ("world_model.optimizer", "behavior.actor.optimizer", "behavior.critic.optimizer"):
        assert (values[f"{part}.eps"], values[f"{part}.max_grad_norm"], values[f"{part}.weight_decay"]) == (
            1e-5,
            100,
            1e-6,
        )
    assert [values[f"{part}.optimizer.lr"] for part in ("world_model", "behavior.actor", "behavior.critic")] == [
        1e-4, 8e-5, 2e-4,
    ]  # fmt: skip
    assert values["behavior.return_lambda"] == 0.95
    assert values["behavior.horizon"] == 15
    assert values["training.steps"] == 100_000_000


def test_the_paper_differs_from_the_release_in_what_it_says() -> None:
    assert {path for path, _, _ in diff(preset("atari-paper"), preset("atari"))} == {
        "env.full_action_space",
        "replay.batch_size",
        "training.train_every",
        "world_model.discount",
        "world_model.loss_scales.discount",
        "behavior.actor.gradient",
        "behavior.actor.dynamics_weight",
        "behavior.actor.reinforce_weight",
        "behavior.actor.entropy",
    }


def test_atari_paper_has_the_numbers_of_table_d1_and_equation_2() -> None:
    """Transcribed from the paper; the actor's two schedules are the only numbers that are not the table's."""
    values = flatten(preset("atari-paper"))
    table = {
        "replay.capacity": 2_000_000, "replay.batch_size": 50, "replay.batch_length": 50,
        "world_model.rssm.stoch": 32, "world_model.rssm.classes": 32, "world_model.rssm.deter": 600,
        "world_model.kl.scale": 0.1, "world_model.kl.balance": 0.8, "world_model.optimizer.lr": 2e-4,
        "world_model.reward_transform": "tanh", "behavior.horizon": 15, "world_model.discount": 0.995,
        "behavior.return_lambda": 0.95, "behavior.actor.optimizer.lr": 4e-5, "behavior.critic.optimizer.lr": 1e-4,
        "behavior.critic.target_update_interval": 100, "training.train_every": 4, "behavior.actor.layers": 4,
        "behavior.actor.units": 400, "behavior.actor.optimizer.max_grad_norm": 100,
        "behavior.actor.optimizer.eps": 1e-5, "behavior.actor.optimizer.weight_decay": 1e-6,
    }  # fmt: skip
    equation_2 = {f"world_model.loss_scales.{head}": 1.0 for head in ("image", "reward", "discount")}
    expected = table | equation_2
    assert {path: values[path] for path in expected} == expected


def test_crafter_has_layer_norm_everywhere() -> None:
    norms = {path: value for path, value in flatten(preset("crafter")).items() if path.endswith("layer_norm")}
    assert len(norms) >= 10
    assert all(norms.values())


def test_presets_say_what_they_are() -> None:
    for name, entry in PRESETS.items():
        assert entry.name == name
        assert "\n" not in entry.description
        assert entry.description.endswith(".")
        assert preset(name.replace("-", "_")) is entry.config


def test_every_preset_and_variant_says_where_its_values_come_from() -> None:
    folder = Path(schema.__file__).parent
    texts = [path.read_text() for path in (folder / "presets").glob("*.toml")]
    assert len(texts) == len(PRESETS)
    texts += re.split(r"^\[.*\]\n", (folder / "variants.toml").read_text(), flags=re.MULTILINE)[1:]
    assert len(texts) == len(PRESETS) + len(VARIANTS)
    assert all(re.match(r"# (Values: |No settings: )", text) for text in texts)


def test_an_unknown_preset() -> None:
    with pytest.raises(ConfigError, match=r"^There is no preset 'atrai'; did you mean atari\?$"):
        preset("atrai")
    with pytest.raises(ConfigError, match=r"the presets are article, .*vector\.$"):
        preset("qqq")


def test_the_preset_of_an_environment() -> None:
    image, vector = ArraySpec((64, 64, 3), "uint8"), ArraySpec((4,), "float32")
    discrete, continuous = ActionSpec("discrete", (3,)), ActionSpec("continuous", (2,))
    for name, env_spec, expected in (
        ("ALE/Pong-v5", None, "atari"),
        ("CrafterReward-v1", None, "crafter"),
        ("MinAtar/Breakout-v1", None, "minatar"),
        ("dmc/walker-walk", None, "dmc-proprio"),
        ("My-v0", EnvSpec({"state": vector}, continuous), "vector"),
        ("My-v0", EnvSpec({"state": vector, "image": image}, discrete), "crafter"),
        ("My-v0", EnvSpec({"image": image}, continuous), "dmc-vision"),
    ):
        assert default_preset(name, lambda _, spec=env_spec: spec, {}).name == expected  # type: ignore[misc]


@pytest.mark.parametrize("observations", ["pixels", "both"])
def test_default_preset_with_pictures_asked_for_reads_pictures(observations: str) -> None:
    def spec_of(config: EnvConfig) -> EnvSpec:
        assert config.observations == observations
        return EnvSpec({"image": ArraySpec((64, 64, 3), "uint8")}, ActionSpec("discrete", (2,)))

    settings = {"env.observations": observations}
    for name, expected in (("dmc/walker-walk", "dmc-vision"), ("CartPole-v1", "crafter")):
        found = default_preset(name, spec_of, settings)
        kinds = [network.kinds for network in (found.config.world_model.encoder, found.config.world_model.decoder)]
        assert found.name == expected and (observations == "pixels" or kinds == ["all", "all"])
    assert preset("dmc-vision").world_model.encoder.kinds == "images"


def test_default_preset_keys_given_are_those_of_the_spec() -> None:
    found: list[EnvConfig] = []

    def spec_of(config: EnvConfig) -> EnvSpec:
        found.append(config)
        return EnvSpec({"a": ArraySpec((4,), "float32")}, ActionSpec("discrete", (2,)))

    settings = {"env.image_keys": ("a",), "env.vector_keys": "b,c", "env.time_limit": 3, "prefill": 1}
    assert default_preset("My-v0", spec_of, settings).name == "vector"
    assert found == [EnvConfig(name="My-v0", image_keys=("a",), vector_keys=("b", "c"))]


@pytest.mark.parametrize("name", ["atari-paper", "dreamer-v1"])
def test_every_setting_is_read_from_its_own_text(name: str) -> None:
    values = flatten(preset(name))
    assert Config().override(**{path: as_text(value) for path, value in values.items()}) == preset(name)


def test_mlp_defaults() -> None:
    assert MLPConfig() == MLPConfig(layers=4, units=400, layer_norm=False)


def test_schedule_with_a_horizon_of_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be finite and not negative"):
        Config().override(**{"world_model.kl.scale": "horizon(0,1,5)"})
