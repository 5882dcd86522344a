"""Figures of learning curves: what is averaged, what is drawn apart, and what is written in them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from reverie.analysis.plot import grouped, plot_learning_curve
from reverie.analysis.runs import find_runs
from reverie.errors import ReverieError, RunError
from tests.helpers.fake_runs import write_rows, write_run


def make_run(
    folder: Path, env: str = "ALE/Pong-v5", rows: int = 30, loss: str = "model/image_loss", **settings: Any
) -> Path:
    write_run(folder, env=env, **settings)
    written = []
    for index in range(rows):
        row = {"step": index * 10, "frames": index * 40, "time": index * 2.0, "updates": index}
        row |= {loss: 3763 + 1000 * 0.7**index, "model/kl": 8.0, "episode/return": float(index)}
        written.append(row | ({"eval/return": index + 1.0} if index % 5 == 0 else {}))
    write_rows(folder, written)
    return folder


def draw(paths: Sequence[Path], out: Path, metric: str = "return", rows: int | None = None) -> Path:
    return plot_learning_curve(find_runs(paths)[0], out, metric, rows)


def texts(svg: Path) -> list[str]:
    """Return what is written in a figure; identical texts are drawn once and used again."""
    return re.findall(r"<!-- (.*?) -->", svg.read_text())


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_plot_twice_writes_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    runs = [make_run(tmp_path / str(seed), rows=20 + seed, seed=seed) for seed in range(2)]
    out = tmp_path / "new" / f"curve{suffix}"
    assert draw(runs, out) == out
    first = out.read_bytes()
    assert draw(runs, out).read_bytes() == first
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    if suffix == ".png":
        picture = Image.open(out)
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(1 << 24) or []) > 50


def test_plot_draws_the_published_curve_as_far_as_the_runs_go(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "dmc/walker-walk", rows=4000)  # 159,960 frames: five points of 30,000
    out = plot_learning_curve(find_runs([run])[0], tmp_path / "curve.svg", published=True)
    assert "DreamerV2 from pixels, published (n=5)" in texts(out)
    bare = draw([run], tmp_path / "bare.svg")
    assert not any("published" in text for text in texts(bare))


@pytest.mark.parametrize(
    ("env", "metric", "message"),
    [
        ("ALE/Pong-v5", "return", "no published curve of return in ALE/Pong-v5 up to 1.16k frames"),
        ("CartPole-v1", "return", "no published curve of return in CartPole-v1"),
        ("dmc/walker-walk", "model/kl", "no published curve of model/kl in dmc/walker-walk"),
    ],
    ids=["short", "unknown", "other metric"],
)
def test_plot_published_without_a_curve_is_refused(tmp_path: Path, env: str, metric: str, message: str) -> None:
    runs, _ = find_runs([make_run(tmp_path / "run", env)])
    with pytest.raises(ReverieError, match=message):
        plot_learning_curve(runs, tmp_path / "curve.svg", metric, published=True)
    assert not (tmp_path / "curve.svg").exists()


def test_plot_of_two_environments_names_them_and_averages_seeds(tmp_path: Path) -> None:
    pong = [make_run(tmp_path / f"pong{seed}", seed=seed) for seed in range(2)]
    boxing = make_run(tmp_path / "boxing", "ALE/Boxing-v5", loss="model/vector_loss")
    found = draw([*pong, boxing / "metrics.jsonl"], tmp_path / "curve.svg")
    for label in (
        "ALE/Pong-v5, training (n=2)",
        "ALE/Pong-v5, evaluation (n=2)",
        "ALE/Boxing-v5, training (n=1)",
        "environment frames",
    ):
        assert label in texts(found), label
    assert "fill-opacity: 0.18" in found.read_text()  # the band of the two runs of Pong
    assert "not recorded" not in texts(found)
    alone = draw([boxing], tmp_path / "alone.svg")
    assert "fill-opacity: 0.18" not in alone.read_text() and "ALE/Boxing-v5" in texts(alone)


def test_plot_of_two_settings_draws_them_apart_by_what_differs(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a", seed=0), make_run(tmp_path / "b", seed=1, world_model__discount=0.9)]
    found = draw(runs, tmp_path / "curve.svg")
    assert "fill-opacity: 0.18" not in found.read_text()
    labels = texts(found)
    assert "atari-small, training (n=1)" in labels
    assert "atari-small, world_model.discount=0.9, training (n=1)" in labels
    assert not [label for label in labels if "n=2" in label]


def test_grouped_runs_differ_in_the_seed_alone(tmp_path: Path) -> None:
    make_run(tmp_path / "1", seed=0)
    make_run(tmp_path / "2", seed=1, planned=2_000_000, training__eval_every=5)
    make_run(tmp_path / "3", seed=2, training__precision="fp32")
    make_run(tmp_path / "4", seed=3, variant="gaussian-latents")
    make_run(tmp_path / "5", "ALE/Boxing-v5", seed=0)
    groups = grouped(find_runs([tmp_path])[0])
    assert {name: [run.path.name for run in group] for name, group in groups.items()} == {
        "ALE/Pong-v5, atari-small, training.precision=auto": ["1", "2"],
        "ALE/Pong-v5, atari-small, training.precision=fp32": ["3"],
        "ALE/Pong-v5, atari-small, gaussian-latents, training.precision=auto": ["4"],
        "ALE/Boxing-v5, atari-small, training.precision=auto": ["5"],
    }


def test_grouped_runs_of_one_seed_are_no_seeds(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, seed=0) for name in ("first", "again")]
    assert list(grouped(find_runs(runs)[0])) == [str(run) for run in runs]


def test_plot_of_runs_of_unequal_length_says_where_the_mean_ends(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / str(seed), rows=rows, seed=seed) for seed, rows in enumerate((20, 30))]
    labels = texts(draw(runs, tmp_path / "curve.svg"))
    assert "training (n=2, to 760 frames)" in labels
    assert "evaluation (n=2, to 600 frames)" in labels


def test_plot_of_a_run_of_one_row_says_that_nothing_is_recorded(tmp_path: Path) -> None:
    write_run(tmp_path / "short")
    write_rows(tmp_path / "short", [{"step": 1, "frames": 4, "time": 0.5, "updates": 0, "model/kl": 3.0}])
    assert "not recorded" in texts(draw([tmp_path / "short"], tmp_path / "curve.svg"))


def test_plot_metric_draws_any_column_of_a_sweep(tmp_path: Path) -> None:
    for seed in range(2):
        make_run(tmp_path / "sweep" / "pong" / str(seed), seed=seed)
    found = draw([tmp_path / "sweep"], tmp_path / "curve.svg", "model/kl")
    assert {"model/kl", "model/kl (n=2)", "ALE/Pong-v5"} <= set(texts(found))


def test_plot_smooth_keeps_the_raw_curve_faint(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    faint = "stroke-opacity: 0.3"
    assert faint not in draw([run], tmp_path / "raw.svg", "model/image_loss").read_text()
    assert draw([run], tmp_path / "even.svg", "model/image_loss", rows=5).read_text().count(faint) == 1


@pytest.mark.parametrize(
    "wrong, near", [("model/imgae_loss", "model/image_loss"), ("kl", "model/kl"), ("retrun", "return")]
)
def test_plot_unknown_metric_is_refused_with_the_nearest(tmp_path: Path, wrong: str, near: str) -> None:
    run = make_run(tmp_path / "run")
    with pytest.raises(ReverieError, match=rf"No run has the metric '{wrong}'; did you mean .*{near}"):
        draw([run], tmp_path / "curve.svg", wrong)
    assert not (tmp_path / "curve.svg").exists()


def test_plot_mistakes_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with pytest.raises(ReverieError, match=r"\.svg, \.png, \.pdf"):
        draw([run], tmp_path / "curve.jpg")
    with pytest.raises(RunError, match="no run that can be read"):
        draw([], tmp_path / "curve.svg")
    (tmp_path / "file").touch()
    with pytest.raises(ReverieError, match="Cannot write"):
        draw([run], tmp_path / "file" / "curve.svg")
