"""Whole reports on runs with known numbers: tables, notes and files."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reverie.analysis.published import VARIANTS, curve
from reverie.analysis.report import Report, report_runs
from reverie.analysis.runs import read_run
from reverie.analysis.scores import published_at, references, variants_of
from reverie.errors import ReverieError
from reverie.runs.run_folder import RunFolder
from tests.helpers.fake_runs import write_run
from tests.helpers.html_page import Page
from tests.helpers.two_agents import BOXING, PONG, level, write_two_agents

CARTPOLE = "CartPole-v1"
Make = Callable[..., tuple[Report, Page]]


@pytest.fixture
def report(tmp_path: Path) -> Make:
    """A report on everything in `tmp_path/runs`."""

    def _report(**arguments: Any) -> tuple[Report, Page]:
        made = report_runs([tmp_path / "runs"], tmp_path / "out", **arguments)
        return made, Page(made.page.read_text(encoding="utf-8"))

    return _report


def test_numbers(tmp_path: Path, report: Make) -> None:
    write_two_agents(tmp_path / "runs")
    made, page = report()
    heads, *rows = page.tables["scores"]
    assert heads == [
        "environment", "agent", "n", "mean", "s.d.", "95 % interval", "random", "gamer", "record", "DQN", "C51",
        "Rainbow", "IQN", "DreamerV2 (release), same frames", "DreamerV2 (release), final",
    ]  # fmt: skip
    # Published: 85.62 is the curve's only point from 1.8M to 2M.
    boxing = ["0.10", "12.10", "100.0", "77.99", "81.40", "98.56", "97.91"]
    same = f"{published_at(BOXING, 'release', 2e6):.2f}"
    # 12.1 ± t(2 degrees) 6 / sqrt(3), with t = 4.303.
    first = ["ALE/Boxing-v5at 2M frames", "atari-small", "3", "12.10", "6.00", "−2.80 to 27.00"]
    assert rows[0] == [*first, *boxing, same, "90.49"]
    assert rows[1][:5] == ["ALE/Boxing-v5at 2M frames", "atari-small, gaussian-latents", "3", "3.10", "0.00"]
    assert rows[2][1:5] == ["atari-small", "3", "14.60", "0.00"]
    assert rows[3][1:8] == [
        "atari-small, gaussian-latents", "3", "−20.70", "0.00", "−20.70 to −20.70", "−20.70", "14.60",
    ]  # fmt: skip
    aggregates = {row[0]: row[1:] for row in page.tables["aggregates-atari"][1:]}
    # full: boxing 0.5, 1, 1.5 and pong 1, 1, 1; of these six the lowest and the highest are left out.
    full = [cell.split(" ")[0] for cell in aggregates["atari-small"]]
    assert full == ["3", "1.000", "1.000", "1.000", f"{(12 / 99.9 + 35.3 / 41.7) / 2:.3f}", full[4]]
    assert aggregates["atari-small, gaussian-latents"] == [
        "3", "0.125 [0.125, 0.125]", "0.125 [0.125, 0.125]", "0.125 [0.125, 0.125]", "0.015 [0.015, 0.015]",
        "0.015 [0.015, 0.015]",
    ]  # fmt: skip
    # DQN: boxing 77.89 / 12, pong 37.31 / 35.3.
    assert aggregates["DQN, published"][2] == f"{(77.89 / 12 + 37.31 / 35.3) / 2:.3f}"
    assert len(page.tables["runs"]) == 13
    assert made.notes == [] == page.notes


def test_page_is_whole_and_accessible(tmp_path: Path, report: Make) -> None:
    write_two_agents(tmp_path / "runs")
    made, page = report()
    html = made.page.read_text(encoding="utf-8")
    assert not page.unclosed
    assert len(page.ids) == len(set(page.ids))
    assert not [link for link in page.links if not link.startswith(("#", "data:"))]
    assert "<script" not in html
    assert not re.search(r"url\((?!#)", html)
    assert page.headings[0] == "2 agents in ALE/Boxing-v5 and ALE/Pong-v5"
    assert all(head.get("scope") in ("col", "colgroup", "row", "rowgroup") for head in page.heads)
    assert len(page.labels) == 2
    assert page.labels[0] == (
        "Learning curves in ALE/Boxing-v5: atari-small, 3 seeds, mean 12.10; atari-small, "
        "gaussian-latents, 3 seeds, mean 3.10 at 2M frames."
    )
    for reference in re.findall(r'(?:url\(#|href="#|aria-\w+by=")([^")]+)', html):
        assert reference in page.ids
    assert page.tables["runs"][1][-2:] == ["0123abc", "A processor, threads 1, torch 2.13.0"]
    assert "reverie train ALE/Boxing-v5 --preset atari-small --seed 2 --logdir full-2" in html


def test_files(tmp_path: Path, report: Make) -> None:
    write_two_agents(tmp_path / "runs")
    made, _ = report()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["index.html", "report.json"]
    data = json.loads(made.data.read_text())
    assert data == json.loads(json.dumps(made.json(), allow_nan=False))
    assert [len(data[name]) for name in ("scores", "runs")] == [4, 12]
    first = data["scores"][0]
    assert (first["n"], first["seeds"], first["mean"], first["references"]["Rainbow"]) == (3, [0, 1, 2], 12.1, 98.56)
    assert first["normalised"]["gamer"] == pytest.approx(1.0)
    assert first["interval"] == pytest.approx([12.1 - 14.905, 12.1 + 14.905], abs=1e-3)
    assert first["interval_method"] == "Student t, 95 %"
    assert data["runs"][2]["score"] == 18.1
    assert data["aggregates"]["atari"]["agents"]["atari-small"]["gamer_iqm"]["point"] == pytest.approx(1.0)
    assert data["page"].endswith("index.html")


def test_what_is_wrong_is_named(tmp_path: Path, report: Make) -> None:
    folder = tmp_path / "runs"
    gauss = {"variant": "gaussian-latents"}
    for seed in (0, 1, 2):
        write_run(folder / f"a{seed}", seed=seed, evaluations=level(1))
    write_run(folder / "b0", seed=0, evaluations=level(2), **gauss)
    write_run(folder / "b1", seed=1, evaluations=level(3), reached=800_000, **gauss)
    write_run(folder / "b1-again", seed=1, evaluations=level(9), reached=100_000, **gauss)
    write_run(folder / "a3", seed=3, evaluations=level(100), reached=300_000)
    write_run(folder / "pong", env=PONG, seed=0, evaluations=level(0))
    write_run(
        folder / "pole", env=CARTPOLE, preset="vector", evaluations=None, training=level(50), planned=20_000, every=1000
    )
    (write_run(folder / "damaged", seed=7) / "metrics.jsonl").write_text('{"step": 1, "frames": 4}\n?\n{"step": 2}\n')
    with RunFolder.hold(folder / "a2"):
        _, page = report()
    rows = {(row[0], row[1]): row[2:4] for row in page.tables["scores"][1:]}
    # The run that stopped at 800k ends the comparison; the one that stopped at 300k is not counted, nor its 100 seen.
    assert rows["ALE/Boxing-v5at 800k frames", "atari-small"] == ["3", "1.00"]
    assert rows["ALE/Boxing-v5at 800k frames", "atari-small, gaussian-latents"] == ["2", "2.50"]
    assert rows["CartPole-v1at 20k frames", "vector"] == ["1", "50.00"]
    text = "\n".join(page.notes)
    for expected in (
        r"Unreadable\. runs/damaged takes no part: .*line 2 is damaged",
        r"Twice\. atari-small, gaussian-latents in ALE/Boxing-v5, seed 1 \(runs/b1-again\) takes no part",
        r"Running\. atari-small in ALE/Boxing-v5, seed 2 \(runs/a2\) still runs and has reached 1M of 1M frames",
        r"Stopped\. .*seed 1 \(runs/b1\) stopped at 800k of 1M frames\. It is counted, and the comparison ends with it",
        r"Stopped\. .*seed 3 \(runs/a3\) stopped at 300k of 1M frames\. It is not counted at 800k frames\.",
        r"Shorter\. ALE/Boxing-v5: scores are compared at 800k frames; the longest run has 1M",
        r"Missing runs\. atari-small, gaussian-latents in ALE/Boxing-v5: there is no run of seeds 2 and 3",
        r"Missing runs\. atari-small in ALE/Pong-v5: there is no run of seeds 1, 2 and 3",
        r"Missing runs\. atari-small, gaussian-latents in ALE/Pong-v5: there is no run of any seed",
        r"Training episodes\. vector in CartPole-v1, seed 0 \(runs/pole\) had no evaluation",
        r"Not in aggregates\. ALE/Pong-v5: not every agent has a score there",
    ):
        assert re.search(expected, text), expected
    assert "vector in" not in "\n".join(note for note in page.notes if "no run" in note)


def test_seeds_that_aggregates_leave_out_are_named(tmp_path: Path, report: Make) -> None:
    for seed in range(3):
        write_run(tmp_path / "runs" / f"a{seed}", seed=seed, evaluations=level(12.1 if seed < 2 else 1000))
    for seed in range(2):
        write_run(tmp_path / "runs" / f"p{seed}", env=PONG, seed=seed, evaluations=level(14.6))
    made, page = report()
    assert re.search(r"Not in aggregates\. atari-small: ALE/Boxing-v5 seed 2\.", "\n".join(page.notes))
    assert made.statistics[0].aggregates["atari-small"]["gamer_mean"].point == pytest.approx(1.0)


def test_one_run(tmp_path: Path, report: Make) -> None:
    write_run(tmp_path / "runs", evaluations=level(12.1), about=False)
    made, page = report()
    assert page.headings[0] == "atari-small in ALE/Boxing-v5"
    assert page.tables["scores"][1][1:6] == ["atari-small", "1", "12.10", "–", "one seed"]
    assert made.json()["scores"][0]["interval"] == "one seed"
    assert page.tables["aggregates-atari"][1][1:3] == ["1", "1.000"]
    assert "do not say by which commands" in made.page.read_text(encoding="utf-8")
    assert not page.unclosed


def test_an_environment_without_references_has_an_interval(tmp_path: Path, report: Make) -> None:
    run = {"env": CARTPOLE, "preset": "vector", "planned": 20_000, "every": 1000}
    for seed in range(2):
        write_run(tmp_path / "runs" / str(seed), seed=seed, evaluations=level(100 * (1 + seed)), **run)
    made, page = report()
    assert page.tables["scores"][0] == ["environment", "agent", "n", "mean", "s.d.", "95 % interval"]
    # 150 ± t(1 degree) 70.7 / sqrt(2), with t = 12.706.
    row = ["CartPole-v1at 20k frames", "vector", "2", "150.0", "70.71", "−485.3 to 785.3"]
    assert page.tables["scores"][1] == row
    assert set(page.tables) == {"scores", "runs"}
    assert (made.statistics, len(page.labels)) == ([], 1)


def test_control_suite(tmp_path: Path, report: Make) -> None:
    run = {"env": "dm_control/walker-walk-v0", "preset": "dmc-vision", "planned": 200_000, "every": 10_000}
    for seed in range(2):
        write_run(tmp_path / "runs" / str(seed), seed=seed, evaluations=level(100 * (1 + seed)), **run)
    made, page = report()
    heads, row = page.tables["scores"]
    assert heads[6:] == ["DreamerV2 (release), same frames", "DreamerV2 (release), final"]
    assert row[3] == "150.0"
    assert float(row[6]) > 0
    assert made.statistics[0].aggregates["dmc-vision"]["dmc_mean"].point == pytest.approx(0.15)


def test_other_sticky_actions_and_commits_are_pointed_out(tmp_path: Path, report: Make) -> None:
    path = write_run(tmp_path / "runs" / "a", evaluations=level(1), env__sticky_actions=0.0)
    write_run(tmp_path / "runs" / "b", seed=1, evaluations=level(1), env__sticky_actions=0.0)
    about = json.loads((path / "about.json").read_text())
    about["starts"][0]["commit"] = "fedcba9"
    (path / "about.json").write_text(json.dumps(about))
    _, page = report()
    assert re.search(r"Other protocol\. ALE/Boxing-v5: sticky actions p=0\.0 instead of 0\.25", "\n".join(page.notes))
    assert re.search(r"Several commits\. .*fedcba9 and 0123abc", "\n".join(page.notes))
    assert [row[-2] for row in page.tables["runs"]] == ["commit", "fedcba9", "0123abc"]


def test_different_precisions_are_pointed_out(tmp_path: Path, report: Make) -> None:
    for name, precision in (("a", "bf16"), ("b", "fp32")):
        about = write_run(tmp_path / "runs" / name, seed=ord(name), evaluations=level(1)) / "about.json"
        content = json.loads(about.read_text())
        content["starts"][0] |= {"device": "cpu" if precision == "fp32" else "A card", "precision": precision}
        about.write_text(json.dumps(content))
    _, page = report()
    assert re.search(r"Several precisions\. .*bf16 and fp32", "\n".join(page.notes))
    assert page.tables["runs"][0][-1] == "machine"
    machines = [row[-1].split(", ") for row in page.tables["runs"][1:]]
    assert [(processor, precision) for processor, _, precision, _ in machines] == [
        ("A card", "bf16"),
        ("A processor", "fp32"),
    ]


def test_frames_that_are_asked_for(tmp_path: Path, report: Make) -> None:
    write_run(tmp_path / "runs", evaluations=lambda frames: frames / 1e5)
    _, page = report(frames=500_000)
    assert page.tables["scores"][1][:4] == ["ALE/Boxing-v5at 500k frames", "atari-small", "1", "4.75"]
    assert any("compared at 500k frames" in note for note in page.notes)


def test_names_are_escaped(tmp_path: Path, report: Make) -> None:
    write_run(tmp_path / "runs", env="mine:<b>&-v0", preset="vector", planned=20_000, every=1000)
    made, page = report()
    assert not page.unclosed
    assert "mine:<b>&-v0" in page.headings
    assert "<b>&-v0" not in made.page.read_text(encoding="utf-8")


def test_an_unwritable_folder(tmp_path: Path, report: Make) -> None:
    write_run(tmp_path / "runs")
    (tmp_path / "out").write_text("")
    with pytest.raises(ReverieError, match="Cannot write"):
        report()


# References


def test_published_scores_at_frames() -> None:
    # Alien, schedules: 419.25, 759.75, 1047.75 at 1M, 2M and 3M.
    assert published_at("ALE/Alien-v5", "schedules", 1e6) == 419.25
    assert published_at("ALE/Alien-v5", "schedules", 1.5e6) == pytest.approx((419.25 + 759.75) / 2)
    assert math.isnan(published_at("ALE/Alien-v5", "schedules", 0.9e6))
    assert references("ALE/Alien-v5", 1e6, VARIANTS)["DreamerV2 (schedules), final"] == 4227.17
    for variant in VARIANTS:
        assert math.isnan(published_at(CARTPOLE, variant, 1e6))
    end = published_at("ALE/Alien-v5", "release", 200e6)
    line = curve("ALE/Alien-v5", "release")
    assert line is not None
    assert end == pytest.approx(line.mean[line.frames >= 180e6].mean())


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("atari", "release"),
        ("atari-paper", "schedules"),
        ("article", "schedules"),
        ("atari-small", "release"),
        ("atari-laptop", "release"),  # its entropy falls by a schedule of its own
    ],
)
def test_variants_of_a_preset(tmp_path: Path, name: str, variant: str) -> None:
    for about in (True, False):
        run = read_run(write_run(tmp_path / str(about), preset=name, about=about, every=500_000))
        assert variants_of([run]) == (variant,)


def test_runs_without_scores_have_no_aggregates(tmp_path: Path, report: Make) -> None:
    write_run(tmp_path / "runs", evaluations=level(12.1))
    made, page = report(frames=1e12)
    assert page.tables["scores"][1][2] == "0"
    assert not made.statistics
