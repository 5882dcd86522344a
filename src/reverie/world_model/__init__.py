"""Learning what the world does: encoder, RSSM, heads, objective."""

from reverie.world_model.model import ModelLoss, WorldModel
from reverie.world_model.rssm import RSSM, State

__all__ = ["RSSM", "ModelLoss", "State", "WorldModel"]
