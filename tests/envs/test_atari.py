"""The Atari protocol against a second, slow implementation of it that keeps every frame."""

import itertools
from typing import Any

import cv2
import numpy as np
import pytest
from gymnasium.utils import seeding
from gymnasium.utils.env_checker import check_env

from reverie.config import EnvConfig
from reverie.envs import atari, make_env
from reverie.envs.atari import screens_to_images
from reverie.errors import EnvError

ale_py = pytest.importorskip("ale_py")


def create(
    game: str,
    repeat: int = 4,
    sticky_actions: float = 0.25,
    noops: int = 30,
    grayscale: bool = True,
    full: bool = False,
    **options: Any,
) -> atari.Atari:
    """Return a game with some settings."""
    settings = {"action_repeat": repeat, "sticky_actions": sticky_actions, "noop_max": noops, "grayscale": grayscale}
    return atari.Atari(game, EnvConfig(**settings, full_action_space=full), **options)


class Reference:
    """The protocol as SPEC 49 to 51 words it, written down frame by frame."""

    def __init__(self, game: str, seed: int, repeat: int, sticky: float, noops: int, gray: bool, full: bool) -> None:
        self.rng, _ = seeding.np_random(seed)
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self.ale = ale_py.ALEInterface()
        self.ale.setFloat("repeat_action_probability", 0.0)
        self.ale.setInt("random_seed", int(self.rng.integers(2**31)))
        self.ale.loadROM(ale_py.roms.get_rom_path(game))
        self.actions = self.ale.getLegalActionSet() if full else self.ale.getMinimalActionSet()
        self.repeat, self.noops, self.gray, self.sticky = repeat, noops, gray, sticky
        self.frames_at_end: list[int] = []

    def screen(self) -> Any:
        return self.ale.getScreenGrayscale() if self.gray else self.ale.getScreenRGB()

    def resized(self, screen: Any) -> Any:
        image = cv2.resize(screen, (64, 64), interpolation=cv2.INTER_AREA)
        return image[..., None] if self.gray else image

    def reset(self) -> Any:
        self.ale.reset_game()
        self.held = 0
        for _ in range(self.rng.integers(1, self.noops + 1) if self.noops else 0):
            self.ale.act(0)
        self.last = self.screen()
        return self.resized(self.last)

    def step(self, action: int) -> tuple[Any, float, bool]:
        frames, rewards = [], []
        for _ in range(self.repeat):
            if self.sticky == 0 or self.rng.random() >= self.sticky:
                self.held = self.actions[action]
            rewards.append(self.ale.act(self.held))
            if self.ale.game_over():
                break
            frames.append(self.screen())
        over = len(frames) < self.repeat
        if over:
            self.frames_at_end.append(len(frames))
            newer = frames[self.repeat - 2 : self.repeat - 1]
        else:
            newer = frames[-2:]
            self.last = newer[0]
        self.last = np.max([self.last, *newer], 0)
        return self.resized(self.last), sum(rewards), over


@pytest.mark.parametrize(
    ("game", "seed", "steps", "gray", "full", "repeat", "sticky", "noops"),
    [
        ("road_runner", 4, 900, True, False, 4, 0.25, 30),
        ("pong", 3, 1020, True, False, 4, 0.25, 30),
        ("ms_pacman", 3, 120, False, False, 3, 0.0, 0),
        ("boxing", 3, 60, False, True, 1, 0.5, 5),
    ],
)
def test_frame_by_frame(
    game: str, seed: int, steps: int, gray: bool, full: bool, repeat: int, sticky: float, noops: int
) -> None:
    reference = Reference(game, seed, repeat, sticky, noops, gray, full)
    env = create(game, repeat, sticky, noops, gray, full)
    assert env.action_space.n == len(reference.actions)
    rng = np.random.default_rng(0)
    image, _ = env.reset(seed=seed)
    np.testing.assert_array_equal(image, reference.reset())
    rewards, ends, seen, joined = 0, 0, set(), 0
    for step in range(steps):
        previous, action = image, int(rng.integers(env.action_space.n))
        image, reward, terminated, truncated, _ = env.step(action)
        expected_image, expected_reward, expected_over = reference.step(action)
        assert (reward, terminated, truncated) == (expected_reward, expected_over, False), step
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, expected_image, err_msg=str(step))
        rewards += reward != 0
        seen.add(image.tobytes())
        if terminated:
            ends += 1
            joined += (image != previous).any()
            np.testing.assert_array_equal(env.reset()[0], reference.reset())
    assert len(seen) > min(steps, 300) / 4  # it was no still picture
    if repeat == 4:
        assert rewards >= 2
        assert ends >= 1
    if game == "road_runner":  # both kinds of last image were compared, and they do differ
        assert {2, 3} <= set(reference.frames_at_end)
        assert joined >= 1


