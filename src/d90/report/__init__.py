"""Tables and figures of studies, from their summaries only: no torch, no training."""

from d90.report.document import Document
from d90.report.study import study_document
from d90.report.terminal import render_document
from d90.report.write import write_document, write_report

__all__ = [
    "Document",
    "render_document",
    "study_document",
    "write_document",
    "write_report",
]
