"""The environments' thread: one for all work, and it leaves the learner alone."""

import threading
from collections.abc import Iterator

import pytest
import torch
from reverie.training.background import Background, Inline
from torch import nn

from reverie.training import background

CPU = torch.device("cpu")


@pytest.fixture
def worker() -> Iterator[Background]:
    worker = Background(CPU)
    yield worker
    worker.close()


def test_all_work_in_one_thread_in_order(worker: Background) -> None:
    done: list[int] = []
    futures = [worker.start(lambda i=i: (done.append(i), threading.current_thread())[1]) for i in range(20)]
    threads = {future.result() for future in futures}
    assert done == list(range(20))
    assert len(threads) == 1
    assert threads != {threading.current_thread()}


def test_errors_arrive_and_work_goes_on(worker: Background) -> None:
    def fail() -> None:
        raise SystemExit("an environment that calls exit()")

    with pytest.raises(SystemExit, match="calls exit"):
        worker.start(fail).result()
    assert worker.start(lambda: 3).result() == 3
    with pytest.raises(SystemExit, match="calls exit"):
        Inline().start(fail)
    assert Inline().start(lambda: 3).result() == 3


def test_it_computes_with_one_thread_and_all_others_with_as_many_as_before() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    worker = Background(CPU)
    later: list[int] = []
    try:
        assert worker.start(torch.get_num_threads).result() == 1
        assert torch.get_num_threads() == 2
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert later == [2]
    finally:
        torch.set_num_threads(before)
        worker.close()


def test_it_leaves_the_learners_converted_weights_alone(worker: Background) -> None:
    """Under autocast two uses of a weight share one conversion, whatever happens in the thread between them.

    If not, their gradients would be summed in another precision, depending on when a decision was made.
    """

    def decide() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            torch.ones(2, 2) @ torch.ones(2, 2)

    def conversions(out: torch.Tensor) -> set[object]:
        found, nodes = set(), [out.grad_fn]
        while nodes:
            node = nodes.pop()
            found |= {node} if node is not None and "ToCopy" in node.name() else set()
            nodes += [parent for parent, _ in node.next_functions] if node is not None else []
        return found

    layer = nn.Linear(2, 2, bias=False)
    with torch.autocast("cpu", torch.bfloat16):
        first = layer(torch.ones(1, 2))
        worker.start(decide).result()
        second = layer(torch.ones(1, 2))
    assert len(conversions(first)) == 1
    assert conversions(first) == conversions(second)


def test_work_that_does_not_end_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "PATIENCE", 0.05)
    worker, released = Background(CPU), threading.Event()
    future = worker.start(released.wait)
    worker.close()
    assert not future.done()
    released.set()
    assert future.result()
