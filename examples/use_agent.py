"""Load a trained agent and let it act, step by step: `python examples/use_agent.py runs/demo`."""

import sys
from dataclasses import replace

import numpy as np

import reverie

agent = reverie.load(sys.argv[1])
policy = reverie.AgentPolicy(agent, mode="mode")  # keeps the latent state; `is_first` in an observation resets it
env = reverie.make_env(replace(agent.config.env, num_envs=1), seed=1)
obs, score = env.reset(np.array([True])), 0.0
while not obs["is_last"][0]:
    obs = env.step(policy(obs))
    score += float(obs["reward"][0])
env.close()
print(f"score {score}")
