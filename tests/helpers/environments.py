"""Environments of the test suite: two with a known optimum, one of every space, and some that misbehave.

`Catch` and `Recall` are what learning is proved on: they are small enough to be learned within minutes from images
of 64x64 pixels, and their random and best scores are known in closed form.
"""

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

Observation = Any
Result = tuple[Observation, float, bool, bool, dict[str, Any]]


class Catch(gymnasium.Env[Observation, int]):
    """Balls fall one after another through a grid of 5 columns and 6 rows; a paddle at the bottom catches them.

    Actions: 0 left, 1 stay, 2 right. A ball appears in a random column of the top row, falls one row at each step, and
    at its arrival in the bottom row gives +1 if the paddle is there and -1 if not. One step later the next one appears.
    The paddle stays where it is. An episode is cut (truncated) when `balls` balls have arrived; it has
    6 * `balls` - 1 steps after the first.

    Best score: `balls`. The paddle moves up to 5 times before a ball arrives, and no column is more than 4 away.

    Score of uniformly random actions: -3/5 * `balls`. The paddle starts in a uniformly random column, and a random walk
    with equally likely left, stay, right that stops at the walls keeps the uniform distribution (its transition matrix
    is symmetric); balls fall independently of it, so each is caught with probability 1/5: 1/5 - 4/5 = -3/5.
    """

    columns, rows = 5, 6
    ball_brightness, paddle_brightness = 255, 120

    def __init__(self, balls: int = 10) -> None:
        self.balls = balls
        self.observation_space = spaces.Box(0, 255, (64, 64, 1), np.uint8)
        self.action_space = spaces.Discrete(3)

    @property
    def best_score(self) -> float:
        """Of an episode."""
        return float(self.balls)

    @property
    def random_score(self) -> float:
        """Mean of an episode with random actions."""
        return -0.6 * self.balls

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict]:
        """Place the paddle and the first ball."""
        super().reset(seed=seed)
        self.paddle = int(self.np_random.integers(self.columns))
        self._arrived = 0
        self._drop()
        return self._draw(), {}

    def step(self, action: int) -> Result:
        """Move the paddle, then the ball."""
        self.paddle = min(max(self.paddle + int(action) - 1, 0), self.columns - 1)
        reward = 0.0
        if self.row == self.rows - 1:
            self._drop()
        else:
            self.row += 1
            if self.row == self.rows - 1:
                self._arrived += 1
                reward = 1.0 if self.column == self.paddle else -1.0
        return self._draw(), reward, False, self._arrived == self.balls, {}

    def best_action(self) -> int:
        """Of a player that catches every ball."""
        return int(np.sign(self.column - self.paddle)) + 1 if self.row < self.rows - 1 else 1

    def _drop(self) -> None:
        self.column, self.row = int(self.np_random.integers(self.columns)), 0

    def _draw(self) -> Observation:
        image = np.zeros((64, 64, 1), np.uint8)
        for column, row, brightness in (
            (self.paddle, self.rows - 1, self.paddle_brightness),
            (self.column, self.row, self.ball_brightness),
        ):
            image[2 + 10 * row : 12 + 10 * row, 2 + 12 * column : 14 + 12 * column] = brightness
        return image


class Recall(gymnasium.Env[Observation, int]):
    """A cue must be remembered: it is gone when the choice that it decides is made.

    A trial shows, one image a step: the cue (a bright block on the left or the right) for `cue` steps, nothing for
    `delay` steps, the go sign (a frame around the image), and the outcome (a block at the top: won, at the bottom:
    lost). The action taken at the go sign, 0 for left and 1 for right, gives +1 on arrival at the outcome if it matches
    the cue and -1 otherwise. All other actions do nothing. The next trial follows; an episode is cut (truncated) at the
    outcome of the last of `trials` trials.

    Best score: `trials`.

    An agent without memory scores 0 in the mean, whatever it does. Let its action at the go sign be drawn from any
    distribution that depends on the current image, the step number and its own coin tosses. The cue c of the trial is
    left or right with probability 1/2, independently of earlier trials. The image at the go sign is the same for both
    cues, the step number too, and the coin tosses know nothing of c; so the action a is independent of c, and
    E[reward] = P(a = c) - P(a != c) = 1/2 - 1/2 = 0. Nor can the agent note the cue in the world, for actions before
    the go sign change nothing. The same holds for an agent that sees the last `delay` + 1 images: none shows the cue.
    Random actions are such an agent, so they score 0 too.
    """

    def __init__(self, trials: int = 8, cue: int = 2, delay: int = 3) -> None:
        self.trials = trials
        self.phases = ["cue"] * cue + ["delay"] * delay + ["go", "outcome"]
        self.observation_space = spaces.Box(0, 255, (64, 64, 1), np.uint8)
        self.action_space = spaces.Discrete(2)

    @property
    def best_score(self) -> float:
        """Of an episode."""
        return float(self.trials)

    @property
    def random_score(self) -> float:
        """Mean of an episode with random actions, and of any agent without memory."""
        return 0.0

    @property
    def phase(self) -> str:
        """What the current image shows."""
        return self.phases[self._time]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict]:
        """Begin the first trial."""
        super().reset(seed=seed)
        self._trial = 0
        self._begin()
        return self._draw(), {}

    def step(self, action: int) -> Result:
        """Go on to the next image."""
        reward = 0.0
        if self.phase == "outcome":
            self._trial += 1
            self._begin()
        else:
            if self.phase == "go":
                self._won = int(action) == self.cue
                reward = 1.0 if self._won else -1.0
            self._time += 1
        return self._draw(), reward, False, self.phase == "outcome" and self._trial == self.trials - 1, {}

    def _begin(self) -> None:
        self._time = 0
        self.cue = int(self.np_random.integers(2))

    def _draw(self) -> Observation:
        image = np.zeros((64, 64, 1), np.uint8)
        if self.phase == "cue":
            image[16:48, 34:62] = 255 * self.cue
            image[16:48, 2:30] = 255 * (1 - self.cue)
        elif self.phase == "go":
            image[:] = 255
            image[10:54, 10:54] = 0
        elif self.phase == "outcome":
            rows = slice(2, 22) if self._won else slice(42, 62)
            image[rows, 16:48] = 255
        return image


