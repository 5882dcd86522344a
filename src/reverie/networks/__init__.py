"""Layers, distributions and the optimizer: everything that knows nothing of reinforcement learning."""
