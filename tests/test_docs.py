"""What the documentation says exists: files, functions, commands, options, settings, and the values of the presets."""

import ast
import contextlib
import importlib
import itertools
import operator
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from reverie.agents import build_agent, num_parameters
from reverie.bench.examples import example_spec
from reverie.cli.main import COMMANDS
from reverie.cli.parser import SettingsCommand, parse
from reverie.config import PATHS, PRESETS, resolve, to_toml
from reverie.errors import ConfigError, DataError, EnvError

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
OTHERS = {"--index-url", "--extra-index-url", "--help", "--version"}
"""Options of pip, and those of every command."""
GROUPS = ("env", "world_model", "behavior", "replay", "training")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose(name: str) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", text(name))


def shell_lines(name: str) -> Iterator[str]:
    """Lines of code blocks, fenced without a language or indented."""
    for language, block in FENCE.findall(text(name)):
        if language in ("", "sh", "bash", "shell", "console"):
            yield from block.splitlines()
    yield from (line.strip() for line in prose(name).splitlines() if line.startswith("    "))


def commands(name: str) -> list[list[str]]:
    """Arguments of every `reverie ...` that stands complete in a code block or a code span."""
    found = []
    for line in [*shell_lines(name), *SPAN.findall(prose(name))]:
        line = re.sub(r"^(\$ )?([A-Z_]+=\S+ )*", "", line)
        if not line.startswith("reverie "):
            continue
        words = shlex.split(line, comments=True)[1:]
        if words and words != ["COMMAND", "--help"] and "..." not in words:
            found.append(words)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_links(name: str) -> None:
    folder = (ROOT / name).parent
    for label, target in LINK.findall(prose(name)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = folder / file if file else ROOT / name
        assert path.exists(), f"{name}: {target}"
        assert not anchor or anchor in anchors(path), f"{name}: {target}"
        code = re.fullmatch(r"`((?:\w+\.)*\w+)`", label)
        if code and path.suffix == ".py":
            assert defines(path.resolve(), code[1]), f"{name}: {label} is not in {target}"


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def defines(path: Path, qualified_name: str) -> bool:
    """Return whether a module of the package has an object, or another file a class or function of its last name."""
    if path.is_relative_to(ROOT / "src"):
        module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
        try:
            operator.attrgetter(qualified_name)(importlib.import_module(module))
        except AttributeError:
            return False
        return True
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    names = {node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    return qualified_name.rpartition(".")[2] in names


@pytest.mark.parametrize(
    "name, header, num_rows", [("docs/how-it-works.md", "You look for", 30), ("docs/fidelity.md", "#", 54)]
)
def test_links_table_of_places_has_one_in_each_row(name: str, header: str, num_rows: int) -> None:
    lines = text(name).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {header} |"))
    rows = list(itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :]))
    rows = [row for row in rows if not row.startswith("| | **")]  # titles of sections
    assert len(rows) >= num_rows
    for row in rows:
        assert LINK.search(row.rstrip("| ").rpartition("|")[2]), row


@pytest.mark.parametrize("name", NAMES)
def test_commands(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # The files that the commands name: the page's own TOML, and that of a run.
    for language, block in FENCE.findall(text(name)):
        if language == "toml":
            (tmp_path / "mine.toml").write_text(block)
    (tmp_path / "runs" / "cartpole").mkdir(parents=True)
    of_run = PRESETS["vector"].config.for_env("CartPole-v1")
    (tmp_path / "runs" / "cartpole" / "config.toml").write_text(to_toml(of_run))
    monkeypatch.chdir(tmp_path)
    for words in commands(name):
        # Placeholders stand for a preset and a suite that exist.
        words = [{"PRESET": "atari", "SUITE": "minatar-quick"}.get(word, word) for word in words if word != "--help"]
        if not arguments(words):
            continue  # only mentioned
        try:
            command = parse(COMMANDS, words)
            if isinstance(command, SettingsCommand):
                with contextlib.suppress(EnvError, DataError):  # placeholders, and what the reader has
                    command.base().config.override(**command.settings)  # reads the file of --config
        except (SystemExit, Exception) as error:
            pytest.fail(f"{name}: reverie {' '.join(words)}: {error}")


def arguments(words: list[str]) -> list[str]:
    """Return what follows the name of a command."""
    for name in COMMANDS:
        if words[: len(name.split())] == name.split():
            return words[len(name.split()) :]
    assert any(name.startswith(f"{words[0]} ") for name in COMMANDS), words
    return []


@pytest.mark.parametrize("name", NAMES)
def test_options_and_settings(name: str) -> None:
    known = set(PATHS)
    own = {
        f"--{field}"
        for field in (
            "preset",
            "config",
            "env",
            "from",
            "keep",
            "fresh",
            "offline",
            "prefill-from",
            "log",
            "overwrite",
            "quiet",
            "logdir",
            "resume",
            "json",
            "out",
            "context",
            "horizon",
            "episodes",
            "variant",
        )
    }
    own |= OTHERS | {"--repeats", "--family", "--seed", "--device"}
    own |= {
        "--seeds",
        "--dry-run",
        "--engine",
        "--address",
        "--trials",
        "--suite",
        "--report",
        "--published",
        "--workers",
        "--retry",
        "--frames",
        "--log",
        "--metric",
        "--smooth",
    }
    own |= {"--seconds", "--batches", "--folder", "--updates", "--holdout", "--parts", "--repair"}
    own |= {"--env", "--render", "--video", "--fps"}
    own |= {"--format", "--sheet", "--port", "--host", "--example"}
    page = re.sub(r"(pip install|python benchmarks/|torchrun|ray start).*", "", text(name))  # options of other programs
    for flag in set(re.findall(r"(?<![\w-])--[a-z][\w.-]*[\w]", page)) - own:
        assert config_path(flag.removeprefix("--")) in known, f"{name}: {flag}"
    for span in SPAN.findall(prose(name)):
        path = span.partition("=")[0].partition(" ")[0]
        if re.fullmatch(rf"({'|'.join(GROUPS)})(\.[a-z_]+)+", path) and not path.endswith((".py", ".db")):
            assert config_path(path), f"{name}: {span}"


def config_path(name: str) -> str:
    try:
        return resolve(name, PATHS)
    except ConfigError:
        return ""


@pytest.mark.parametrize("name", NAMES)
def test_python_is_valid(name: str) -> None:
    for language, block in FENCE.findall(text(name)):
        if language == "python":
            ast.parse(block)


def test_the_duration_of_minatar_is_the_measured_one_everywhere() -> None:
    measured = "91 minutes"
    assert measured in re.sub(r"(?s).*\n## MinAtar\n(.*?)\n## .*", r"\1", text("docs/results.md"))
    row = next(line for line in text("docs/configuration.md").splitlines() if line.startswith("| `minatar` |"))
    for place in (row, PRESETS["minatar"].description):
        assert re.findall(r"\S+ (?:hours?|minutes?)\b", place) == [measured], place


def test_table_of_presets() -> None:
    """Every preset has a row in docs/configuration.md, with its number of parameters."""
    table = re.findall(r"^\| `([a-z0-9-]+)` \|.*\| ([0-9.]+)M[^|]*\|$", text("docs/configuration.md"), re.M)
    assert sorted(name for name, _ in table) == sorted(PRESETS)
    for name, millions in table:
        agent = build_agent(PRESETS[name].config, example_spec(name))
        assert num_parameters(agent) / 1e6 == pytest.approx(float(millions), rel=0.05), name
