"""The Markdown pages name files, commands and options that exist."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import pytest
import typer.main

from d90.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.md")],
)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)[^)]*\)")
PATH = re.compile(r"(?<![\w/.-])(?:src|tests|docs|scripts|benchmarks|examples|native)/[\w./-]*\w/?")
CALL = re.compile(r"(?<![\w./\[\]'\"-])d90((?: +[^\s`#;|&)]+)+)")
NAME = re.compile(r"`(d90(?:\.[A-Za-z_]\w*)+)[`(]")
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def called_options(text: str) -> list[tuple[str, str]]:
    """Pairs of a command and an option with which a page calls it."""
    found = []
    for call in CALL.finditer(re.sub(r"\\\n\s*", " ", text)):
        command, *arguments = call[1].split()
        if command in COMMANDS:
            options = [a.partition("=")[0] for a in arguments if re.match(r"--?[a-z]", a)]
            found += [(command, option.rstrip(".,:")) for option in options]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    missing = [link for link in LINK.findall(text) if not (page.parent / link).exists()]
    missing += [path for path in PATH.findall(text) if not (ROOT / path).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_exist(page: Path) -> None:
    unknown = [
        f"d90 {command} {option}"
        for command, option in called_options(page.read_text("utf-8"))
        if not any(
            option in (*parameter.opts, *parameter.secondary_opts)
            for parameter in COMMANDS[command].params
        )
        and option != "--help"
    ]
    assert unknown == []


# The changelog names what was renamed.
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name != "CHANGELOG.md"],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_python_names_exist(page: Path) -> None:
    names = {*NAME.findall(page.read_text("utf-8"))} - {"d90.db"}
    assert [name for name in sorted(names) if not exists(name)] == []


def exists(name: str) -> bool:
    """Whether a dotted name is a module or an attribute of one."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_a_call_in_a_page() -> None:
    page = "Run `d90 tune M T -d 5 --bits=4`, or\n    d90 report S \\\n      --quiet  # not --this"
    assert called_options(page) == [("tune", "-d"), ("tune", "--bits"), ("report", "--quiet")]


def test_pages_call_most_commands() -> None:
    calls = [called_options(page.read_text("utf-8")) for page in PAGES]
    assert len({command for page in calls for command, _ in page}) > len(COMMANDS) / 2
