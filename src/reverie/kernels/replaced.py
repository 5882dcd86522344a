"""Code of `reverie.dreamer` that kernels replace: a kernel is used only where it is what the kernel computes.

An equation that is changed in `dreamer/` takes effect: its fingerprint differs, and no kernel that replaces it is used.
Where kernel and equation are both changed, the new fingerprint is written here.
"""

import hashlib
import inspect
import io
import pkgutil
import textwrap
import tokenize
from typing import Any

from torch import nn

_CELL = {
    "rssm:GRUCell.forward": "0fb4a297e319",
    "rssm:RSSM.recur": "3b43881bc670",
    "layers:Dense.forward": "c90cdd42d416",
    "layers:LayerNorm.forward": "abe3ddcbd865",
    "latents:Categorical.stats": "6912c64e08fc",
    "latents:Categorical.sample": "3061b953d93d",
    "distributions:straight_through": "fa3f487adc0c",
}
REPLACED: dict[str, dict[str, str]] = {
    "filtering": {
        "rssm:RSSM.observe": "d5567337c620",
        "rssm:RSSM.observe_step": "788090b2e33a",
        "rssm:RSSM.posterior": "d4a45898be18",
        **_CELL,
    },
    "imagination": {
        "actor_critic:ActorCritic.imagine": "1cf4c2c882f2",
        "imagination:imagine": "796886be5e56",
        "imagination:imagine_states": "195f38160d9b",
        "rssm:RSSM.imagine_step": "906176bf65ea",
        "rssm:RSSM.prior": "3ddb4c1d3b96",
        "rssm:State.feat": "bfa96bc534e9",
        "heads:Actor.forward": "e07056e8877e",
        "rssm:stack_states": "b2632008db65",
        "layers:MLP.forward": "inherited",
        "distributions:OneHot.__init__": "7f25e29881d1",
        "distributions:OneHot.sample": "071547927f42",
        **_CELL,
    },
    "dense": {"layers:Dense.forward": "c90cdd42d416", "layers:MLP.forward": "inherited"},
    "convolutions": {"encoder_decoder:ConvLayer.forward": "17664a2737c5"},
    "adam": {"optimizer:Optimizer.apply": "52345a67e2d0"},
}
"""Functions that each kernel replaces, with their fingerprints; "inherited" if the class does not define the method."""
CONSTANTS = {"rssm:UPDATE_BIAS": -1.0, "layers:LAYER_NORM_EPS": 1e-3, "optimizer:BETA1": 0.9, "optimizer:BETA2": 0.999}
"""Values that the kernels contain."""


def changed(kernel: str) -> list[str]:
    """Return the names of functions and constants that are not what a kernel computes."""
    functions = [name for name, known in REPLACED.get(kernel, {}).items() if fingerprint(name) != known]
    modules = {name.split(":")[0] for name in REPLACED.get(kernel, {})}
    values = [name for name, value in CONSTANTS.items() if name.split(":")[0] in modules and _resolve(name) != value]
    return [name.split(":")[1] for name in functions + values]


def fingerprint(name: str) -> str:
    """Return a hash of a function's code, without comments, layout and docstring; empty where there is no source."""
    owner, _, method = name.rpartition(".")
    if owner and method not in vars(_resolve(owner)):
        return "inherited"
    try:
        source = textwrap.dedent(inspect.getsource(_resolve(name)))
    except (OSError, TypeError):
        return ""
    words: list[str] = []
    starts_statement = False
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        is_layout = token.type in (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT)
        is_docstring = token.type == tokenize.STRING and starts_statement
        if not is_layout and not is_docstring:
            words.append(token.string)
        if token.type != tokenize.COMMENT:
            starts_statement = is_layout
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:12]


def is_plain(module: nn.Module, *classes: type[nn.Module]) -> bool:
    """Return whether a module computes what its class says: no subclass, no patched `forward`, no hooks."""
    has_hooks = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
    return type(module) in classes and "forward" not in vars(module) and not has_hooks


def _resolve(name: str) -> Any:
    found = pkgutil.resolve_name(f"reverie.dreamer.{name}")
    return found.fget if isinstance(found, property) else found
