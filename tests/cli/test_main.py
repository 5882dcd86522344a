"""What the command line refuses and how, its help, and that it starts without PyTorch."""

import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from reverie import training
from reverie.cli import main as cli
from reverie.config import PRESETS, flatten, option
from reverie.errors import EnvError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line: exit status, standard output, standard error."""
    monkeypatch.setenv("COLUMNS", "100")

    def _run(*argv: str) -> tuple[int, str, str]:
        status = cli.main(list(argv))
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return _run


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing was to be trained")

    monkeypatch.setattr(training, "train_config", refuse)


MISUSES = {
    "tran": "There is no command 'tran'; did you mean train?",
    "xyz": "There is no command 'xyz'; the commands are train, eval, ",
    "--verson": "There is no command '--verson'; ",
    "train X --stepz 3": "reverie train has no option '--stepz'; did you mean --steps?",
    "train X --prest atari": "reverie train has no option '--prest'; did you mean --preset?",
    "train X --logdri a": "reverie train has no option '--logdri'; did you mean --logdir?",
    "train X --world-model.kl.scal 3": "has no option '--world-model.kl.scal'; did you mean --world-model.kl.scale?",
    "train X --kl.scale 3": "has no option '--kl.scale'; did you mean --world-model.kl.scale",
    "train X --lr=3": "optimizer.lr or --",
    "train X --qqqq 3": "reverie train has no option '--qqqq'; see reverie train --help.",
    "train X -s 3": "reverie train has no option '-s'",
    "train X --world-model.kl 3": "has no option '--world-model.kl'; did you mean --world-model.kl.scale?",
    "train X --steps": "--steps needs a value.",
    "train X --steps --seed 1": "--steps needs a value.",
    "train X --steps 3 --training.steps 4": "--training.steps is given twice.",
    "train": "The environment is missing. Type reverie train ENV; reverie list envs shows what is installed.",
    "train --config a.toml --preset debug": "--preset and --config are both given. Name the preset in the",
    "train X --overwrite": "--overwrite needs the folder of the run: --logdir DIR.",
    "train X --env Y": "The environment is given twice, as X and Y. Give one.",
    "train X --env.name Y": "The environment is given twice, as X and Y. Give one.",
    "train X --env.grayscale": "--env.grayscale needs true or false.",
    "train X --log tensorboard --log none": "--log none is given together with a logger. Nothing was started.",
    "train X --resume": "--resume needs the folder of the run: --logdir DIR.",
    "eval x --epsiodes 3": "reverie eval has no option '--epsiodes'; did you mean --episodes?",
    "eval x --world-model.kl.scale 3": "reverie eval has no option '--world-model.kl.scale'",
    "eval x --episodes 0": "--episodes is 0, but at least 1 is needed.",
    "dream x --context 0": "--context is 0, but at least 1 is needed.",
    "dream x --out a.jpg": "--out is a.jpg, but its name must end in .gif, .mp4 or .png.",
    "plot": "Say what to draw: reverie plot RUN...",
    "bench": "The command is not complete. Type one of reverie bench train-step, reverie bench collect, ",
    "bench --json": "There is no command 'bench --json'; did you mean bench loop?",
    "bench trainstep": "There is no command 'bench trainstep'; did you mean bench train-step?",
    "list": "The command is not complete. Type one of reverie list presets, reverie list variants, ",
    "list preset": "There is no command 'list preset'; did you mean list presets?",
    "eval": "RUN is missing. Type reverie eval --help.",
    "config": "SOURCE is missing. Type reverie config --help.",
    "eval x --episodes many": "invalid literal for int() with base 10: 'many'. Type reverie eval --help.",
    "eval x --device gpu": "invalid choice 'gpu' for argument '--device'.",
    "eval x --episodes": "Missing value for argument '--episodes'.",
    "eval a b": "Unrecognized options: b. Type reverie eval --help.",
    "train X --device": "--device needs a value.",
    "bench train-step --repeats 0": "--repeats is 0, but at least 1 is needed.",
    "bench train-step --repeets 3": "reverie bench train-step has no option '--repeets'; did you mean --repeats?",
    "bench collect --repeats -1": "--repeats is -1, but at least 1 is needed.",
    "bench collect --seconds 0": "--seconds is 0, but it must be above 0.",
    "bench collect --seconds nan": "--seconds is nan, but it must be above 0.",
    "bench replay --batches 0": "--batches is 0, but at least 1 is needed.",
    "bench replay --steps 50": "--steps is 50, but at least 51 are needed for sequences of 50.",
    "bench replay --folder /nowhere": "--folder is /nowhere, but there is no such folder.",
    "bench loop --updates 0": "--updates is 0, but at least 1 is needed.",
    "bench loop --resume": "reverie bench loop has no option '--resume'",
    "list envs --family atri": "There is no family 'atri'; did you mean Atari?",
}


@pytest.mark.parametrize("line", MISUSES)
@pytest.mark.usefixtures("no_training")
def test_a_wrong_command_line_is_one_sentence_and_status_2(run: Run, line: str) -> None:
    status, out, err = run(*line.split())
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert MISUSES[line] in err


SWITCH = "world_model.normalize_vectors is 'maybe', but it must be true or false."
MISTAKES = {
    "train X --preset atrai": "There is no preset 'atrai'; did you mean atari?",
    "train X --preset debug --steps many": "training.steps is 'many', but it must be a whole number.",
    "train X --preset debug --steps 10": "training.steps is 10, but training.prefill alone takes 200",
    "train X --preset debug --world-model.kl.scale linear(1": "world_model.kl.scale: 'linear(1' is not a schedule",
    "train X --preset debug --behavior.actor.optimizer.lr -1": "behavior.actor.optimizer.lr is -1.0, but",
    "train --config nowhere.toml": "The configuration nowhere.toml cannot be read: No such file or directory.",
    "train CartPol-v1": "did you mean CartPole-v1",
    "train CartPole-v1 --world-model.normalize-vectors maybe": SWITCH,
    "train --world-model.normalize-vectors maybe CartPole-v1": SWITCH,
    "train CartPole-v1 --preset debug --resume --logdir x --world-model.normalize-vectors=maybe": SWITCH,
    "train CartPole-v1 --preset debug --world-model.normalize-vectors maybe --logdir x --steps 300": SWITCH,
    "bench train-step --preset debug --world-model.normalize-vectors maybe --repeats 3 --json": SWITCH,
    "config atari --precision fp16": "training.precision is 'fp16', but it must be one of auto, fp32, bf16.",
    "bench train-step --preset atrai": "There is no preset 'atrai'; did you mean atari?",
    "bench train-step --preset debug --replay.batch-size 50000000": "A batch of replay.batch_size=50000000 x",
    "bench collect --preset debug --env.name CartPol-v1": "did you mean CartPole-v1",
    "bench loop --preset debug --env.name CartPol-v1": "did you mean CartPole-v1",
    "bench loop --preset debug --env.num-envs 0": "env.num_envs is 0, but it must be at least 1.",
    "eval /nowhere": "There is nothing at /nowhere",
    "dream /nowhere": "There is nothing at /nowhere",
    "plot /nowhere": "/nowhere",
}


@pytest.mark.parametrize("line", MISTAKES)
@pytest.mark.usefixtures("no_training")
def test_a_users_mistake_is_one_sentence_and_status_1(run: Run, line: str) -> None:
    status, out, err = run(*line.split())
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert MISTAKES[line] in err


def test_errors_of_the_library_have_no_stack_trace(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise EnvError("The environment [broke] down.")

    monkeypatch.setattr(training, "train_config", fail)
    status, _, err = run("train", "X", "--preset", "debug", "--logdir", "somewhere")
    assert (status, err) == (1, "error: The environment [broke] down.\n")


def test_interruption(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, words in ((KeyboardInterrupt(), "Interrupted."), (KeyboardInterrupt("Saved there."), "Saved there.")):

        def stop(*_: Any, problem: BaseException = error, **__: Any) -> None:
            raise problem

        monkeypatch.setattr(training, "train_config", stop)
        status, _, err = run("train", "X", "--preset", "debug", "--logdir", "somewhere")
        assert (status, err) == (130, f"{words}\n")


def test_a_program_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(training, "train_config", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["train", "X", "--preset", "debug", "--logdir", "somewhere"])


# Help


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["help"], []])
def test_help_lists_every_command(run: Run, argv: list[str]) -> None:
    status, out, err = run(*argv)
    assert (status, err) == (0, "")
    for name in cli.COMMANDS:
        assert re.search(rf"• {name} +[A-Z]", out)


def test_version(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("--version")[1] in {"reverie (version unknown: not installed)\n", f"reverie {installed_version()}\n"}
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"1.2.3 of {name}")
    assert run("--version") == (0, "reverie 1.2.3 of reverie\n", "")


def installed_version() -> str | None:
    try:
        return importlib.metadata.version("reverie")
    except importlib.metadata.PackageNotFoundError:
        return None


@pytest.mark.parametrize("names", [name.split() for name in cli.COMMANDS])
def test_help_of_each_command(run: Run, names: list[str]) -> None:
    for argv in ([*names, "--help"], ["help", *names]):
        status, out, err = run(*argv)
        assert (status, err) == (0, "")
        assert out.startswith(f"usage: reverie {' '.join(names)} [-h]")


def flat(text: str) -> str:
    """Help without its frames and line ends."""
    return re.sub(r"[\s│]+", " ", text)


@pytest.mark.parametrize("name", ["debug", "atari-paper"])
def test_help_of_train_has_every_setting_with_the_presets_value(run: Run, name: str) -> None:
    help_text = flat(run("train", "X", "--preset", name, "--help")[1]).partition("show this help")[2]
    for path, value in flatten(PRESETS[name].config).items():
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        # Up to the next option: the setting's own text, which ends in its value.
        text = re.search(rf" {re.escape(option(path))} ((?! --\w).)*", help_text)
        assert text, path
        assert re.search(rf"\(default: '?{re.escape(shown)}'?\)", text.group()), path


def test_help_shows_what_was_set_on_the_same_line(run: Run) -> None:
    for line in ("train --steps 77_000 --preset=atari --help", "train -h CartPole-v1 --steps 77_000 --logdir b"):
        assert "(default: 77000)" in flat(run(*line.split())[1])


def test_help_without_a_preset_takes_that_of_the_environment(run: Run) -> None:
    for line, name in (("train --help", "atari"), ("train --logdir d CartPole-v1 -h", "vector")):
        assert f"(default: {PRESETS[name].config.training.steps})" in flat(run(*line.split())[1])


def test_help_of_train_shows_common_options_first(run: Run) -> None:
    text = run("train", "--help")[1]
    places = [
        text.index(f"{name} ") for name in ("--preset", "--log", "--steps", "--env.num-envs", "--replay.capacity")
    ]
    assert places == sorted(places)
    assert places[-1] < text.index("--world-model.discount")


def test_help_breaks_lines_only_at_the_width(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "129")
    assert "the output layers of critic, reward" in run("train", "--help")[1]  # a line ends there in the source


# Cost


@pytest.mark.parametrize("line", ["--help", "--version", "tran", "list presets", "config atari", "train --help"])
def test_pytorch_is_not_imported_for_nothing(line: str) -> None:
    code = (
        "import sys; from reverie.cli.main import main; main(sys.argv[1:]); "
        "sys.exit(len({'torch', 'gymnasium', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, *line.split()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_closed_pipe_is_no_error() -> None:
    code = "import sys; from reverie.cli.main import main; sys.exit(main(['train', '--help']))"
    program = f'{sys.executable} -c "{code}" | head -n 1'
    done = subprocess.run(program, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("usage: reverie train")
    assert done.stderr == ""
