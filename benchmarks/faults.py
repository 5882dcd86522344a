"""Train for 10,000 steps in environments that fail at random in six ways, and check what is stored and counted.

    python benchmarks/faults.py --out results/faults.jsonl

Two environments in worker processes, of which each step may raise an error, exit, end its process, be killed by SIGKILL
or SIGSEGV, or hang; a tiny agent. Once collecting between updates, once during them. The run must come to its end; its
count of failures must be the number of messages about them; every stored episode must be what one environment has shown
from its reset on, to its end or to where it failed; and every file must be valid.
"""

import re
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from reporting import Report, messages, parser

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import reverie  # noqa: E402
from reverie.config import EnvConfig  # noqa: E402
from reverie.envs import make_env  # noqa: E402
from reverie.runs.metrics import read_metrics  # noqa: E402
from reverie.runs.verify import verify  # noqa: E402
from tests.helpers.environments import Unreliable  # noqa: E402
from tests.helpers.stored_episodes import check_stored  # noqa: E402

KINDS = {
    "raises": "the motor is on fire",
    "exits": "SystemExit",
    "leaves": "exit status 7",
    "SIGKILL": "killed by signal 9",
    "SIGSEGV": "killed by signal 11",
    "hangs": r"did not answer within 0\.5 seconds",
}
"""Ways in which `Unreliable` fails, and words of the message about each."""
RESTARTED = "It was restarted; its episode counts as truncated"
SETTINGS: dict[str, Any] = {
    "env.num_envs": 2,
    "env.step_timeout": 0.5,
    "env.max_restarts_per_hour": 1_000_000,
    "threads": 1,
    "seed": 0,
    "prefill": 200,
    "train_every": 20,
    "eval_every": 0,
    "video_every": 0,
    "log_every": 500,
    "checkpoint_every": 500,
}


def train(folder: Path, steps: int, probability: float, async_collection: str) -> dict[str, Any]:
    """Train once, and return what was found in the folder."""
    environment = partial(Unreliable, *KINDS, probability=probability)
    environment.__qualname__ = "Unreliable"  # type: ignore[attr-defined]
    settings = {**SETTINGS, "steps": steps, "async_collection": async_collection}
    with messages() as said:
        agent = reverie.train(environment, "debug", logdir=folder, quiet=True, **settings)
    rows = read_metrics(folder)
    with make_env(EnvConfig(num_envs=2, parallel=False), 0, partial(Unreliable, probability=0.0)) as env:
        truncated = check_stored(folder / "replay.db", env)
    text = " ".join(said)
    return {
        "async_collection": async_collection,
        "steps": int(rows[-1]["step"]),
        "probability": probability,
        "restarts_counted": int(rows[-1].get("env/restarts", 0)),
        "restarts_reported": text.count(RESTARTED),
        "kinds": {kind: len(re.findall(words, text)) for kind, words in KINDS.items()},
        "episodes_truncated": truncated,
        "updates": agent.updates,
        "damage": [f"{finding.path} {finding.what}" for finding in verify(folder).damage],
    }


def main() -> int:
    """Train twice, print, and compare."""
    options_parser = parser(__doc__)
    options_parser.add_argument("--steps", type=int, default=10_000)
    options_parser.add_argument("--probability", type=float, default=0.01, help="of a failure in each step")
    options = options_parser.parse_args()
    is_good = True
    for async_collection in ("off", "on"):
        report = Report(options.out)
        with tempfile.TemporaryDirectory() as temporary:
            row = train(Path(temporary), options.steps, options.probability, async_collection)
            report.write(row, Path(temporary))
        is_good &= row["steps"] >= options.steps and not row["damage"]
        is_good &= row["restarts_counted"] == row["restarts_reported"] > 0 and all(row["kinds"].values())
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
