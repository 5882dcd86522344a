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
ACTOR_CRITIC = {
    "actor_loss": "actor/loss",
    "critic_loss": "critic/loss",
    "reward_mean": "imagination/reward_mean",
    "reward_std": "imagination/reward_std",
    "reward_normed_mean": "imagination/normed_reward_mean",
    "reward_normed_std": "imagination/normed_reward_std",
    "critic_slow": "critic/target_value",
    "critic_target": "imagination/return_mean",
    "actor_ent": "actor/entropy",
    "actor_ent_scale": "actor/entropy_weight",
    "critic": "critic/value",
    "actor_grad_mix": "actor/dynamics_weight",
    "actor_grad_norm": "actor/gradient_norm",
    "critic_grad_norm": "critic/gradient_norm",
}
