"""The folder of a run, for every program that writes or reads it.

`run_folder.py` has the layout and the lock, `checkpoints/` the agents and counters to resume from, `metrics.py` the
rows of `metrics.jsonl`, `launches.py` the command and versions of each start, `verify.py` the checksums of everything,
and `digest.py` one hash over all that was computed.
"""