def console(sticky: float) -> Any:
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", sticky)
    ale.setInt("random_seed", 0)
    ale.loadROM(ale_py.roms.get_rom_path("boxing"))
    return ale


def boxers(ale: Any) -> bytes:
    """Return the places of both, one frame ago."""
    return bytes(ale.getRAM()[32:36].tobytes())


def test_actions_stick_by_the_law_of_the_consoles_own() -> None:
    """Compare places after four frames, and their frequencies, with the law written out and the emulator's own."""
    sticky, tries, given = 0.4, 500, (3, 5, 3, 5)  # right, down, right, down; before them the console is idle
    plain = console(0.0)
    expected: dict[bytes, float] = {}
    for pattern in itertools.product([True, False], repeat=len(given)):
        held, chance = 0, 1.0
        plain.reset_game()
        for action, sticks in zip(given, pattern, strict=True):
            held, chance = (held, chance * sticky) if sticks else (action, chance * (1 - sticky))
            plain.act(plain.getMinimalActionSet()[held])
        place = boxers(plain)
        expected[place] = expected.get(place, 0.0) + chance
    assert len(expected) >= 5 and abs(sum(expected.values()) - 1) < 1e-9
    ours, theirs = create("boxing", 1, sticky, 0), console(sticky)
    ours.reset(seed=0)
    found: list[dict[bytes, int]] = [dict.fromkeys(expected, 0) for _ in range(2)]
    for _ in range(tries):
        ours.reset()
        theirs.reset_game()
        for action in given:
            ours.step(action)
            theirs.act(theirs.getMinimalActionSet()[action])
        found[0][boxers(ours._ale)] += 1
        found[1][boxers(theirs)] += 1
    for counts in found:
        for place, chance in expected.items():
            assert abs(counts[place] / tries - chance) < 4 * np.sqrt(chance * (1 - chance) / tries)


def test_whether_an_action_sticks_is_decided_at_every_frame() -> None:
    def images(sticky: float, seed: int, action: int) -> Any:
        env = create("boxing", sticky_actions=sticky, noops=0)
        env.reset(seed=seed)
        return np.stack([env.step(action)[0] for _ in range(15)])

    # Always sticky: the idle start is always repeated, so actions are void. Never: seeds make no difference.
    # (3 is right; some other actions only push against the ropes.)
    np.testing.assert_array_equal(images(1.0, 0, 3), images(1.0, 0, 5))
    np.testing.assert_array_equal(images(0.0, 0, 3), images(0.0, 1, 3))
    assert (images(0.0, 0, 3) != images(0.0, 0, 5)).any()
    assert (images(0.5, 0, 3) != images(0.5, 1, 3)).any()


