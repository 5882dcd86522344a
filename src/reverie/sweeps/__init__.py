"""Sweeps: many runs from one plan, in child processes on this machine or in a Ray cluster, resumable.

Start with `plan.py`. `planned_runs.py` expands a plan into runs, `executor.py` runs them, as processes on this machine
(`processes.py`) or elsewhere (`ray_process.py`), `status.py` reads their progress from their folders, `ablation.py`
compares their scores. `search.py` lets Optuna choose settings, as its own plan says (`search_plan.py`).
"""
