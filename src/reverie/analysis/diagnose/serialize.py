"""A report as one JSON object."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from reverie.analysis.diagnose.report import Report
from reverie.analysis.diagnose.rules import Finding

DIGITS = 6
"""Significant ones; a sample tells less."""


def to_json(report: Report, findings: Sequence[Finding]) -> dict[str, Any]:
    """Findings and measurements, of JSON's types: numbers that are not finite are null."""
    measured = {
        **_data(report),
        "environment": report.config.env.name,
        "agent_steps": report.agent_steps,
        "frames": report.frames,
        "updates": report.updates,
        "context": report.context,
        "findings": [asdict(finding) for finding in findings],
        **_model(report),
        "value": asdict(report.values),
        "actor": asdict(report.policy),
        "learning": asdict(report.learning),
        "holdout": None if (holdout := report.holdout) is None else {**_data(holdout), **_model(holdout)},
    }
    plain: dict[str, Any] = _plain(measured)
    return plain


def _data(report: Report) -> dict[str, Any]:
    """Which replay was looked at."""
    return {
        "run": report.run,
        "steps_seen": report.steps_seen,
        "replay_steps": report.replay_steps,
        "shared_steps": report.shared_steps,
    }


def _model(report: Report) -> dict[str, Any]:
    """What the world model makes of a replay, its own or another one."""
    return {
        "latents": asdict(report.latents),
        "prediction": {key: asdict(found) for key, found in report.predictions.items()},
        "reward": asdict(report.rewards),
        "discount": None if report.discounts is None else asdict(report.discounts),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
