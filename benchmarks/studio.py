"""How fast the studio is: decisions in the dream, frames in a browser, a thousand runs, a million rows.

    python benchmarks/studio.py --out results/studio.jsonl

`game`: steps a second of an untrained `atari-small` in Boxing, by messages to a session, one CPU thread. `browser`:
steps a second that a page asks for at most (60) and gets, with pictures, in a headless Chromium on the same machine.
`runs`: seconds until a folder of a thousand runs is read for the first time, and again, as pages that watch it need.
`rows`: the same for one run of a million rows, and for its thinned curve. `watching`: share of a core that the studio
takes while a page watches a thousand runs of which one grows. `training`: updates a second of a run on all cores, in
alternating windows without the studio, with it, and with a page that shows the run, in a browser on the same machine.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from conditions import report

ROOT = Path(__file__).resolve().parents[1]

from reverie import agents  # noqa: E402
from reverie.config import preset  # noqa: E402
from reverie.envs.make import env_spec  # noqa: E402
from reverie.runs.metrics import read_rows  # noqa: E402
from reverie.studio.runs import RunIndex  # noqa: E402
from reverie.studio.session import Session  # noqa: E402

STEPS = 150


def make_agent(folder: Path) -> Path:
    """Save an untrained `atari-small` for Boxing."""
    config = preset("atari-small").for_env("ALE/Boxing-v5")
    agents.save_agent(agents.build_agent(config, env_spec(config.env), device="cpu"), folder)
    return folder


def game(run: Path) -> dict[str, Any]:
    """Return steps a second in the dream, and in both worlds."""
    session, found = Session(run), {}
    for world in ("dream", "both"):
        session.handle({"do": "begin", "from": "env", "seed": 0})
        session.handle({"do": "step", "world": world})
        started = time.perf_counter()
        for _ in range(STEPS):
            answer = session.handle({"do": "step", "world": world})
            assert "node" in answer, answer
        found[f"{world}_steps_per_second"] = STEPS / (time.perf_counter() - started)
    session.close()
    return found


def make_runs(folder: Path, count: int, rows: int) -> None:
    """Write runs with metrics, without agents."""
    config = preset("atari-small").for_env("ALE/Boxing-v5")
    from reverie.config import to_toml

    text = to_toml(config)
    names = ("model/kl", "model/image_loss", "actor/entropy", "critic/loss", "episode/return", "perf/fps")
    lines = [
        json.dumps(
            {"step": i, "frames": 4 * i, "time": i / 9, "updates": i // 16, **{name: i % 97 / 7 for name in names}}
        )
        for i in range(1, rows + 1)
    ]
    content = "\n".join(lines) + "\n"
    for number in range(count):
        run = folder / f"run-{number:04}"
        run.mkdir(parents=True)
        (run / "config.toml").write_text(text)
        (run / "metrics.jsonl").write_text(content)


def reading(folder: Path) -> dict[str, Any]:
    """Return seconds of the first and the second look at a folder."""
    index, found = RunIndex(folder), {}
    for name in ("first_seconds", "again_seconds"):
        started = time.perf_counter()
        summaries = index.summaries()
        found[name] = time.perf_counter() - started
    return {"num_runs": len(summaries), **found}


class Server:
    """`reverie studio` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "reverie", "studio", str(folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()


def with_page(address: str, path: str, act: Any) -> Any:
    """Return what `act` returns of a page."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(address)
        page.goto(address.split("/?")[0] + path)
        found = act(page)
        browser.close()
        return found


def browser(run: Path) -> dict[str, Any]:
    """Return steps a second of a game in a page, in the dream and in both worlds."""

    def play(page: Any) -> dict[str, Any]:
        page.wait_for_selector("#actions button", timeout=60_000)
        page.check("[name=player][value=policy]")
        page.evaluate(
            "() => { const fps = document.querySelector('#fps'); fps.value = 60; document.activeElement.blur(); }"
        )
        found = {}
        for world in ("dream", "both"):
            page.evaluate(f"() => document.querySelector('[name=world][value={world}]').click()")
            page.evaluate("() => document.activeElement.blur()")

            def depth() -> int:
                return int(page.inner_text("#depth").split(" of")[0])

            page.keyboard.press("p")
            time.sleep(1)
            before, started = depth(), time.perf_counter()
            time.sleep(8)
            found[f"{world}_steps_per_second"] = (depth() - before) / (time.perf_counter() - started)
            page.keyboard.press("p")
            time.sleep(0.5)
            page.evaluate("() => document.querySelector('#new-env').click()")
            time.sleep(1.5)
        return found

    with Server(run.parent) as server:
        return with_page(server.address, f"/play/{run.name}", play)


def watching(folder: Path, seconds: float) -> dict[str, Any]:
    """Return the share of a core that the studio takes while a page watches and one run grows."""
    metrics = folder / "run-0000" / "metrics.jsonl"
    line = metrics.read_text().splitlines()[-1] + "\n"

    def watch(page: Any) -> float:
        page.wait_for_selector("#runs tbody tr", timeout=120_000)
        time.sleep(5)
        process = psutil.Process(server.process.pid)
        before, started = process.cpu_times(), time.perf_counter()
        while time.perf_counter() - started < seconds:
            time.sleep(2)
            with metrics.open("a") as file:
                file.write(line)
        after = process.cpu_times()
        spent = after.user + after.system - before.user - before.system
        return spent / (time.perf_counter() - started)

    with Server(folder) as server:
        return {"share_of_a_core": with_page(server.address, "/", watch)}


def training(folder: Path, rounds: int = 8, seconds: float = 20) -> dict[str, Any]:
    """Return the median updates a second with the studio, and with a page of the run, as shares of those without."""
    settings = {
        "preset": "demo",
        "steps": 10_000_000,
        "prefill": 2000,
        "video-every": 0,
        "eval-every": 0,
        "log-every": 50,
    }
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "reverie", "train", "ALE/Boxing-v5", *options, "--logdir", str(folder / "run")]

    def rate(_: object = None) -> float:
        time.sleep(4)
        before = read_rows(folder / "run")[-1]
        time.sleep(seconds)
        after = read_rows(folder / "run")[-1]
        return float((after["updates"] - before["updates"]) / (after["time"] - before["time"]))

    rates = defaultdict[str, list[float]](list)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (folder / "run" / "metrics.jsonl").exists() or read_rows(folder / "run")[-1]["updates"] < 100:
            time.sleep(1)
        for _ in range(rounds):
            rates["without"].append(rate())
            with Server(folder) as server:
                rates["studio"].append(rate())
                rates["page"].append(with_page(server.address, "/run/run", rate))
    finally:
        process.terminate()
        process.wait()
    shares = {name: np.array(rates[name]) / np.array(rates["without"]) for name in ("studio", "page")}
    return {
        "updates_per_second": float(np.median(rates["without"])),
        **{f"{name}_share": float(np.median(each)) for name, each in shares.items()},
        **{f"{name}_error": float(each.std(ddof=1) / rounds**0.5) for name, each in shares.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ["game", "browser", "runs", "rows", "watching", "training"]
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--out", type=Path, help="file to which rows are added")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as parent:
        runs, long = Path(parent, "runs"), Path(parent, "long")
        for part in options.parts:
            if part in ("game", "browser") and not Path(parent, "agents").exists():
                make_agent(Path(parent, "agents", "boxing"))
            if part in ("runs", "watching") and not runs.exists():
                make_runs(runs, 1_000, 200)
            if part == "rows":
                make_runs(long, 1, 1_000_000)
            if part == "game":
                found = game(Path(parent, "agents", "boxing"))
            elif part == "browser":
                found = browser(Path(parent, "agents", "boxing"))
            elif part == "watching":
                found = watching(runs, 60)
            elif part == "training":
                found = training(Path(parent))
            else:
                folder = runs if part == "runs" else long
                found = reading(folder)
                if part == "rows":
                    index = RunIndex(folder)
                    index.summaries()
                    started = time.perf_counter()
                    run = index.get("run-0000")
                    assert run is not None
                    run.series(["model/kl"])
                    found["curve_seconds"] = time.perf_counter() - started
            report({"part": part, **{key: round(value, 4) for key, value in found.items()}}, options.out)


if __name__ == "__main__":
    main()
