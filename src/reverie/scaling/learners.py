"""The processes of a group of learners: started on this machine, or by torchrun on several.

`reverie train ENV --training.learners 4` starts three more processes, `torchrun --nproc-per-node 4 -m -- reverie train
ENV` starts four. In both, the first one trains, and the others follow.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]

from reverie.agents import Agent, build_agent
from reverie.config import Config, from_dict, to_dict
from reverie.devices import resolve_device
from reverie.dreamer import Dreamer
from reverie.envs.space_json import spec_from_json, spec_to_json
from reverie.errors import ConfigError, RunError
from reverie.scaling.group import Group
from reverie.scaling.shared_update import shared

BACKEND = "cpu:gloo,cuda:nccl"
TIMEOUT = timedelta(days=7)
"""Limit of a wait for another learner. The others wait while the first one collects or evaluates; a process that ends
is noticed at once."""
START_SECONDS, END_SECONDS = 120, 10
"""Limits of the waits for learners to start and to end."""
HOST = "127.0.0.1"


def is_follower() -> bool:
    """Return whether torchrun started this process as another than the first of its group."""
    return dist.is_torchelastic_launched() and int(os.environ["RANK"]) > 0


def with_launched_learners(config: Config) -> Config:
    """Return a configuration with the number of learners that torchrun started, if it did."""
    if not dist.is_torchelastic_launched():
        return config
    return config.override(learners=int(os.environ["WORLD_SIZE"]))


@contextmanager
def shared_updates(agent: Dreamer) -> Iterator[None]:
    """Return a context in which `config.training.learners` processes share the updates of an agent.

    Raises:
        ConfigError: if there are fewer GPUs than learners.
        RunError: if a learner ends.
    """
    size = agent.config.training.learners
    if size == 1:
        yield
        return
    processes: list[subprocess.Popen[bytes]] = []
    has_ended = False
    is_over = threading.Event()
    try:
        if dist.is_torchelastic_launched():
            _join_torchrun()
        else:
            processes = _start(size, agent.device)
            threading.Thread(target=_watch, args=(processes, is_over), daemon=True).start()
        group = Group()
        group.send({"config": to_dict(agent.config), "spec": spec_to_json(agent.spec)})
        with shared(agent, group) as leader:
            try:
                yield
            finally:
                is_over.set()
                if not leader.is_updating:
                    leader.end()
                    has_ended = True
    except BaseException as error:
        if not has_ended and (lost := _lost(processes)) is not None:
            raise RunError(lost) from error
        for process in processes:  # they may wait for the rest of an update
            process.kill()
        raise
    finally:
        is_over.set()
        _end(processes)
        if dist.is_initialized():
            dist.destroy_process_group()


def follow() -> Agent:
    """Make the updates that the first learner calls for, until it ends; return the agent, or exit if there are none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first learner stops the others, after a checkpoint
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if dist.is_torchelastic_launched():
        _join_torchrun()
    try:  # a process that exits in its group can abort: gloo's threads hold tensors while the interpreter ends
        group = Group()
        if (received := group.receive()) is None:
            sys.exit()
        config = from_dict(received["config"])
        device = resolve_device(config.training.device)
        name = f"cuda:{os.environ.get('LOCAL_RANK', group.rank)}" if device.type == "cuda" else device.type
        agent = build_agent(config, spec_from_json(received["spec"], config.env.name), device=name)
        with shared(agent, group) as follower:
            follower.follow()
    finally:
        dist.destroy_process_group()
    return agent


def dismiss_followers() -> None:
    """Let the processes that torchrun started end, where there is nothing to train."""
    if dist.is_torchelastic_launched():
        _join_torchrun()
        Group().send(None)
        dist.destroy_process_group()


def _join_torchrun() -> None:
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group(BACKEND if torch.cuda.is_available() else "gloo", timeout=TIMEOUT)


def _start(size: int, device: torch.device) -> list[subprocess.Popen[bytes]]:
    """Start the other learners on this machine, and meet them."""
    if device.type == "cuda" and torch.cuda.device_count() < size:
        raise ConfigError(
            f"training.learners is {size}, but this machine has {torch.cuda.device_count()} GPUs. Each learner needs "
            "its own. Give fewer learners, or --device cpu."
        )
    store = TCPStore(HOST, 0, size, is_master=True, timeout=timedelta(seconds=START_SECONDS), wait_for_workers=False)
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-m", "reverie.scaling.learners", str(store.port), str(size)]
    processes = [
        subprocess.Popen([*command, str(rank)], stdin=subprocess.DEVNULL, env=os.environ | threads)
        for rank in range(1, size)
    ]
    try:
        _meet(store, 0, size)
    except BaseException:
        _end(processes)
        raise
    return processes


def _meet(store: Store, rank: int, size: int) -> None:
    backend = BACKEND if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)


def _watch(processes: list[subprocess.Popen[bytes]], is_over: threading.Event) -> None:
    """Stop the run, with a checkpoint, soon after another learner has ended, also where no update would notice it."""
    while not is_over.wait(1):
        has_handler = signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        if has_handler and any(process.poll() is not None for process in processes):
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _lost(processes: list[subprocess.Popen[bytes]]) -> str | None:
    """Return a message about a learner that has ended, None if there is none."""
    deadline = time.monotonic() + 1
    while processes and time.monotonic() < deadline:
        for rank, process in enumerate(processes, 1):
            if (code := process.poll()) is not None:
                how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
                return (
                    f"Learner {rank} of 0 to {len(processes)} (process {process.pid}) {how}. The run stops. "
                    "Continue with --resume, with any number of learners."
                )
        time.sleep(0.02)
    return None


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + END_SECONDS
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        process.kill()
        process.wait()


def _main() -> None:
    port, size, rank = (int(argument) for argument in sys.argv[1:])
    store = TCPStore(HOST, port, size, is_master=False, timeout=timedelta(seconds=START_SECONDS))
    _meet(store, rank, size)
    parent = os.getppid()
    try:
        follow()
    except RuntimeError:
        if os.getppid() == parent:
            raise
        sys.exit(f"Learner {rank} ends, since learner 0 has ended. Continue the run with --resume.")


if __name__ == "__main__":
    _main()
