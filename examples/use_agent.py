"""Let a trained agent act in a Gymnasium environment: `python examples/use_agent.py runs/demo`."""

import sys

import reverie
from reverie.envs import make_gym_env

agent = reverie.load(sys.argv[1])
policy = agent.policy()
env = make_gym_env(agent.config.env)  # or any gymnasium.Env of the same spaces
obs, info = env.reset(seed=1)
policy.reset()
score, done = 0.0, False
while not done:
    obs, reward, terminated, truncated, info = env.step(policy(obs))
    score, done = score + float(reward), terminated or truncated
env.close()
print(f"score {score}")
