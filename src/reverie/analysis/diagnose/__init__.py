"""`reverie diagnose`: what a world model has learnt, what is wrong with it, and what to try.

`examine.py` reads a run; `measure.py` passes its data through the model once, for `latents.py`, `prediction.py`,
`calibration.py`, `values.py`, `policy.py` and `learning.py` to measure; `report.py` holds the result; the rules in
`model_rules.py` and `behavior_rules.py` draw conclusions; `page.py` and `picture.py` show them.
"""

from reverie.analysis.diagnose.behavior_rules import BEHAVIOR_RULES
from reverie.analysis.diagnose.examine import Amount, examine
from reverie.analysis.diagnose.model_rules import MODEL_RULES
from reverie.analysis.diagnose.report import Report
from reverie.analysis.diagnose.rules import Finding, Rule, find

RULES: tuple[Rule, ...] = MODEL_RULES + BEHAVIOR_RULES

__all__ = ["RULES", "Amount", "Finding", "Report", "Rule", "examine", "find"]
