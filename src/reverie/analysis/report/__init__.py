"""Reports: one self-contained page about runs, with tables and figures as files."""

from reverie.analysis.report.write import Report, report_runs

__all__ = ["Report", "report_runs"]
