"""`reverie diagnose`: what a world model has learnt, what is wrong with it, and what to try.

`examine.py` reads a run; `measure.py` passes its data through the model once, for `latents.py`, `prediction.py`,
`heads.py` and `learning.py` to measure; `report.py` holds the result; `rules.py` draws conclusions, from `rules.toml`
and `conditions.py`; `page.py` and `picture.py` show them.
"""

from reverie.analysis.diagnose.examine import Amount, examine
from reverie.analysis.diagnose.report import Report
from reverie.analysis.diagnose.rules import RULES, Finding, find

__all__ = ["RULES", "Amount", "Finding", "Report", "examine", "find"]
