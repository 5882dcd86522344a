"""Environments that fail, hang or die, and are made anew."""

from collections.abc import Callable
from contextlib import suppress

import numpy as np

from reverie.envs.batched import Group
from reverie.envs.state import EnvState
from reverie.errors import EnvError
from reverie.specs import Array, EnvSpec, Step


class Supervised:
    """A group of environments that is made anew when one of them fails; all of them begin new episodes then.

    A failure leaves no step. The latest one is returned again instead, with `is_last` set and while `down` is true: the
    episode is over there, and this row is not to be stored. The reset that follows finds new environments.

    Before anything has succeeded an error is passed on: such environments would fail for ever.

    Args:
        build: creates the group; given how often it was created before, so that other episodes follow.
        size: n, environments in the group.
    """

    spec: EnvSpec

    def __init__(self, build: Callable[[int], Group], size: int) -> None:
        self._build = build
        self._size = size
        self._group: Group | None = build(0)
        self._built = 1
        self._latest: Step = {}
        self._faults: list[EnvError] = []
        self.down = False
        """Whether the latest rows are no steps."""

    def wait_ready(self) -> None:
        """Wait until the environments exist.

        Raises:
            EnvError: if one cannot be created.
        """
        assert self._group is not None
        self._group.wait_ready()
        self.spec = self._group.spec

    def take_faults(self) -> list[EnvError]:
        """What has failed since the last call."""
        faults, self._faults = self._faults, []
        return faults

    def send_reset(self, mask: Array) -> None:
        """Begin to reset the environments in the mask `[n]`; all of them if they are new."""
        try:
            self._running().send_reset(np.ones(self._size, np.bool_) if self.down else mask)
        except EnvError as error:
            self._fail(error)

    def send_step(self, action: Array) -> None:
        """Begin to step all environments with the actions `[n, A]`; those that are new wait for their reset."""
        if self._group is not None:
            self._group.send_step(action)

    def receive(self) -> Step:
        """Wait for the latest steps `[n, …]`."""
        if self._group is None:
            return self._broken_off()
        try:
            self._latest = self._group.receive()
        except EnvError as error:
            self._fail(error)
            return self._broken_off()
        self.down = False
        return self._latest

    def states(self) -> list[EnvState]:
        """Where the environments stand; nowhere, if they are yet to be made."""
        return [EnvState()] * self._size if self._group is None else self._group.states()

    def put_back(self, index: int, state: EnvState) -> bytes:
        """See `EnvRunner.put_back`."""
        return self._running().put_back(index, state)

    def retrace(self, index: int, actions: Array) -> bytes:
        """See `EnvRunner.retrace`."""
        return self._running().retrace(index, actions)

    def abandon(self, index: int) -> None:
        """See `EnvRunner.abandon`."""
        self._running().abandon(index)

    def stand_at(self, latest: Step) -> None:
        """These `[n, …]` were the latest steps."""
        self._latest = latest
        self._running().stand_at(latest)

    def close(self) -> None:
        """Close the environments."""
        if self._group is not None:
            self._group.close()

    def _running(self) -> Group:
        """The group, made anew where it has failed."""
        if self._group is None:
            group = self._build(self._built)
            self._built += 1
            group.wait_ready()
            self._group = group
        return self._group

    def _fail(self, error: EnvError) -> None:
        if not self._latest:
            raise error
        self._faults.append(error)
        self.down = True
        group, self._group = self._group, None
        if group is not None:
            with suppress(Exception):  # What has failed need not close well.
                group.close()

    def _broken_off(self) -> Step:
        """The latest steps again, as the last ones of their episodes."""
        step = {key: rows.copy() for key, rows in self._latest.items()}
        step["is_first"][:], step["is_last"][:], step["is_terminal"][:], step["reward"][:] = False, True, False, 0.0
        return step
