"""The set of a run's loggers: who gets what after a failure or a resume."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from reverie.errors import ConfigError
from reverie.training.loggers import LOGGERS, Logger, Loggers, make_logger
from tests.helpers.trackers import Recorder, open_loggers, video_at


def test_loggers_every_logger_gets_every_call(tmp_path: Path) -> None:
    class Other(Recorder):
        name = ""

    both = [Recorder(), Other()]
    loggers, messages = open_loggers(both, tmp_path)
    loggers.scalars(1, {"x": 2})
    loggers.video(1, "v", video_at(tmp_path / "v.gif"))
    loggers.close("interrupted")
    loggers.close("failed")
    for each in both:
        assert each.calls == [
            ("open", None),
            ("scalars", (1, {"x": 2.0})),
            ("video", (1, "v", "v.gif")),
            ("close", "interrupted"),
        ]
    assert not messages
    assert json.loads((tmp_path / "trackers.json").read_text()).keys() == {"recorder", "Other", "sha256"}


def test_logger_with_scalars_alone_is_enough(tmp_path: Path) -> None:
    class Plain(Logger):
        def scalars(self, step: int, values: Any) -> None:
            rows.append((step, values))

    rows: list[Any] = []
    loggers, messages = open_loggers([Plain()], tmp_path)
    loggers.scalars(1, {"x": 2})
    loggers.video(1, "v", video_at(tmp_path / "v.gif"))
    loggers.close("finished")
    assert (rows, messages) == ([(1, {"x": 2})], [])


def test_loggers_one_that_raises_is_left_out_after_one_message(tmp_path: Path) -> None:
    bad, good = Recorder(fail_at=2), Recorder()
    good.name = "good"  # type: ignore[misc]
    loggers, messages = open_loggers([bad, good], tmp_path)
    for step in range(1, 5):
        loggers.scalars(step, {"x": step})
    loggers.close("finished")
    assert [step for step, _ in bad.rows] == [1]
    assert [step for step, _ in good.rows] == [1, 2, 3, 4]
    assert messages == ["Logger recorder failed (the server is away). It gets no more of this run. Training continues."]
    assert bad.calls[-1] == ("close", "finished")  # a tracker may hold the run's id until it is closed


def test_loggers_one_that_cannot_open_is_left_out(tmp_path: Path) -> None:
    class Closed(Recorder):
        def open(self, *_: Any) -> str:
            raise ConnectionError

    bad = Closed()
    loggers, messages = open_loggers([bad], tmp_path)
    loggers.scalars(1, {"x": 1})
    loggers.close("finished")
    assert bad.calls == [("close", "finished")]
    assert messages == ["Logger recorder failed (ConnectionError). It gets no more of this run. Training continues."]


def test_loggers_interrupt_is_not_taken_for_a_failure(tmp_path: Path) -> None:
    class Interrupted(Recorder):
        def scalars(self, step: int, values: Any) -> None:
            raise KeyboardInterrupt

    loggers, _ = open_loggers([Interrupted()], tmp_path)
    with pytest.raises(KeyboardInterrupt):
        loggers.scalars(1, {"x": 1})


def test_loggers_resumed_run_sends_each_value_once(tmp_path: Path) -> None:
    first, second = Recorder(), Recorder()
    loggers, _ = open_loggers([first], tmp_path)
    for update in (1, 2, 3):
        loggers.scalars(update, {"pretraining/kl": 0})
    loggers.scalars(10, {"train": 10})
    loggers.scalars(20, {"train": 20})
    loggers.video(20, "v", video_at(tmp_path / "v.gif"))
    # Killed before the evaluation of step 20. The checkpoint was written amid pretraining.
    loggers, _ = open_loggers([second], tmp_path, resumed_at=5)
    loggers.scalars(3, {"pretraining/kl": 0})
    loggers.scalars(4, {"pretraining/kl": 0})
    loggers.scalars(10, {"train": 10})
    loggers.scalars(20, {"train": 20, "new": 1})
    loggers.video(20, "v", video_at(tmp_path / "v.gif"))
    loggers.scalars(20, {"eval": 21})
    loggers.scalars(30, {"train": 30})
    loggers.video(30, "v", video_at(tmp_path / "v.gif"))
    assert second.calls == [
        ("open", "id-1"),
        ("scalars", (4, {"pretraining/kl": 0})),
        ("scalars", (20, {"new": 1})),
        ("scalars", (20, {"eval": 21})),
        ("scalars", (30, {"train": 30})),
        ("video", (30, "v", "v.gif")),
    ]


def test_loggers_new_run_ignores_an_earlier_file(tmp_path: Path) -> None:
    open_loggers([Recorder()], tmp_path)[0].scalars(10, {"x": 1})
    recorder = Recorder()
    open_loggers([recorder], tmp_path)[0].scalars(10, {"x": 1})
    assert recorder.calls == [("open", None), ("scalars", (10, {"x": 1}))]


def test_loggers_one_that_is_paused_keeps_its_id(tmp_path: Path) -> None:
    open_loggers([Recorder()], tmp_path)[0].scalars(10, {"x": 1})
    open_loggers([], tmp_path, resumed_at=10)[0].scalars(20, {"x": 2})
    recorder = Recorder()
    loggers, _ = open_loggers([recorder], tmp_path, resumed_at=20)
    loggers.scalars(10, {"x": 1})
    loggers.scalars(30, {"x": 3})
    assert recorder.calls == [("open", "id-1"), ("scalars", (30, {"x": 3}))]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"recorder": null}',
        '{"recorder": {"id": "../../x", "steps": {}}}',
        '{"recorder": {"id": "x\\n", "steps": {}}}',
        '{"recorder": {"id": 3, "steps": {}}}',
        '{"recorder": {"id": "a", "steps": {"x": "1"}}}',
        '{"recorder": {"id": "a", "steps": {"x": NaN}}}',
        '{"recorder": {"id": "a", "steps": []}}',
        '{"recorder": {"id": "a"}}',
        "[" * 100_000,
        '{"recorder": {"id": "' + "a" * 2_000_000 + '", "steps": {}}}',
    ],
    ids=lambda content: content[:40],
)
def test_loggers_damaged_file_is_one_message_and_a_new_id(tmp_path: Path, content: str) -> None:
    (tmp_path / "trackers.json").write_text(content)
    recorder = Recorder()
    loggers, messages = open_loggers([recorder], tmp_path, resumed_at=5)
    loggers.scalars(6, {"x": 1})
    assert recorder.calls == [("open", None), ("scalars", (6, {"x": 1}))]
    [message] = messages
    assert message.startswith(f"{tmp_path / 'trackers.json'} ") and message.endswith("a new run of their own.")


def test_loggers_id_with_other_characters_ends_the_logger(tmp_path: Path) -> None:
    class Strange(Recorder):
        def open(self, *_: Any) -> str:
            return "../x"

    _, [message] = open_loggers([Strange()], tmp_path)
    assert message.startswith("Logger recorder failed (The tracker's id '../x' has")


def test_loggers_file_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    recorder = Recorder()
    loggers, messages = open_loggers([recorder], tmp_path)
    (tmp_path / "trackers.json").unlink()
    (tmp_path / "trackers.json").mkdir()
    loggers.scalars(1, {"x": 1})
    loggers.scalars(2, {"x": 2})
    assert [step for step, _ in recorder.rows] == [1, 2]
    [message] = messages
    assert message.startswith("Cannot write ") and "(Is a directory)" in message


def test_make_logger_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no logger 'wanda'.*tensorboard, wandb, mlflow, trackio"):
        make_logger("wanda")


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_make_logger_missing_package_names_the_extra(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=rf"pip install 'reverie\[{name}\]'") as caught:
        Loggers([name], tmp_path, print)
    assert len(str(caught.value)) <= 160


def test_make_logger_own_class_is_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOGGERS, "mine", Recorder)
    assert isinstance(make_logger("mine"), Recorder)
