"""`reverie diagnose`: what a world model has learnt, what is wrong with it, and what to try.

`examine.py` reads a run and passes its data through the model once, for `statistics.py`, `prediction.py` and
`learning.py` to measure; `rules.py` draws conclusions by `rules.toml`; `page.py` and `picture.py` show them.
"""

from reverie.analysis.diagnose.examine import Report, examine
from reverie.analysis.diagnose.rules import RULES, Finding, find

__all__ = ["RULES", "Finding", "Report", "examine", "find"]
