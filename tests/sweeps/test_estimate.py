"""Arithmetic of the time left, by hand and by a simulation second by second."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from reverie.sweeps.planned_runs import PlannedRun
from reverie.sweeps.status import Estimate, Pace, RunProgress, RunStatus, State, SweepStatus, makespan
from reverie.sweeps.view import done_words, estimate_words
from tests.helpers.sweeps import STEPS, grid


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def progress(frames: float, seconds: float, first: tuple[float, float] = (50.0, 10.0), updates: int = 0) -> RunProgress:
    return RunProgress(int(frames), frames, seconds, updates, None if frames < first[0] else first)


def sweep_of(runs: list[PlannedRun], *known: RunProgress, workers: int = 1) -> SweepStatus:
    """A sweep whose first runs are running, with the progress that is known of them."""
    clock = Clock()
    sweep = SweepStatus("fake", Path("nowhere"), workers, [RunStatus(run, Path("nowhere"), clock) for run in runs])
    for status, each in zip(sweep.runs, known, strict=False):
        status.start()
        status.progress = each
    return sweep


def test_pace_starts_at_the_first_row_after_an_update() -> None:
    (status,) = sweep_of(grid(seeds=1)).runs
    paces = []
    for status.progress in (progress(40, 2), progress(50, 10), progress(150, 60)):
        paces.append(status.pace)
    assert paces == [None, None, Pace(overhead=10, base=50, per_frame=0.5)]


def test_left_counts_overhead_until_the_first_row() -> None:
    pace = Pace(overhead=10, base=50, per_frame=0.5)
    assert pace.left(200, RunProgress()) == 10 + 150 * 0.5
    assert pace.left(200, progress(40, 4)) == 6 + 150 * 0.5  # six seconds of random steps and pretraining are left
    assert pace.left(200, progress(150, 60)) == 25


def test_paces_are_those_of_the_most_similar_runs() -> None:
    runs = grid(envs=("A-v0", "B-v0"), variants=("full", "no-gru-norm"), seeds=2)
    sweep = sweep_of(runs)
    by_name = {status.run.name: status for status in sweep.runs}
    pace_of = sweep.paces()
    assert pace_of(sweep.runs[0]) == (None, False)
    by_name["B-v0 full seed 0"].progress = progress(150, 110)
    pace, is_borrowed = sweep.paces()(by_name["A-v0 full seed 0"])
    assert pace is not None and pace.per_frame == 1 and is_borrowed  # of the same preset
    by_name["A-v0 full seed 0"].progress, by_name["A-v0 full seed 1"].progress = progress(150, 60), progress(150, 80)
    for name in ("A-v0 full seed 0", "A-v0 no-gru-norm seed 0"):  # of both seeds; of the same environment
        pace, is_borrowed = sweep.paces()(by_name[name])
        assert pace is not None and pace.per_frame == (0.5 + 0.7) / 2 and not is_borrowed


def test_estimate_by_hand() -> None:
    """Two workers: 25 s are left of the running one, 85 s of each of two others; 25 + 85 next to 85."""
    runs = grid(seeds=3)
    assert runs[0].frames == STEPS == 200
    assert sweep_of(runs, progress(150, 60), workers=2).estimate() == Estimate(110, 0)
    assert sweep_of(runs, progress(150, 60), workers=1).estimate() == Estimate(25 + 85 + 85, 0)
    assert sweep_of(runs, workers=2).estimate() == Estimate(None, 3)
    assert sweep_of([], workers=2).estimate() == Estimate(0, 0)


def test_estimate_words_name_what_is_unknown_or_borrowed() -> None:
    sweep = sweep_of(grid(envs=("A-v0", "B-v0"), seeds=1), progress(150, 60))
    assert sweep.estimate() == Estimate(25 + 85, 0, borrowed=1)
    assert estimate_words(sweep.estimate()) == "about 0:01:50 left: 1 by the pace of other environments"
    assert estimate_words(Estimate(25, 1)) == "at least 0:00:25 left: nothing like 1 of the runs is measured yet"
    assert estimate_words(Estimate(None, 2)) == "time left unknown until something is measured"
    assert estimate_words(Estimate(3725, 0)) == "1:02:05 left"


def test_estimate_counts_down_between_rows(tmp_path: Path) -> None:
    clock, runs = Clock(), grid(seeds=2)
    sweep = SweepStatus("fake", tmp_path, 1, [RunStatus(run, tmp_path, clock) for run in runs])
    status = sweep.runs[0]
    status.folder.path.mkdir(parents=True)
    rows = ((50, 10, 1), (150, 60, 50))
    clock.now = 60.0
    status.start()
    with status.folder.metrics.open("w") as file:
        for frames, seconds, updates in rows:
            file.write(f'{{"step": {frames}, "frames": {frames}, "time": {seconds}, "updates": {updates}}}\n')
    status.read_metrics()
    assert sweep.estimate() == Estimate(25 + 85, 0)
    assert status.frames_per_second == 2
    clock.now = 70.0
    status.read_metrics()
    assert sweep.estimate() == Estimate(15 + 85, 0)
    assert (status.fraction, sweep.fraction) == (0.75, 0.375)
    status.state = State.FAILED
    assert sweep.estimate() == Estimate(85, 0)


def test_done_words_show_pretraining_while_frames_do_not_rise() -> None:
    (status,) = sweep_of(grid(seeds=1)).runs
    settings = status.run.config.training
    planned = settings.pretrain_world_model + settings.pretrain
    words = []
    for frames, updates in ((40, 0), (50, planned // 2), (50, planned), (60, planned + 3)):
        status.progress = progress(frames, 9, updates=updates)
        words.append(done_words(status))
    assert words == ["20%", "25%, pretraining 50%", "25%", "30%"]


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
