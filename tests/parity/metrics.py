"""Metrics: the release's name and ours."""

MODEL = {
    "kl_loss": "model/kl_loss",
    "image_loss": "model/image_loss",
    "reward_loss": "model/reward_loss",
    "discount_loss": "model/discount_loss",
    "model_kl": "model/kl",
    "prior_ent": "model/prior_entropy",
    "post_ent": "model/posterior_entropy",
}
BEHAVIOR = {
    "actor_loss": "behavior/actor_loss",
    "critic_loss": "behavior/critic_loss",
    "reward_mean": "behavior/reward_mean",
    "reward_std": "behavior/reward_std",
    "reward_normed_mean": "behavior/normed_reward_mean",
    "reward_normed_std": "behavior/normed_reward_std",
    "critic_slow": "behavior/target_value",
    "critic_target": "behavior/return_mean",
    "actor_ent": "behavior/actor_entropy",
    "actor_ent_scale": "behavior/entropy_weight",
    "critic": "behavior/value",
    "actor_grad_mix": "behavior/dynamics_weight",
    "actor_grad_norm": "behavior/actor_gradient_norm",
    "critic_grad_norm": "behavior/critic_gradient_norm",
}
