"""A game by messages: dream and reality, rewinding, branches, saved files, and what is refused."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from reverie.config import EnvConfig
from reverie.envs.create import create_env
from reverie.specs import ActionSpec
from reverie.studio.messages import MessageError, action_value, action_vector, parse_message
from reverie.studio.real import action_meanings
from reverie.studio.session import Session

SAVED: dict[str, Any] = {"format": "reverie-dream-1", "begin": {"from": "env", "seed": 1}, "settings": {}}


@pytest.fixture(params=["breakout", "cartpole"])
def session(request: pytest.FixtureRequest, runs: Path) -> Iterator[Session]:
    found = Session(runs / request.param)
    yield found
    found.close()


@pytest.fixture
def breakout(runs: Path) -> Iterator[Session]:
    found = Session(runs / "breakout")
    yield found
    found.close()


def do(session: Session, what: str, **more: Any) -> dict[str, Any]:
    answer = session.handle({"do": what, **more})
    assert "error" not in answer, answer
    assert json.loads(json.dumps(answer)) == answer
    return answer


def picture(node: dict[str, Any], side: str = "dream") -> Any:
    (image,) = node[side]["images"].values()
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image))))


def shown(node: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key not in ("id", "parent")}


def test_hello_says_what_can_be_played(session: Session) -> None:
    found = do(session, "hello")
    assert found["action"]["kind"] == "discrete"
    assert found["has_replay"]
    assert found["has_env"]
    assert bool(found["images"]) is not bool(found["vectors"])


@pytest.mark.parametrize("world", ["dream", "both", "real"])
def test_steps_in_each_world(session: Session, world: str) -> None:
    start = do(session, "begin", **{"from": "env", "seed": 3})["node"]
    assert start["real"]["reward"] == 0
    for depth in range(1, 4):
        node = do(session, "step", action=1, world=world)["node"]
        assert (node["depth"], node["action"], node["by"], node["parent"]) == (depth, 1, "person", depth - 1)
        assert ("real" in node) is (world != "dream")
        assert ("divergence" in node) is (world != "dream")


def test_rewinding_gives_the_same_reality_and_the_same_dream(session: Session) -> None:
    """Also where the environment has to take the actions of the path again."""
    do(session, "begin", **{"from": "env", "seed": 5})
    first = [do(session, "step", action=action, world="both")["node"] for action in (1, 0, 1, 1)]
    do(session, "step", node=1, action=0, world="both")
    again = [do(session, "step", node=first[0]["id"], action=0, world="both")["node"]]
    for action in (1, 1):
        again.append(do(session, "step", action=action, world="both")["node"])
    assert [shown(node) for node in again] == [shown(node) for node in first[1:]]


def test_dream_starts_from_a_recorded_episode_and_is_compared_while_its_actions_are_followed(breakout: Session) -> None:
    episodes = do(breakout, "episodes")["episodes"]
    assert episodes[0]["number"] > episodes[-1]["number"]
    episode = next(each for each in episodes if each["length"] > 3)
    nodes = do(breakout, "begin", **{"from": "replay", "episode": episode["number"], "step": 1})["nodes"]
    assert all("recorded" in node for node in nodes)
    game = breakout._playing()
    assert game.episode is not None
    followed = int(game.episode["action"][2].argmax())
    same = do(breakout, "step", action=followed)["node"]
    other = do(breakout, "step", node=1, action=(followed + 1) % 3)["node"]
    assert np.array_equal(picture(same, "recorded"), game.episode["image"][2])
    assert same["divergence"] >= 0
    assert "recorded" not in other
    assert "No real environment" in breakout.handle({"do": "step", "action": 0, "world": "both"})["error"]


def test_recorded_episode_is_watched_and_left_for_a_dream(session: Session) -> None:
    episode = next(each for each in do(session, "episodes")["episodes"] if each["length"] > 3)
    nodes = do(session, "begin", **{"from": "replay", "episode": episode["number"]})["nodes"]
    assert len(nodes) == episode["length"] + 1
    assert sum(node["recorded"]["reward"] for node in nodes) == pytest.approx(episode["return"])
    assert all(node["recorded"]["surprise"] >= 0 for node in nodes[1:])
    assert nodes[-1]["recorded"]["is_last"]
    left = do(session, "step", node=2, action=0)["node"]
    assert (left["parent"], left["depth"], left["world"]) == (2, 3, "dream")
    file = do(session, "save")["file"]
    assert (file["begin"]["step"], len(file["steps"])) == (2, 1)
    again = do(session, "load", file=file)["nodes"]
    assert [shown(node) for node in again] == [shown(node) for node in [*nodes[:3], left]]


def test_long_episode_is_watched_from_later_on_and_saved_from_there(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reverie.studio.session.MAX_WATCHED", 2)
    episode = next(each for each in do(session, "episodes")["episodes"] if each["length"] > 4)
    nodes = do(session, "begin", **{"from": "replay", "episode": episode["number"]})["nodes"]
    assert len(nodes) == 3
    assert nodes[-1]["recorded"]["is_last"]
    left = do(session, "step", node=1, action=0)["node"]
    again = do(session, "load", file=do(session, "save")["file"])["nodes"]
    assert [shown(node) for node in again] == [shown(node) for node in [*nodes[:2], left]]


def test_policy_acts_where_no_action_is_given(session: Session) -> None:
    start = do(session, "begin", **{"from": "env", "seed": 0})["node"]
    node = do(session, "step")["node"]
    assert node["by"] == "policy"
    assert node["action"] == int(np.argmax(start["dream"]["policy"]))


def test_dream_alone_waits_in_the_inferred_state_where_only_reality_is_played(breakout: Session) -> None:
    do(breakout, "begin", **{"from": "env", "seed": 0})
    both = [do(breakout, "step", action=1, world="both")["node"] for _ in range(3)]
    real = [do(breakout, "step", node=index, action=1, world="real")["node"] for index in (0,)]
    assert real[0]["real"]["surprise"] == both[0]["real"]["surprise"]
    assert real[0]["dream"]["value"] == both[0]["real"]["value"]


def test_real_episode_ends_and_the_dream_goes_on(runs: Path) -> None:
    session = Session(runs / "cartpole")
    do(session, "begin", **{"from": "env", "seed": 0})
    for _ in range(30):
        node = do(session, "step", action=1, world="both")["node"]
        if node["real"]["is_last"]:
            break
    assert node["real"]["is_last"]
    assert "The real episode is over" in session.handle({"do": "step", "action": 1, "world": "both"})["error"]
    after = do(session, "step", action=1, world="dream")["node"]
    assert after["parent"] == node["id"]
    session.close()


def test_saved_dream_is_played_again_exactly(session: Session, runs: Path) -> None:
    do(session, "settings", temperature=0.7, policy_mode="sample")
    do(session, "begin", **{"from": "env", "seed": 8})
    nodes = [do(session, "step", world="both")["node"] for _ in range(3)]
    nodes.append(do(session, "step", action=0, world="dream")["node"])
    file = do(session, "save")["file"]
    other = Session(session.run)
    loaded = do(other, "load", file=json.loads(json.dumps(file)))
    assert [shown(node) for node in loaded["nodes"][1:]] == [shown(node) for node in nodes]
    assert loaded["notes"] == []
    file["checkpoint"] = "step-9"
    assert "the dream may differ" in do(other, "load", file=file)["notes"][0]
    other.close()


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("ALE/Boxing-v5", ["NOOP", "FIRE", "UP", "RIGHT"]),
        ("MinAtar/Breakout-v1", ["NOOP", "LEFT", "RIGHT"]),
        ("MiniGrid-Empty-5x5-v0", ["left", "right", "forward", "pickup"]),
        ("CartPole-v1", []),
    ],
)
def test_actions_have_the_names_of_the_environment(name: str, names: list[str]) -> None:
    if name.startswith("MiniGrid"):
        pytest.importorskip("minigrid")
    env = create_env(EnvConfig(name=name, num_envs=1), None)
    assert action_meanings(env)[:4] == names
    env.close()


def test_settings_that_changed_on_the_way_are_saved_with_their_step(session: Session) -> None:
    do(session, "begin", **{"from": "env", "seed": 3})
    nodes = []
    for temperature in (1.0, 1.0, 3.0, 3.0, 0.3):
        do(session, "settings", temperature=temperature)
        nodes.append(do(session, "step", action=1, world="dream")["node"])
    do(session, "settings", temperature=5.0)
    file = do(session, "save")["file"]
    assert (file["settings"]["temperature"], [len(step) for step in file["steps"]]) == (1.0, [3, 3, 4, 3, 4])
    other = Session(session.run)
    loaded = do(other, "load", file=json.loads(json.dumps(file)))
    other.close()
    assert [shown(node) for node in loaded["nodes"][1:]] == [shown(node) for node in nodes]
    assert loaded["settings"]["temperature"] == 0.3
    plain = {**file, "steps": [step[:3] for step in file["steps"]]}
    loaded = do(other, "load", file=plain)
    assert [shown(node) for node in loaded["nodes"][1:]] != [shown(node) for node in nodes]
    other.close()


def test_settings_that_change_before_the_first_step_are_not_those_of_the_beginning(session: Session) -> None:
    do(session, "begin", **{"from": "env", "seed": 3})
    do(session, "settings", deterministic=True)
    nodes = [do(session, "step", action=1, world="both")["node"] for _ in range(3)]
    other = Session(session.run)
    loaded = do(other, "load", file=do(session, "save")["file"])
    other.close()
    assert [shown(node) for node in loaded["nodes"][1:]] == [shown(node) for node in nodes]


def test_dream_of_another_run_says_so(session: Session) -> None:
    do(session, "begin", **{"from": "env", "seed": 3})
    file = {**do(session, "save")["file"], "run": "another"}
    assert "saved with the run another" in do(session, "load", file=file)["notes"][0]


def test_dream_that_cannot_be_loaded_leaves_the_game_as_it_was(session: Session) -> None:
    do(session, "settings", temperature=2.0)
    do(session, "begin", **{"from": "env", "seed": 3})
    node = do(session, "step", action=1, world="both")["node"]
    file = do(session, "save")["file"]
    broken = {**file, "begin": {"from": "replay", "seed": 1, "episode": -1}, "settings": {"temperature": 0.5}}
    assert "No real environment" in session.handle({"do": "load", "file": broken})["error"]
    assert do(session, "settings")["settings"]["temperature"] == 2.0
    again = do(session, "step", node=0, action=1, world="both")["node"]
    assert (again["id"], again["parent"]) == (2, 0)
    assert shown({**again, "id": node["id"]}) == shown(node)


@pytest.mark.parametrize("kind", ["gif", "mp4"])
def test_recording_has_a_frame_for_each_step(breakout: Session, kind: str, tmp_path: Path) -> None:
    do(breakout, "begin", **{"from": "env", "seed": 0})
    for _ in range(5):
        do(breakout, "step", world="both")
    found = do(breakout, "record", format=kind)
    path = tmp_path / found["name"]
    path.write_bytes(base64.b64decode(found["data"]))
    frames = iio.imread(path)
    assert frames.shape[0] == 6
    assert frames.shape[1:3] == (256, 512)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (None, "A message is an object with `do`"),
        ([], "A message is an object with `do`"),
        ({"do": "stepp"}, "There is no message 'stepp'; did you mean step?"),
        ({"do": "step", "action": 99}, "There is no action 99: they are numbered from 0 to"),
        ({"do": "step", "action": "left"}, "An action is a number"),
        ({"do": "step", "action": True}, "An action is a number"),
        ({"do": "step", "action": [0, 1]}, "An action has 1 numbers here, not 2"),
        ({"do": "step", "action": 0.5}, "There is no action 0.5"),
        ({"do": "step", "action": float("nan")}, "An action is a number"),
        ({"do": "step", "node": 4}, "node must be a whole number from 0 to 0"),
        ({"do": "step", "node": True}, "node must be a whole number"),
        ({"do": "step", "world": "reel"}, "There is no world 'reel'; did you mean real?"),
        ({"do": "begin", "from": "moon"}, "There is no start 'moon'; there are env, replay."),
        ({"do": "begin", "seed": -1}, "seed must be a whole number"),
        ({"do": "begin", "from": "replay", "episode": 999999}, "no longer has this episode"),
        ({"do": "settings", "temperature": 0}, "temperature must be a number from 0.05 to 5"),
        ({"do": "settings", "policy_mode": "best"}, "There is no policy_mode 'best'"),
        ({"do": "record", "format": "webm"}, "There is no format 'webm'"),
        ({"do": "load", "file": {}}, "The file is not a saved dream"),
        ({"do": "load", "file": {"format": "reverie-dream-1"}}, "The saved dream is damaged"),
        ({"do": "load", "file": {**SAVED, "steps": [[0, "dream"]]}}, "a step is [action, world, by]"),
        ({"do": "load", "file": {**SAVED, "steps": [[0, "dream", ""], [9, "dream", ""]]}}, "There is no action 9"),
    ],
)
def test_messages_that_cannot_be_followed_change_nothing(breakout: Session, message: Any, words: str) -> None:
    do(breakout, "begin", **{"from": "env", "seed": 0})
    assert words in breakout.handle(message)["error"]
    assert do(breakout, "step", action=0, world="both")["node"]["id"] == 1


def test_nothing_can_be_played_before_a_game_has_begun(breakout: Session) -> None:
    assert breakout.handle({"do": "step"})["error"] == "No game has begun. Begin one first."


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        (ActionSpec("discrete", (3, 2)), [2, 0]),
        (ActionSpec("discrete", (4,)), 3),
        (ActionSpec("continuous", (2,)), [float(np.float32(0.1)), -1.0]),
    ],
)
def test_action_of_a_message_and_back(spec: ActionSpec, value: Any) -> None:
    assert action_value(spec, action_vector(spec, value)) == value


def test_continuous_actions_beyond_their_bounds_are_refused() -> None:
    with pytest.raises(MessageError, match="values from -1 to 1"):
        action_vector(ActionSpec("continuous", (1,)), [1.5])


@pytest.mark.parametrize("text", ["{", "\xff", "[" * 100_000])
def test_text_that_is_no_json(text: str) -> None:
    with pytest.raises(MessageError, match="must be JSON"):
        parse_message(text)
