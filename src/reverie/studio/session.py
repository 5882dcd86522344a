"""A game inside the dream, and in the real environment beside it: a tree of states, driven by messages.

A message is a JSON object with `do`; the answer is one, too. `docs/studio.md` lists both. Nothing here knows of a
browser or a socket.
"""

import base64
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from reverie.agents import load
from reverie.dream import Dream, DreamState, latent_classes
from reverie.dreamer.recurrent_policy import Mode
from reverie.envs.step_wrapper import EnvState
from reverie.errors import ReverieError
from reverie.replay import REPLAY, ReplayReader
from reverie.runs.run_folder import find_checkpoint
from reverie.specs import Array, Step
from reverie.studio.messages import (
    MessageError,
    action_value,
    action_vector,
    as_rgb,
    encode_image,
    read_integer,
    read_number,
    unknown,
)
from reverie.studio.real import RealEnvironment, Row
from reverie.video import H264

World = Literal["dream", "real", "both"]
WORLDS: tuple[World, ...] = ("dream", "real", "both")
MAX_WATCHED = 500
"""Steps of a recorded episode that are watched at once, its last ones."""
MAX_NODES = 10_000
"""States that a game may have; each takes some 50 kB."""
MAX_RECORDED = 1_000
"""Steps of a path that a recording has, its last ones."""
MAX_EPISODES = 20
"""Newest episodes of a replay that are offered."""
FPS = 15
SCALE = 4
"""Pixels of a recording for each pixel of the image."""
FORMAT = "reverie-dream-1"


@dataclass(frozen=True)
class Real:
    """A step of the real environment."""

    row: Row
    state: EnvState
    inferred: DreamState
    """State that is inferred from all observations so far."""
    surprise: float


@dataclass(frozen=True)
class Node:
    """A state of the game."""

    id: int
    parent: "Node | None"
    dream: DreamState
    real: Real | None = None
    action: Array | None = None
    """Action that led here; None at the start."""
    world: World | Literal["recorded"] = "dream"
    by: str = ""
    """`person` or `policy`."""
    step_of_episode: int | None = None
    """Row of the recorded episode, as long as its actions were followed."""
    surprise: float | None = None
    """Surprise of a recorded observation, see `dream.Observed`."""
    settings: "Settings | None" = None
    """Those with which the step was taken; None at the start and of recorded steps."""

    @property
    def depth(self) -> int:
        """Steps since the start."""
        return self.dream.depth

    def path(self) -> "list[Node]":
        """Return the nodes from the start to this one."""
        nodes: list[Node] = []
        node: Node | None = self
        while node is not None:
            nodes.append(node)
            node = node.parent
        return nodes[::-1]


@dataclass(frozen=True)
class Settings:
    """Settings that a player may change between two steps."""

    seed: int = 0
    temperature: float = 1.0
    deterministic: bool = False
    policy_mode: Mode = "mode"
    policy_temperature: float = 1.0


@dataclass
class _Game:
    begin: dict[str, Any]
    settings: Settings
    """Those of its beginning."""
    nodes: list[Node] = field(default_factory=list)
    episode: Step | None = None
    env: RealEnvironment | None = None
    at: int = -1
    """Node where the real environment is."""


