"""Faster implementations of modules of `reverie.dreamer`; `dreamer` works without this package.

Start with `optimize.py`. Each fast class is a subclass of the plain one:

    filtering.py     FastRSSM: filtering of sequences as one function
    imagination.py   FastActorCritic: rollouts without gradients
    features.py      SparseFeatures: features of one-hot states
    dense.py         FastDense, FastMLP
    convolutions.py  FastConvLayer; strided.py, strided_bf16.py: the convolutions below it
    adam.py          FusedAdam
    policy.py        weights of policies that only act
    cuda_graphs.py   GraphedDreamer (experimental)
    compiled.py      CompiledRSSM (experimental)
    replaced.py      the plain code that each kernel replaces
    operations.py    operations on a CPU; library.py, compiler.py, csrc: the C code below them
    memory.py        reuse of freed memory
"""

from reverie.kernels.memory import tune_malloc
from reverie.kernels.optimize import NAMES, compiles, optimize

__all__ = ["NAMES", "compiles", "optimize", "tune_malloc"]
