"""Nothing in the package takes data for programs; see SECURITY.md."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "reverie"
FORBIDDEN = {
    *("eval", "exec", "compile", "__import__"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load", "cloudpickle.loads"),
    *("torch.load", "torch.jit.load", "numpy.load", "np.load", "marshal.loads", "marshal.load", "shelve.open"),
    *("yaml.load", "joblib.load", "os.system", "subprocess.getoutput"),
}
PRIVATE = {"envs/workers.py": {"pickle.loads"}}
"""Messages between our own processes, over a socket pair."""


def calls(tree: ast.AST) -> set[str]:
    """Names of everything that is called."""
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_data_are_run(path: Path) -> None:
    allowed = PRIVATE.get(str(path.relative_to(SOURCE)), set())
    tree = ast.parse(path.read_text())
    assert not calls(tree) & FORBIDDEN - allowed
    shells = [
        node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg in ("shell", "allow_pickle")
    ]
    assert not shells


def test_it_would_be_found() -> None:
    assert calls(ast.parse("import torch\nx = [torch.load(p)]")) & FORBIDDEN == {"torch.load"}
