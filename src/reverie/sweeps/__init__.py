"""Sweeps: many runs from one plan, environments x variants x seeds, in child processes, resumable.

Start with `plan.py`. `planned_runs.py` expands a plan into runs, `executor.py` runs them, `status.py` reads their
progress from their folders, `ablation.py` compares their scores.
"""
