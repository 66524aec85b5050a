"""Tables and figures of a study, from its records only: no torch, no training."""

from d90.report.summary import Summary
from d90.report.text import render_text
from d90.report.write import ReportPaths, write_report

__all__ = ["ReportPaths", "Summary", "render_text", "write_report"]
