"""What a sweep runs: environments x variants x seeds, read from TOML, with every mistake named before anything runs."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from reverie.config import PATHS, combined, did_you_mean, nearest, resolve
from reverie.errors import ConfigError, ReverieError

SUITES = Path(__file__).parent / "suites"
"""Plans that come with the package, by the names of their files."""
PLAN_FILE = "sweep.json"
"""The copy of its plan that a sweep's folder holds."""
OWNED = {
    "env.name": "it is the name of an environment",
    "training.seed": "seeds say it",
    "training.threads": "threads says it",
}
"""Settings that other keys of the plan determine."""


@dataclass(frozen=True)
class Task:
    """An environment of the grid, and what is particular to it."""

    env: str
    preset: str | None = None
    """None: chosen by the environment, as `reverie train` does."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """By path; they replace the plan's."""


@dataclass(frozen=True)
class Plan:
    """A grid, and how it is run."""

    name: str
    tasks: tuple[Task, ...]
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """By path, on top of every preset and below the variants."""
    workers: int = 1
    """Cells that run at a time."""
    threads: int = 0
    """CPU threads of each; 0 divides the usable cores by the workers."""
    keep_replay: bool = True
    """Keep the replay of a cell that is done; it is most of what a run takes of the disk."""
    source: str = "the plan"
    """Where it was read, for messages."""

    def to_json(self) -> dict[str, Any]:
        """What `parse_plan` turns into the same plan."""
        tasks = [
            {"name": task.env, "settings": dict(task.settings)} | ({"preset": task.preset} if task.preset else {})
            for task in self.tasks
        ]
        return {
            "name": self.name,
            "environments": tasks,
            "variants": list(self.variants),
            "seeds": list(self.seeds),
            "settings": dict(self.settings),
            "workers": self.workers,
            "threads": self.threads,
            "keep_replay": self.keep_replay,
        }


def find_plan(given: str) -> Path:
    """The plan that a word on the command line means: a file, the folder of a sweep, or a suite of the package.

    Raises:
        ConfigError: if it is none of them.
    """
    path = Path(given)
    if path.is_dir():
        if (path / PLAN_FILE).is_file():
            return path / PLAN_FILE
        raise ConfigError(f"{given} is not the folder of a sweep: there is no {PLAN_FILE} in it; name a plan (TOML).")
    if path.is_file():
        return path
    suites = {suite.stem: suite for suite in sorted(SUITES.glob("*.toml"))}
    if given in suites:
        return suites[given]
    near = nearest(given, suites, 1)
    ending = did_you_mean(near) if near else f"; give a plan (TOML), a sweep's folder, or one of {', '.join(suites)}."
    raise ConfigError(f"There is no plan '{given}'{ending}")


