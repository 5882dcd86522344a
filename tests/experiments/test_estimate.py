"""Arithmetic of the time left, by hand and by a simulation second by second."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from reverie.experiments.board import Board, State
from reverie.experiments.estimate import Estimate, Pace, Paces, estimate, makespan, pace
from reverie.experiments.run_progress import Mark, RunProgress
from reverie.experiments.view import done_words, estimate_words
from tests.helpers.sweeps import STEPS, grid


def progress(frames: float, seconds: float, first: tuple[float, float] | None = (50.0, 10.0)) -> RunProgress:
    mark = None if first is None or frames < first[0] else Mark(*first)
    return RunProgress(int(frames), Mark(frames, seconds), mark)


def test_pace_starts_at_the_first_row_after_an_update() -> None:
    assert pace(progress(150, 60)) == Pace(overhead=10, base=50, per_frame=0.5)
    assert pace(progress(50, 10)) is None
    assert pace(progress(40, 2)) is None


def test_left() -> None:
    one = Pace(overhead=10, base=50, per_frame=0.5)
    assert one.left(200, RunProgress()) == 10 + 150 * 0.5
    assert one.left(200, progress(40, 4)) == 6 + 150 * 0.5  # six seconds of random steps and pretraining are left
    assert one.left(200, progress(150, 60)) == 25
    assert one.left(200, progress(150, 60), since=20) == 5
    assert one.left(200, progress(150, 60), since=30) == 0


def test_the_most_similar_cells_say_the_pace() -> None:
    cells = grid(envs=("A-v0", "B-v0"), variants=("full", "no-gru-norm"), seeds=2)
    a_full, a_bare, b_full = cells[0], cells[1], cells[2]
    paces = Paces([(a_full, progress(150, 60)), (b_full, progress(150, 110)), (cells[4], progress(150, 80))])
    assert (cells[4].env, cells[4].variant, cells[4].seed) == ("A-v0", "full", 1)
    found = paces.of(a_full)
    assert found is not None
    assert found.per_frame == (0.5 + 0.7) / 2  # of both seeds
    found = paces.of(a_bare)
    assert found is not None
    assert found.per_frame == (0.5 + 0.7) / 2  # of the same environment
    only_b = Paces([(b_full, progress(150, 110))]).of(a_full)
    assert only_b is not None
    assert only_b.per_frame == 1  # of the same preset
    assert Paces([(a_full, RunProgress())]).of(a_full) is None


def test_estimate_by_hand() -> None:
    """Two workers: 25 s are left of the running cell, 85 s of each of two others; 25 + 85 beside 85."""
    cells = grid(seeds=3)
    assert cells[0].frames == STEPS == 200
    paces = Paces([(cells[0], progress(150, 60))])
    running = [(cells[0], progress(150, 60), 0.0)]
    waiting = [(cells[1], RunProgress()), (cells[2], RunProgress())]
    assert estimate(running, waiting, paces, 2) == Estimate(110, 0)
    assert estimate(running, waiting, paces, 1) == Estimate(25 + 85 + 85, 0)
    assert estimate(running, waiting, Paces([]), 2) == Estimate(None, 3)
    assert estimate([], [], paces, 2) == Estimate(0, 0)


def test_what_resembles_nothing_is_said_to_be_unknown() -> None:
    (known,) = grid(seeds=1)
    strange = replace(known, env="C-v0", preset="vector")
    found = estimate(
        [(known, progress(150, 60), 0.0)], [(strange, RunProgress())], Paces([(known, progress(150, 60))]), 1
    )
    assert found == Estimate(25, 1)
    assert estimate_words(found) == "at least 0:25 left: nothing like 1 of the cells is measured yet"
    assert estimate_words(Estimate(None, 2)) == "time left unknown until something is measured"
    assert estimate_words(Estimate(3725, 0)) == "1:02:05 left"


def test_a_pace_of_another_environment_is_said_to_be() -> None:
    a, b = grid(envs=("A-v0", "B-v0"), seeds=1)
    found = estimate([(a, progress(150, 60), 0.0)], [(b, RunProgress())], Paces([(a, progress(150, 60))]), 1)
    assert found == Estimate(25 + 85, 0, borrowed=1)
    assert estimate_words(found) == "about 1:50 left: 1 by the pace of other environments"
    both = Paces([(a, progress(150, 60)), (b, progress(150, 60))])
    assert estimate([(a, progress(150, 60), 0.0)], [(b, RunProgress())], both, 1) == Estimate(110, 0)


def test_the_board_counts_down_between_rows() -> None:
    now = 0.0
    board = Board(grid(seeds=2), 1, lambda: now)
    assert board.estimate() == Estimate(None, 2)
    entry = board.entries[0]
    entry.state = State.RUNNING
    now = 60.0
    entry.update_progress(progress(150, 60), now)
    assert board.estimate() == Estimate(25 + 85, 0)
    assert board.left(entry) == 25
    assert entry.frames_per_second == 2
    now = 70.0
    entry.update_progress(progress(150, 60), now)  # the same row again
    assert board.estimate() == Estimate(15 + 85, 0)
    assert (entry.fraction, board.fraction, board.elapsed) == (0.75, 0.375, 70)
    entry.state = State.FAILED
    assert board.estimate() == Estimate(85, 0)


def test_pretraining_is_shown_while_frames_stand_still() -> None:
    cell = grid()[0]
    cell = replace(cell, config=cell.config.override(pretrain_world_model=80, pretrain=20))
    entry = Board([cell], 1, lambda: 0.0).entries[0]
    words = []
    for frames, first, updates in ((40, None, 0), (50, (50, 10), 46), (50, (50, 20), 100), (60, (50, 20), 103)):
        entry.progress = replace(progress(frames, 9, first), updates=updates)
        words.append(done_words(entry))
    assert words == ["20%", "25%, pretraining 46%", "25%", "30%"]


@given(st.lists(st.integers(0, 9), max_size=3), st.lists(st.integers(0, 9), max_size=6), st.integers(1, 4))
def test_makespan_is_that_of_a_simulation(running: list[int], waiting: list[int], workers: int) -> None:
    running = running[:workers]
    busy, queue, seconds = list(running), list(waiting), 0
    while True:
        busy = [left for left in busy if left > 0]
        while queue and len(busy) < workers:
            busy.append(queue.pop(0))
            busy = [left for left in busy if left > 0]
        if not busy:
            break
        busy, seconds = [left - 1 for left in busy], seconds + 1
    assert makespan([float(n) for n in running], [float(n) for n in waiting], workers) == seconds
