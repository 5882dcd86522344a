"""What a run folder says about where it came from."""

import json
from pathlib import Path

import torch

import reverie
from reverie.config import load_config, preset
from reverie.runs.provenance import Launch, read_provenance, record_launch

FP32, BF16 = (preset("debug").override(device="cpu", precision=precision) for precision in ("fp32", "bf16"))


def test_each_start_is_noted_and_the_first_names_stay(tmp_path: Path) -> None:
    record_launch(tmp_path, Launch("atari", "no-gru-norm", "reverie train A"), 0, FP32)
    record_launch(tmp_path, Launch(None, None, "reverie train A --resume"), 500, BF16)
    about = json.loads((tmp_path / "about.json").read_text())
    assert (about["preset"], about["variant"]) == ("atari", "no-gru-norm")
    assert [(start["step"], start["command"]) for start in about["starts"]] == [
        (0, "reverie train A"),
        (500, "reverie train A --resume"),
    ]
    assert about["starts"][0]["torch"] == torch.__version__
    assert [(start["device"], start["precision"]) for start in about["starts"]] == [("cpu", "fp32"), ("cpu", "bf16")]
    assert read_provenance(tmp_path / "about.json") == ("atari", "no-gru-norm", tuple(about["starts"]))


def test_a_damaged_note_is_written_anew(tmp_path: Path) -> None:
    for damaged in ("{", "[]", '{"starts": 3}'):
        (tmp_path / "about.json").write_text(damaged)
        record_launch(tmp_path, Launch("atari"), 7, FP32)
        about = read_provenance(tmp_path / "about.json")
        assert [start["step"] for start in about.starts] == [7]
        assert about.preset == "atari"


def test_a_run_is_described(tmp_path: Path) -> None:
    settings = {"steps": 60, "prefill": 50, "pretrain": 1, "train_every": 50, "eval_every": 0, "video_every": 0}
    for steps in (60, 70):
        settings["steps"] = steps
        reverie.train("CartPole-v1", "debug", logdir=tmp_path, variant="no-gru-norm", resume=True, **settings)
    about = read_provenance(tmp_path / "about.json")
    assert (about.preset, about.variant) == ("debug", "no-gru-norm")
    assert [start["step"] for start in about.starts] == [0, 60]
    assert load_config(tmp_path / "config.toml").world_model.rssm.gru_layer_norm is False
