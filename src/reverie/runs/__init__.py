"""The folder of a run, for every program that writes or reads it.

`layout.py` names its files, `run_folder.py` locks it, `checkpoints/` holds agents and counters to resume from,
`metrics.py` reads the rows that `metrics_file.py` writes, `provenance.py` records each start, `verify.py` compares all
checksums, and `digest.py` is one hash over everything that was computed.
"""