class Counting(gymnasium.Env[Observation, Any]):
    """Observes how many steps it has taken in the episode, and how many episodes; the reward is the step number.

    Ends after `length` steps, by termination or by truncation; 0 never ends.
    """

    def __init__(self, length: int = 0, terminates: bool = True) -> None:
        self.length, self.terminates = length, terminates
        self.observation_space = spaces.Box(0, np.inf, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.episodes = 0
        self.seeds: list[int | None] = []
        self.closed = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict]:
        """Count from zero again."""
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.episodes = 1 if seed is not None else self.episodes + 1
        self.steps = 0
        return self._observation(), {}

    def step(self, action: Any) -> Result:
        """Count."""
        self.steps += 1
        over = self.steps == self.length
        return self._observation(), float(self.steps), over and self.terminates, over and not self.terminates, {}

    def close(self) -> None:
        """Remember that it was called."""
        self.closed = True

    def _observation(self) -> Observation:
        return np.array([self.steps, self.episodes], np.float32)


class Everything(gymnasium.Env[Observation, Any]):
    """Random observations of every supported kind; `action` chooses the action space. Remembers the last action."""

    actions: ClassVar[dict[str, spaces.Space[Any]]] = {
        "discrete": spaces.Discrete(3, start=-1),
        "multidiscrete": spaces.MultiDiscrete([2, 3, 4]),
        "box": spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32)),
    }

    def __init__(self, action: str = "box") -> None:
        self.action_space = self.actions[action]
        self.observation_space = spaces.Dict(
            {
                "camera": spaces.Box(0, 255, (64, 64, 3), np.uint8),
                "depth": spaces.Box(0, 1, (1, 32, 48), np.float32),
                "velocity": spaces.Box(-np.inf, np.inf, (2, 3), np.float64),
                "count": spaces.Box(0, 9, (1,), np.int64),
                "inner": spaces.Dict({"choice": spaces.Discrete(4, start=1), "switches": spaces.MultiBinary(3)}),
                "dials": spaces.MultiDiscrete([2, 3]),
            }
        )
        self.last_action: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict]:
        """Seed the observations."""
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Result:
        """Observe something; ends after 20 steps."""
        self.last_action = action
        self.steps += 1
        return self.observation_space.sample(), float(self.steps % 3), self.steps == 20, False, {}


class Faulty(gymnasium.Env[Observation, int]):
    """Misbehaves in one way at step `at` of its second episode; episodes have 5 steps.

    `fault` is one of `FAULTS`.
    """

    FAULTS = (
        "raises",
        "reward nan",
        "reward inf",
        "reward none",
        "observation nan",
        "shape",
        "dtype",
        "missing key",
        "old api",
        "dies",
    )

    def __init__(self, fault: str, at: int = 3) -> None:
        assert fault in self.FAULTS, fault
        self.fault, self.at = fault, at
        self.observation_space = spaces.Dict(
            {"vector": spaces.Box(-1, 1, (3,), np.float32), "image": spaces.Box(0, 255, (64, 64, 3), np.uint8)}
        )
        self.action_space = spaces.Discrete(2)
        self.episode = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict]:
        """Behave well."""
        super().reset(seed=seed)
        self.episode += 1
        self.steps = 0
        return self._observation(), {}

    def step(self, action: int) -> Any:
        """Behave well, or not."""
        self.steps += 1
        observation, reward, over = self._observation(), 1.0, self.steps == 5
        if self.episode == 2 and self.steps == self.at:
            match self.fault:
                case "raises":
                    raise RuntimeError("the motor is on fire")
                case "dies":
                    import os

                    os._exit(7)
                case "reward nan":
                    reward = float("nan")
                case "reward inf":
                    reward = float("inf")
                case "reward none":
                    return observation, None, False, False, {}
                case "observation nan":
                    observation["vector"][1] = np.nan
                case "shape":
                    observation["image"] = observation["image"][:32]
                case "dtype":
                    observation["image"] = observation["image"].astype(np.float32)
                case "missing key":
                    del observation["vector"]
                case "old api":
                    return observation, reward, over, {}
        return observation, reward, over, False, {}

    def _observation(self) -> dict[str, Any]:
        return {"vector": np.zeros(3, np.float32), "image": np.zeros((64, 64, 3), np.uint8)}