def read_plan(path: Path) -> Plan:
    """Read a plan from TOML, or from the `sweep.json` of a sweep's folder.

    Raises:
        ConfigError: if it cannot be read, or for the first mistake in it; file and key are named.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text)["plan"] if path.name == PLAN_FILE else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"The plan {path} cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError) as error:
        kind = "JSON" if path.name == PLAN_FILE else "TOML"
        raise ConfigError(f"The plan {path} is not valid {kind}: {error}.") from None
    return parse_plan(data, str(path), path.stem)


def parse_plan(data: Any, source: str, default_name: str) -> Plan:
    """A plan from TOML's values.

    Raises:
        ConfigError: for the first mistake.
    """
    reader = _Reader(source)
    known = ("name", "preset", "environments", "variants", "seeds", "settings", "workers", "threads", "keep_replay")
    table = reader.table(data, "", known)
    preset = reader.text(table.get("preset"), "preset") if "preset" in table else None
    return Plan(
        name=reader.text(table.get("name", default_name), "name"),
        tasks=reader.tasks(table.get("environments"), preset),
        variants=reader.variants(table.get("variants", ["full"])),
        seeds=reader.seeds(table.get("seeds", [0])),
        settings=reader.settings(table.get("settings", {}), "settings"),
        workers=reader.whole(table.get("workers", 1), "workers", 1),
        threads=reader.whole(table.get("threads", 0), "threads", 0),
        keep_replay=reader.truth(table.get("keep_replay", True), "keep_replay"),
        source=source,
    )


class _Reader:
    """Checks values, and names file and key where one is wrong."""

    def __init__(self, source: str) -> None:
        self._source = source

    def fail(self, key: str, problem: str) -> NoReturn:
        where = f"{self._source}, {key}" if key else self._source
        raise ConfigError(f"In {where}: {problem}")

    def table(self, value: Any, key: str, known: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.fail(key, f"{value!r} is not a table.")
        for name in value:
            if name not in known:
                near = nearest(name, known, 1)
                ending = did_you_mean(near) if near else f"; the keys are {', '.join(known)}."
                self.fail(key, f"there is no key '{name}'{ending}")
        return value

    def text(self, value: Any, key: str) -> str:
        if not isinstance(value, str) or not value.strip():
            self.fail(key, f"it is {value!r}, but it must be text.")
        return value

    def whole(self, value: Any, key: str, least: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            self.fail(key, f"it is {value!r}, but it must be a whole number, {least} at least.")
        return value

    def truth(self, value: Any, key: str) -> bool:
        if not isinstance(value, bool):
            self.fail(key, f"it is {value!r}, but it must be true or false.")
        return value

    def filled(self, value: Any, key: str, example: str) -> list[Any]:
        if not isinstance(value, list) or not value:
            what = "it is missing" if value is None else f"it is {value!r}"
            self.fail(key, f"{what}, but it must be a list that is not empty, such as {example}.")
        return value

    def once(self, values: list[Any], key: str) -> None:
        twice = next((value for index, value in enumerate(values) if value in values[:index]), None)
        if twice is not None:
            self.fail(key, f"{twice} is there twice; name it once.")

    def tasks(self, value: Any, preset: str | None) -> tuple[Task, ...]:
        entries = self.filled(value, "environments", '["CartPole-v1"]')
        tasks = tuple(self.task(entry, f"environments[{index}]", preset) for index, entry in enumerate(entries, 1))
        self.once([task.env for task in tasks], "environments")
        return tasks

    def task(self, value: Any, key: str, preset: str | None) -> Task:
        entry = {"name": value} if isinstance(value, str) else self.table(value, key, ("name", "preset", "settings"))
        if "name" not in entry:
            self.fail(key, "it has no name; give the id of an environment.")
        name = entry.get("preset", preset)
        return Task(
            env=self.text(entry["name"], f"{key}.name"),
            preset=None if name is None else self.text(name, f"{key}.preset"),
            settings=self.settings(entry.get("settings", {}), f"{key}.settings"),
        )

    def variants(self, value: Any) -> tuple[str, ...]:
        names = [self.text(name, "variants") for name in self.filled(value, "variants", '["full", "no-gru-norm"]')]
        names = [name.replace("_", "-") for name in names]
        for name in names:
            try:
                combined(name)
            except ReverieError as error:
                self.fail("variants", str(error))
        self.once(names, "variants")
        return tuple(names)

    def seeds(self, value: Any) -> tuple[int, ...]:
        seeds = [self.whole(seed, "seeds", 0) for seed in self.filled(value, "seeds", "[0, 1, 2]")]
        self.once(seeds, "seeds")
        return tuple(seeds)

    def settings(self, value: Any, key: str) -> dict[str, Any]:
        """Settings by their full paths, whether they were written as paths or as tables within tables."""
        if not isinstance(value, dict):
            self.fail(key, f"{value!r} is not a table.")
        found: dict[str, Any] = {}
        for name, given in _flat(value).items():
            try:
                path = resolve(name)
            except ConfigError as error:
                self.fail(key, str(error))
            if path not in PATHS:
                self.fail(key, f"{path} is a group of settings; set one of its fields.")
            if path in OWNED:
                self.fail(key, f"{path} cannot be set here, since {OWNED[path]}.")
            if path in found:
                self.fail(key, f"{path} is set twice; give it once.")
            found[path] = given
        return found


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in table.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