@pytest.mark.parametrize(("game", "sticky"), [("boxing", 0.0), ("boxing", 0.25), ("qbert", 0.25), ("tetris", 0.0)])
def test_a_game_goes_on_from_its_saved_state(game: str, sticky: float) -> None:
    """At twelve places of an episode, and across the start of the next one."""

    def shown(env: atari.Atari, actions: Any, resets: bool) -> list[Any]:
        seen = [env.step(int(action)) for action in actions]
        if resets:
            seen.append((*env.reset(), 0, 0, 0))
            seen += [env.step(int(action)) for action in actions]
        return seen

    rng = np.random.default_rng(0)
    for place in range(12):
        env, other = (create(game, sticky_actions=sticky, noops=5) for _ in range(2))
        env.reset(seed=place)
        before, after = rng.integers(env.action_space.n, size=(2, 20))
        shown(env, before[: place + 1], resets=False)
        other.load_state(env.save_state())
        for (left, *outcome, _), (right, *expected, _) in zip(
            shown(other, after, resets=place % 3 == 0), shown(env, after, resets=place % 3 == 0), strict=True
        ):
            np.testing.assert_array_equal(left, right)
            assert outcome == expected
        assert (other._ale.getRAM() == env._ale.getRAM()).all()


def test_idle_frames_at_the_start_are_uniform() -> None:
    env = create("pong", noops=4)
    counts = []
    for episode in range(80):
        env.reset(seed=0 if episode == 0 else None)
        counts.append(env._ale.getEpisodeFrameNumber())
    values, occurrences = np.unique(counts, return_counts=True)
    assert len(values) == 4
    assert np.ptp(values) == 3
    assert occurrences.min() >= 8
    create("pong", noops=0).reset(seed=0)


def test_same_seed_same_episodes() -> None:
    def play(seed: int) -> Any:
        env = create("breakout", noops=0)
        rng = np.random.default_rng(0)
        images = [env.reset(seed=seed)[0]]
        for _ in range(60):
            image, _, over, _, _ = env.step(int(rng.integers(4)))
            images.append(env.reset()[0] if over else image)
        return np.stack(images)

    np.testing.assert_array_equal(play(1), play(1))
    assert (play(1) != play(2)).any()


def test_conforms_to_gymnasium() -> None:
    with pytest.warns(UserWarning, match="spec"):  # it is not registered
        check_env(create("pong", noops=3))


def test_game_over_is_terminal_and_the_time_limit_is_not() -> None:
    def ends(time_limit: int) -> list[tuple[int, bool]]:
        config = EnvConfig(name="ALE/Breakout-v5", action_repeat=4, time_limit=time_limit)
        found, length = [], 0
        with make_env(config, 0) as env:
            assert env.frames_per_step == 4
            rng = np.random.default_rng(0)
            step = env.reset(np.array([True]))
            for _ in range(240):
                step = env.step(np.eye(4, dtype=np.float32)[rng.integers(4, size=1)])
                length += 1
                if step["is_last"][0]:
                    found.append((length, bool(step["is_terminal"][0])))
                    env.reset(np.array([True]))
                    length = 0
        return found

    assert ends(50) == [(50, False)] * 4
    over = ends(27000)
    assert over
    assert all(terminal for _, terminal in over)


def test_settings_reach_the_game() -> None:
    def spec(**settings: Any) -> Any:
        with make_env(EnvConfig(name="ALE/Pong-v5", **settings), 0) as env:
            return env.spec

    assert spec().observations["image"].shape == (64, 64, 1)
    assert spec(grayscale=False).observations["image"].shape == (64, 64, 3)
    assert spec().action.sizes == (6,)
    assert spec(full_action_space=True).action.sizes == (18,)


def test_old_ids_are_pointed_to_the_new_ones() -> None:
    for name in ("PongNoFrameskip-v4", "Pong-v0"):
        with pytest.raises(EnvError, match="did you mean ALE/Pong-v5"):
            make_env(EnvConfig(name=name), 0)


@pytest.mark.parametrize("grayscale", [True, False])
def test_screens_to_images_of_the_rendered_screen_is_the_image(grayscale: bool) -> None:
    env = create("breakout", 1, 0.0, 0, grayscale, render_mode="rgb_array")
    image, _ = env.reset(seed=0)
    for step in range(30):
        screen = env.render()
        assert screen is not None
        np.testing.assert_array_equal(screens_to_images(screen, image.shape), image)
        np.testing.assert_array_equal(screens_to_images(np.stack([screen] * 2), image.shape), np.stack([image] * 2))
        image, *_ = env.step(step % 4)
