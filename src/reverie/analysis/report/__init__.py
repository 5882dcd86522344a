"""Reports: one self-contained page about runs, or about the published results, with tables and figures as files."""

from reverie.analysis.report.write import Report, report_published, report_runs

__all__ = ["Report", "report_published", "report_runs"]
