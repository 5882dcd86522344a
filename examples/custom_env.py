"""Train on an environment of your own: any `gymnasium.Env`, given as a function or class that creates it."""

import sys

import gymnasium as gym
import numpy as np

import reverie


class Corridor(gym.Env):
    """Walk right to the end of a corridor."""

    observation_space = gym.spaces.Box(0, 1, (8,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position = 0
        return np.eye(8, dtype=np.float32)[self.position], {}

    def step(self, action):
        self.position = max(0, self.position + (1 if action == 1 else -1))
        arrived = self.position == 7
        return np.eye(8, dtype=np.float32)[self.position], float(arrived), arrived, False, {}


if __name__ == "__main__":
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000
    logdir = sys.argv[2] if len(sys.argv) > 2 else "runs/corridor"
    settings = {"env.time_limit": 50, "prefill": 500, "eval_every": 500}
    agent = reverie.train(Corridor, preset="vector", logdir=logdir, steps=steps, **settings)
    print(f"{agent.updates} updates in {agent.agent_steps} steps")
