"""DreamerV2, in plain PyTorch.

Read in this order:

    agent.py            Dreamer: one update from the batch to the three optimizers
    world_model.py      WorldModel: preprocessing, loss, KL balancing, reward and discount head
    encoder_decoder.py  Encoder and Decoder for images and vectors
    rssm.py             RSSM: GRU, prior, posterior
    latents.py          categorical, Gaussian and binary latent states
    imagination.py      imagine: rollouts of the actor inside the world model
    actor_critic.py     lambda-return, actor and critic loss, target critic
    heads.py            Actor, Critic, RewardNorm
    recurrent_policy.py RecurrentPolicy: from observations to actions
    distributions.py    straight-through samples, one-hot, truncated normal, tanh normal
    layers.py           Dense, MLP, LayerNorm, initialisation
    optimizer.py        the release's Adam

s_t is the paper's stochastic state z_t, and z_t = [s_t, h_t] are the features, its model state.

Letters of shapes: T time, B batch, H horizon, H1 = H + 1, N rollouts or environments, A action, F features, E
embedding, D deterministic state, Z sample, S variables, K classes, [P, Q] statistics, V vector observation. Tensors are
time-major. "SPEC n" is row n of docs/fidelity.md, a golden file is one of tests/golden.
"""

from reverie.dreamer.agent import Dreamer
from reverie.dreamer.recurrent_policy import ActState, RecurrentPolicy
from reverie.dreamer.rssm import State

__all__ = ["ActState", "Dreamer", "RecurrentPolicy", "State"]
