"""Learning what to do, inside the world model."""

from reverie.behavior.behavior import Behavior, BehaviorLoss
from reverie.behavior.imagination import Trajectory, imagine
from reverie.behavior.returns import lambda_return

__all__ = ["Behavior", "BehaviorLoss", "Trajectory", "imagine", "lambda_return"]
