"""Tables and figures of a study, from its records only: no torch, no training."""

from d90.report.terminal import render_text
from d90.report.write import ReportPaths, write_report
from d90.search.summary import Summary

__all__ = ["ReportPaths", "Summary", "render_text", "write_report"]