class Spaces(gymnasium.Env[Observation, Any]):
    """Any two spaces, sampled; for what is not supported, and for single conversions."""

    def __init__(self, observation: spaces.Space[Any] | None = None, action: spaces.Space[Any] | None = None) -> None:
        self.observation_space = observation or spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = action or spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict]:
        """Sample."""
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Result:
        """Sample."""
        return self.observation_space.sample(), 0.0, False, False, {}


class Breaks(Catch):
    """Raises at its 100th step, counted over all instances since a test set `count` to 0."""

    count = 0

    def step(self, action: int) -> Result:
        """Count, and break."""
        Breaks.count += 1
        if Breaks.count == 100:
            raise ValueError("a wire came loose")
        return super().step(action)


class Unreliable(gymnasium.Env[Observation, int]):
    """Fails at random, in a way of its choice; observes its step, and a number that is its episode's own.

    `ways` are among: raises, exits, leaves (the process ends with status 7), SIGKILL, SIGSEGV (the process is killed),
    hangs. `probability` is that of a failure in each step, and at each reset but the first one. Episodes have 20 steps.
    """

    def __init__(self, *ways: str, probability: float = 0.05) -> None:
        self.ways, self.probability = ways, probability
        self.observation_space = spaces.Box(0, np.inf, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.episode = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict]:
        """Begin, or fail."""
        super().reset(seed=seed)
        if self.episode:
            self._perhaps_fail()
        self.episode, self.steps = int(self.np_random.integers(1, 1 << 20)), 0
        return self._observation(), {}

    def step(self, action: int) -> Result:
        """Count, or fail."""
        self._perhaps_fail()
        self.steps += 1
        return self._observation(), 1.0, self.steps == 20, False, {}

    def _perhaps_fail(self) -> None:
        import os
        import signal
        import time

        if self.np_random.random() >= self.probability:
            return
        match self.ways[self.np_random.integers(len(self.ways))]:
            case "raises":
                raise RuntimeError("the motor is on fire")
            case "exits":
                raise SystemExit("enough")
            case "leaves":
                os._exit(7)
            case "hangs":
                time.sleep(1000)
            case name:
                os.kill(os.getpid(), getattr(signal, name))

    def _observation(self) -> Observation:
        return np.array([self.steps, self.episode], np.float32)


class River(gymnasium.Env[Observation, int]):
    """A river that is swum upstream, after RiverSwim (Strehl and Littman, 2008), deterministic and with an end.

    Actions: 0 drifts two places down, 1 swims one place up. An episode begins at the mouth, place 0, where each step
    gives 0.01, and has 30 steps, or ends at the source, place 20, with 1. The observation is the place as a one-hot
    vector. The `info` has the share of the places that were ever reached.

    Best score: 1.1, by drifting for ten steps first. Random actions reach the source once in 38,000 episodes
    (`random_success`), and collect 0.01 at most of the steps.
    """

    places, length = 21, 30
    best_score = 1.1

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 1, (self.places,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._reached = np.zeros(self.places, bool)

    @classmethod
    def random_success(cls) -> float:
        """Probability that an episode of uniformly random actions reaches the source."""
        at = np.eye(cls.places)[0]
        for _ in range(cls.length):
            after = np.zeros(cls.places)
            after[-1] = at[-1]
            for place, mass in enumerate(at[:-1]):
                after[place + 1] += mass / 2
                after[max(place - 2, 0)] += mass / 2
            at = after
        return float(at[-1])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict]:
        """Return to the mouth."""
        super().reset(seed=seed)
        self._place = self._steps = 0
        return self._observe(), {}

    def step(self, action: int) -> Result:
        """Swim or drift."""
        self._place = self._place + 1 if action == 1 else max(self._place - 2, 0)
        self._steps += 1
        self._reached[self._place] = True
        is_source = self._place == self.places - 1
        reward = 1.0 if is_source else 0.01 if self._place == 0 else 0.0
        info = {"coverage": float(self._reached.mean())}
        return self._observe(), reward, is_source, not is_source and self._steps == self.length, info

    def _observe(self) -> Observation:
        return np.eye(self.places, dtype=np.float32)[self._place]