class Session:
    """One player's game with one agent.

    Args:
        run: folder of a run, of one of its checkpoints, or of a saved agent.
        env: environment in place of the agent's own, see `reverie.evaluate`.
    """

    def __init__(self, run: Path, env: Any = None) -> None:
        checkpoint = find_checkpoint(run)
        self.run, self.checkpoint = run, checkpoint.name
        self.agent = load(checkpoint, "cpu")
        self._env = env
        self._settings = Settings()
        self._dream = Dream(self.agent)
        self._game: _Game | None = None
        self._meanings: list[str] | None = None
        self._replay = next((path for path in (run / REPLAY, checkpoint.parent.parent / REPLAY) if path.exists()), None)
        self._handlers: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "hello": self._hello,
            "begin": self._begin,
            "step": self._step,
            "settings": self._set,
            "save": self._save,
            "load": self._load,
            "record": self._record,
            "episodes": self._list_episodes,
        }

    def handle(self, message: Any) -> dict[str, Any]:
        """Answer a message; one that cannot be followed is answered with `error`, a sentence, and changes nothing."""
        try:
            if not isinstance(message, dict) or not isinstance(message.get("do"), str):
                raise MessageError("A message is an object with `do`. Nothing was done.")
            if (handler := self._handlers.get(message["do"])) is None:
                raise unknown("message", message["do"], self._handlers)
            return {"did": message["do"], **handler(message)}
        except ReverieError as error:
            return {"error": str(error)}

    def close(self) -> None:
        """Close the environment."""
        if self._game is not None and self._game.env is not None:
            self._game.env.close()
        self._game = None

    # Messages

    def _hello(self, message: Mapping[str, Any]) -> dict[str, Any]:
        agent = self.agent
        action = agent.spec.action
        return {
            "run": self.run.name,
            "checkpoint": self.checkpoint,
            "env": agent.config.env.name,
            "steps": agent.agent_steps,
            "frames": agent.agent_steps * agent.config.env.action_repeat,
            "action": {"kind": action.kind, "sizes": list(action.sizes)},
            "images": {key: list(self._image(key, 0).shape) for key in self._image_keys()},
            "vectors": {key: spec.size for key, spec in agent.spec.observations.items() if not spec.is_image},
            "has_replay": self._replay is not None,
            "has_env": bool(agent.config.env.name) or self._env is not None,
        }

    def _list_episodes(self, message: Mapping[str, Any]) -> dict[str, Any]:
        found = []
        for number, episode in self._episodes(MAX_EPISODES):
            rewards = episode["reward"]
            found.append({"number": number, "length": len(rewards) - 1, "return": round(float(rewards.sum()), 3)})
        return {"episodes": found}

    def _begin(self, message: Mapping[str, Any]) -> dict[str, Any]:
        source = message.get("from", "env")
        seed = read_integer(message, "seed", self._settings.seed, 0, 2**31 - 1)
        settings = replace(self._settings, seed=seed)
        dream = Dream(self.agent, seed, temperature=settings.temperature, deterministic=settings.deterministic)
        if source == "env":
            env = RealEnvironment(self.agent, seed, self._env)
            try:
                row, state = env.reset()
                dreamed = dream.begin({key: value[None] for key, value in row.items()})
            except BaseException:
                env.close()
                raise
            game = _Game({"from": "env", "seed": seed}, settings, env=env, at=0)
            game.nodes.append(Node(0, None, dreamed, Real(row, state, dreamed, 0.0)))
        elif source == "replay":
            number, episode = self._episode(read_integer(message, "episode", -1, -1, 2**31 - 1))
            last = len(episode["reward"]) - 1
            step = read_integer(message, "step", last, 0, last)
            first = read_integer(message, "first", max(0, step - MAX_WATCHED), max(0, step - MAX_WATCHED), step)
            begin = {"from": "replay", "seed": seed, "episode": number, "first": first, "step": step}
            game = _Game(begin, settings, episode=episode)
            self._watch(dream, game, episode, first, step)
        else:
            raise unknown("start", source, ("env", "replay"))
        self.close()
        self._game, self._dream, self._settings = game, dream, settings
        return {
            "settings": vars(settings),
            "begun": vars(settings),
            "node": self._describe(game.nodes[-1]),
            "nodes": [self._describe(node) for node in game.nodes],
            "begin": game.begin,
            "meanings": self._action_names(game),
        }

    @staticmethod
    def _watch(dream: Dream, game: _Game, episode: Step, first: int, last: int) -> None:
        """Add the states that are inferred from an episode, from one step to another."""
        state = dream.begin({key: rows[: first + 1] for key, rows in episode.items()})
        game.nodes.append(Node(0, None, state, step_of_episode=first))
        for step in range(first + 1, last + 1):
            row = {key: rows[step] for key, rows in episode.items()}
            state, surprise = dream.observe(state, row["action"], row)
            parent, action = game.nodes[-1], row["action"]
            node = Node(len(game.nodes), parent, state, None, action, "recorded", "recorded", step, surprise)
            game.nodes.append(node)

    def _step(self, message: Mapping[str, Any]) -> dict[str, Any]:
        game = self._playing()
        node = game.nodes[read_integer(message, "node", len(game.nodes) - 1, 0, len(game.nodes) - 1)]
        world = message.get("world", "dream")
        if world not in WORLDS:
            raise unknown("world", world, WORLDS)
        by = "policy" if message.get("action") is None else "person"
        if by == "policy":
            state = node.real.inferred if world == "real" and node.real is not None else node.dream
            action = self._dream.act(state, self._settings.policy_mode, self._settings.policy_temperature)
        else:
            action = action_vector(self.agent.spec.action, message["action"])
        return {"node": self._describe(self._advance(game, node, action, world, by))}

    def _set(self, message: Mapping[str, Any]) -> dict[str, Any]:
        now = self._settings
        mode = message.get("policy_mode", now.policy_mode)
        if mode not in ("mode", "sample"):
            raise unknown("policy_mode", mode, ("mode", "sample"))
        self._settings = Settings(
            now.seed,
            read_number(message, "temperature", now.temperature, 0.05, 5.0),
            bool(message.get("deterministic", now.deterministic)),
            mode,
            read_number(message, "policy_temperature", now.policy_temperature, 0.05, 5.0),
        )
        self._dream.temperature, self._dream.deterministic = self._settings.temperature, self._settings.deterministic
        return {"settings": vars(self._settings)}

    def _save(self, message: Mapping[str, Any]) -> dict[str, Any]:
        path, begin = self._path(message), self._playing().begin
        played = [node for node in path[1:] if node.world != "recorded"]
        steps, before = [], self._playing().settings
        for node in played:
            step: list[Any] = [action_value(self.agent.spec.action, node.action), node.world, node.by]
            if node.settings is not None and node.settings != before:
                step.append(vars(node.settings))
                before = node.settings
            steps.append(step)
        if begin["from"] == "replay":  # it was left at an earlier step than was watched
            start = path[len(path) - len(played) - 1]
            begin = {**begin, "step": start.step_of_episode}
        saved = {
            "format": FORMAT,
            "run": self.run.name,
            "checkpoint": self.checkpoint,
            "begin": begin,
            "settings": vars(self._playing().settings),
            "steps": steps,
        }
        return {"file": saved}

    def _load(self, message: Mapping[str, Any]) -> dict[str, Any]:
        saved = message.get("file")
        if not isinstance(saved, dict) or saved.get("format") != FORMAT:
            raise MessageError(f"The file is not a saved dream ({FORMAT}). Nothing was loaded.")
        steps, begin, settings = saved.get("steps"), saved.get("begin"), saved.get("settings")
        if not (isinstance(steps, list) and isinstance(begin, dict) and isinstance(settings, dict)):
            raise MessageError("The saved dream is damaged: it has no `begin`, `settings` or `steps`.")
        if len(steps) >= MAX_NODES:
            raise MessageError(f"The saved dream has {len(steps):,} steps, and a game at most {MAX_NODES:,}.")
        played = []
        for step in steps:
            if not (isinstance(step, list) and len(step) in (3, 4) and step[1] in WORLDS):
                raise MessageError("The saved dream is damaged: a step is [action, world, by]. Nothing was loaded.")
            by = "policy" if step[2] == "policy" else "person"
            changed = step[3] if len(step) == 4 and isinstance(step[3], dict) else {}
            played.append((action_vector(self.agent.spec.action, step[0]), step[1], by, changed))
        old, old_dream, old_settings = self._game, self._dream, self._settings
        self._game = None
        try:
            self._set(settings)
            answer = self._begin({**begin, "do": "begin"})
            game, nodes = self._playing(), answer["nodes"]
            for action, world, by, changed in played:
                if changed:
                    self._set(changed)
                nodes.append(self._describe(self._advance(game, game.nodes[-1], action, world, by)))
        except BaseException:
            self.close()
            self._game, self._dream, self._settings = old, old_dream, old_settings
            self._set({})
            raise
        if old is not None and old.env is not None:
            old.env.close()
        notes = []
        if saved.get("run") != self.run.name:
            notes.append(
                f"It was saved with the run {saved.get('run')}, and this is {self.run.name}: the dream differs."
            )
        if saved.get("checkpoint") != self.checkpoint:
            notes.append(
                f"It was saved with {saved.get('checkpoint')}, and this is {self.checkpoint}: the dream may differ."
            )
        return {**answer, "settings": vars(self._settings), "nodes": nodes, "notes": notes}

    def _record(self, message: Mapping[str, Any]) -> dict[str, Any]:
        kind = message.get("format", "gif")
        if kind not in ("gif", "mp4"):
            raise unknown("format", kind, ("gif", "mp4"))
        path = self._path(message)[-MAX_RECORDED:]
        if not self._image_keys():
            raise MessageError("The agent predicts no images. Nothing was recorded.")
        has_real = self._playing().nodes[0].real is not None
        frames = np.stack([self._frame(node, has_real) for node in path])
        file = io.BytesIO()
        if kind == "gif":
            iio.imwrite(file, frames, extension=".gif", duration=1000 // FPS, loop=0)
        else:
            iio.imwrite(file, frames, extension=".mp4", fps=FPS, codec=H264["codec"], macro_block_size=2)
        name = f"{self.run.name}-dream.{kind}"
        return {"name": name, "data": base64.b64encode(file.getvalue()).decode(), "frames": len(frames)}

    # Parts

    def _action_names(self, game: _Game) -> list[str]:
        """Return the names of the actions; a game that begins in a recorded episode asks an environment once."""
        if self._meanings is None:
            try:
                env = game.env or RealEnvironment(self.agent, 0, self._env)
            except ReverieError:  # there is none on this machine, and the actions have numbers
                return []
            self._meanings = env.meanings
            if env is not game.env:
                env.close()
        return self._meanings

    def _playing(self) -> _Game:
        if self._game is None:
            raise MessageError("No game has begun. Begin one first.")
        return self._game

    def _path(self, message: Mapping[str, Any]) -> list[Node]:
        game = self._playing()
        return game.nodes[read_integer(message, "node", len(game.nodes) - 1, 0, len(game.nodes) - 1)].path()

    def _episode(self, number: int) -> tuple[int, Step]:
        found = next(self._episodes(1, number), None)
        if found is None:
            raise MessageError("The replay no longer has this episode. Nothing was done. Begin with another one.")
        return found

    def _episodes(self, count: int, only: int = -1) -> Iterator[tuple[int, Step]]:
        """Yield the newest finished episodes, the newest first, with their numbers; or `only` the one of a number."""
        if self._replay is None:
            return
        with ReplayReader(self._replay, self.agent.spec.step) as reader:
            finished = sorted((each for each in reader.episodes() if each.finished), key=lambda each: each.id)
            for episode in finished[: -count - 1 : -1] if only < 0 else finished:
                if only in (-1, episode.id):
                    pieces = list(reader.steps(episode))
                    yield episode.id, {key: np.concatenate([each[key] for each in pieces]) for key in pieces[0]}

    def _advance(self, game: _Game, node: Node, action: Array, world: World, by: str) -> Node:
        if len(game.nodes) >= MAX_NODES:
            raise MessageError(f"The game has {MAX_NODES:,} states, the most there can be. Begin another one.")
        if world != "dream" and (node.real is None or game.env is None):
            raise MessageError("No real environment is at this step. Go on in the dream, or begin in the environment.")
        real = None
        if world != "dream" and node.real is not None and game.env is not None:
            if node.real.row["is_last"]:
                raise MessageError("The real episode is over. Go on in the dream, rewind, or begin another one.")
            rows = [each.real.row for each in node.path() if each.real is not None]
            is_there, game.at = game.at == node.id, -1
            row, state = game.env.step(action, rows, node.real.state, is_there)
            observed = self._dream.observe(node.real.inferred, action, row)
            real = Real(row, state, observed.state, observed.surprise)
        # Where only the real environment is played, the dream waits in the state that is inferred from it.
        dream = real.inferred if world == "real" and real is not None else self._dream.step(node.dream, action)
        step = None if node.step_of_episode is None else self._followed(game, node.step_of_episode + 1, action)
        child = Node(len(game.nodes), node, dream, real, action, world, by, step, settings=self._settings)
        game.nodes.append(child)
        if real is not None:
            game.at = child.id
        return child

    def _followed(self, game: _Game, step: int, action: Array) -> int | None:
        rows = game.episode
        is_same = (
            rows is not None and step < len(rows["reward"]) and np.allclose(rows["action"][step], action, atol=1e-6)
        )
        return step if is_same else None

    def _describe(self, node: Node) -> dict[str, Any]:
        dream, game = node.dream, self._playing()
        classes, num_classes = latent_classes(dream.latent, self.agent)
        found: dict[str, Any] = {
            "id": node.id,
            "parent": None if node.parent is None else node.parent.id,
            "depth": node.depth,
            "action": None if node.action is None else action_value(self.agent.spec.action, node.action),
            "world": node.world,
            "by": node.by,
            "settings": None if node.settings is None else vars(node.settings),
            "dream": {
                "reward": dream.reward,
                "continues": dream.continues,
                "value": dream.value,
                "policy": [round(float(each), 4) for each in dream.policy],
                "latent": classes,
                "classes": num_classes,
                **self._shown(dream.observations),
            },
        }
        truth: Mapping[str, Array] | None = None
        if node.real is not None:
            truth = node.real.row
            found["real"] = {
                "reward": float(truth["reward"]),
                "is_last": bool(truth["is_last"]),
                "surprise": node.real.surprise,
                "value": node.real.inferred.value,
                **self._shown(truth),
            }
        elif node.step_of_episode is not None and game.episode is not None:
            truth = {key: rows[node.step_of_episode] for key, rows in game.episode.items()}
            ended = bool(truth["is_last"])
            found["recorded"] = {"reward": float(truth["reward"]), "is_last": ended, **self._shown(truth)}
            if node.surprise is not None:
                found["recorded"]["surprise"] = node.surprise
        if truth is not None:
            found["divergence"] = self._divergence(dream, truth)
        return found

    def _divergence(self, dream: DreamState, truth: Mapping[str, Array]) -> float:
        """Return the mean squared difference of images in [0, 1], or of vectors where there are no images."""
        keys = self._image_keys() or list(dream.observations)
        scale = 255.0 if self._image_keys() else 1.0
        errors = [(dream.observations[key] - truth[key].astype(float)) / scale for key in keys]
        return float(np.mean([np.mean(error**2) for error in errors]))

    def _shown(self, observations: Mapping[str, Array]) -> dict[str, Any]:
        images = {key: encode_image(observations[key]) for key in self._image_keys() if key in observations}
        vectors = {
            key: [round(float(each), 4) for each in observations[key].reshape(-1)]
            for key, spec in self.agent.spec.observations.items()
            if not spec.is_image and key in observations
        }
        return {"images": images, "vectors": vectors}

    def _image_keys(self) -> list[str]:
        return list(self.agent.world_model.decoder.keys.images)

    def _image(self, key: str, value: int) -> Array:
        return np.full(self.agent.spec.observations[key].shape, value, np.uint8)

    def _frame(self, node: Node, has_real: bool) -> NDArray[np.uint8]:
        """Return dream and reality side by side, as a video shows them."""
        key = self._image_keys()[0]
        parts = [as_rgb(node.dream.observations[key])]
        if has_real:
            real = node.real.row[key] if node.real is not None else self._image(key, 24)
            parts.append(as_rgb(real))
        joined = np.concatenate(parts, 1)
        return joined.repeat(SCALE, 0).repeat(SCALE, 1)
