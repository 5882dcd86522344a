"""Load a trained agent and let it act, step by step: `python examples/use_agent.py runs/demo`."""

import sys
from dataclasses import replace

import numpy as np

import reverie

agent = reverie.load(sys.argv[1])
env = reverie.make_env(replace(agent.config.env, num_envs=1), seed=1)
obs, state, score = env.reset(np.array([True])), None, 0.0
while not obs["is_last"][0]:
    action, state = agent.act(obs, state, deterministic=True)  # state=None at the start; is_first resets it
    obs = env.step(action)
    score += float(obs["reward"][0])
env.close()
print(f"score {score}")
