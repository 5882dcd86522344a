"""Minari data sets: a folder with `data/metadata.json` and `data/main_data.hdf5`, as `minari download` makes it.

Minari stores T+1 observations and T actions, each at the observation it was taken at: row t of a replay has the action
of row t-1. Rewards, terminations and truncations belong to the actions. Its own default stores images as JPEG, which
changes them; what is exported here does not.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from reverie.data.adapter import EpisodeAdapter, agent_spaces, to_classes
from reverie.data.episodes import (
    Episode,
    Recording,
    check_episode,
    check_size,
    from_transitions,
    optional_import,
    reading,
    to_transitions,
)
from reverie.data.hdf5 import check_links
from reverie.errors import DataError
from reverie.provenance import reverie_version
from reverie.runs.atomic_io import Unreadable, parse_json, read_file
from reverie.specs import EnvSpec

METADATA, MAIN = "metadata.json", "main_data.hdf5"


def detect(path: Path) -> bool:
    """Return whether a path is a data set, or its folder `data`."""
    return any((folder / METADATA).is_file() for folder in (path, path / "data"))


def open_minari(path: Path) -> Recording:
    """Open a data set that is stored as HDF5."""
    folder = path if (path / METADATA).is_file() else path / "data"
    with optional_import():
        import h5py
        import minari
    with reading(folder / METADATA):
        metadata = parse_json(read_file(folder / METADATA, limit=1 << 26))
        # Without them Minari makes the environment, whose name can be that of any module.
        if missing := [name for name in ("observation_space", "action_space") if name not in metadata]:
            raise Unreadable(f"lacks '{missing[0]}'")
        if metadata.get("data_format") != "hdf5":
            raise Unreadable(f"names the format {str(metadata.get('data_format'))[:20]!r}; only hdf5 is read")
        dataset = minari.MinariDataset(str(folder))
        count = int(dataset.total_episodes)
        adapter = EpisodeAdapter(dataset.observation_space, dataset.action_space, str(path))
    if metadata.get("jpeg_encoding", True) and any(each.is_image for each in adapter.spec.observations.values()):
        adapter.notes.append("Its images were stored as JPEG, which changes them.")

    def read() -> Iterator[Episode]:
        with reading(folder / MAIN), h5py.File(folder / MAIN, "r") as file:
            if len(file) != count:
                raise Unreadable(f"holds {len(file)} episodes where {METADATA} says {count}")
            for number in range(count):
                name = f"episode_{number}"
                check_size(check_links(file, [name]))
                episode = _convert(next(dataset.iterate_episodes([number])), adapter, recording)
                check_episode(episode, adapter.spec)
                yield episode

    recording = Recording(path, adapter.spec, read, adapter.notes)
    return recording


def write_minari(folder: Path, spec: EnvSpec, episodes: Iterable[Episode]) -> None:
    """Write a data set whose spaces are the agent's."""
    with optional_import():
        import minari
        from minari.data_collector import EpisodeBuffer
        from minari.dataset.minari_storage import MinariStorage
    observation, action = agent_spaces(spec)
    data = folder.absolute() / "data"  # Minari's sizes of relative paths fail.
    data.mkdir()
    storage = MinariStorage.new(data, observation, action, jpeg_encoding=False)

    def buffers() -> Iterator[Any]:
        for episode in episodes:
            actions, rewards = to_transitions(episode)
            terminations = episode["is_terminal"][1:]
            yield EpisodeBuffer(
                observations={key: episode[key] for key in spec.observations},
                actions=_native(actions, spec),
                rewards=rewards,
                terminations=terminations,
                truncations=episode["is_last"][1:] & ~terminations,
                infos={},
            )

    storage.update_episodes(buffers())
    metadata = {"dataset_id": "reverie/export-v0", "minari_version": minari.__version__}
    storage.update_metadata({**metadata, "algorithm_name": f"reverie {reverie_version() or ''}".strip()})


def losses(spec: EnvSpec) -> str:
    """Return what a written data set does not hold; raise DataError if a name does not fit."""
    if wrong := [key for key in spec.observations if "/" in key]:
        raise DataError(f"minari cannot hold the observation '{wrong[0]}'. Nothing was written. Choose the format npz.")
    return ""


def _native(actions: Any, spec: EnvSpec) -> Any:
    if spec.action.kind == "continuous":
        return actions
    classes = to_classes(actions, spec.action)
    return classes[:, 0] if len(spec.action.sizes) == 1 else classes


def _convert(data: Any, adapter: EpisodeAdapter, recording: Recording) -> Episode:
    actions = adapter.actions(np.asarray(data.actions))
    rewards, terminations = np.asarray(data.rewards), np.asarray(data.terminations)
    for name, array in (("rewards", rewards), ("terminations", terminations)):
        if array.shape != (len(actions),):
            raise Unreadable(f"has {name} of shape {array.shape} next to {len(actions)} actions")
    if rewards.dtype != np.float32:
        recording.note(f"Rewards of {rewards.dtype} become float32.")
    if terminations[:-1].any():
        raise Unreadable("has an episode that continues after it has terminated")
    observations = adapter.observations(data.observations, len(actions) + 1)
    return from_transitions(observations, actions, rewards, len(terminations) and terminations[-1])
