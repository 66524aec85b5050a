"""A document as one HTML page that loads no other file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from d90.report.document import Document

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
)


def render_page(document: Document, svgs: Mapping[str, str]) -> str:
    """The page, with each figure's SVG inside; all text of the document is escaped.

    Args:
        document: what it shows.
        svgs: name of a figure -> its SVG.
    """
    figures = [(figure, Markup(svg_element(svgs[figure.name]))) for figure in document.figures]
    return TEMPLATES.get_template("document.html").render(document=document, figures=figures)


def svg_element(svg: str) -> str:
    """The SVG element alone: no XML prolog, document type or metadata, which name web pages."""
    element = svg[svg.index("<svg") :]
    return re.sub(r"<metadata>.*?</metadata>", "", element, count=1, flags=re.DOTALL)
