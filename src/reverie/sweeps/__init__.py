"""Sweeps: many runs from one plan, environments x variants x seeds, in processes of their own, resumable.

Start with `plan.py`, which reads a plan and expands it into runs. `status.py` reads what they have reached,
`scheduler.py` runs the rest, `view.py` shows it, `ablation.py` compares the results.
"""
