"""End a run at a score, and log the share of episodes that succeeded: two callbacks."""

import sys

import reverie


class StopAtScore(reverie.Callback):
    """Stop when the mean return of an evaluation reaches a score."""

    def __init__(self, score):
        self.score = score

    def on_evaluation(self, result):
        if result.mean_return >= self.score:
            return reverie.Stop(f"The evaluation scored {result.mean_return:g} and {self.score:g} was asked for.")


class CountLongEpisodes(reverie.Callback):
    """Count training episodes of at least 100 steps; a resumed run continues the count."""

    def __init__(self):
        self.count = 0

    def on_episode(self, episode):
        self.count += episode.length >= 100

    def on_end(self):
        self.run.log(f"{self.count} of {self.run.counters.episodes} episodes were long.")

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


if __name__ == "__main__":
    score = float(sys.argv[1]) if len(sys.argv) > 1 else 475
    logdir = sys.argv[2] if len(sys.argv) > 2 else "runs/stop-at-score"
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else 20_000
    settings = {"steps": steps, "prefill": 500, "eval_every": 500, "eval_episodes": 5}
    counter = CountLongEpisodes()
    agent = reverie.train(
        "CartPole-v1", preset="vector", logdir=logdir, callbacks=[StopAtScore(score), counter], **settings
    )
    print(f"{agent.agent_steps} steps, {counter.count} long episodes")
