"""The folder of a run, for every program that writes or reads it.

`layout.py` names its files, `run_folder.py` locks it, `checkpoint.py` writes and reads the state to resume from,
`checkpoints.py` keeps the last ones and the best, `metrics.py` has the rows of metrics, `provenance.py` records each
start, `verify.py` compares all checksums, and `digest.py` is one hash over everything that was computed.
"""
