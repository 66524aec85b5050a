"""Fetch English text for pre-training: documentation and books from Debian packages.

    python scripts/fetch_corpus.py OUT

Packages are downloaded with `apt-get download`; nothing is installed. The output is one UTF-8 file
per package, with blank lines between paragraphs: prose only, without duplicate paragraphs, and
without paragraphs that share six consecutive words with an example of the bundled tasks, which are
made from WordNet. Unavailable packages are reported and skipped. Texts keep the licenses of their
packages.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import ClassVar

TASKS = Path(__file__).parent.parent / "src" / "d90" / "tasks" / "data"

LICENSES = {
    "anarchism": "GFDL-1.2+, GPL-2+",
    "apache2-doc": "Apache-2.0",
    "aptitude-doc-en": "GPL-2+",
    "cmake-data": "BSD-3-Clause",
    "debian-faq": "GPL-2+",
    "debian-handbook": "CC-BY-SA-3.0, GPL-2+",
    "debian-policy": "GPL-2+",
    "debian-reference-en": "GPL-2+",
    "developers-reference": "GPL-2+",
    "dict-devil": "public domain",
    "dict-foldoc": "GFDL-1.1+",
    "dict-gcide": "GPL-3+",
    "emacs-common": "GPL-3+",
    "erlang-doc": "Apache-2.0",
    "fortunes": "BSD-3-Clause, public domain",
    "freebsd-manpages": "BSD-2-Clause",
    "gimp-help-en": "GFDL-1.2+",
    "git-doc": "GPL-2",
    "git-man": "GPL-2",
    "gnome-user-docs": "CC-BY-3.0",
    "harden-doc": "GPL-2+",
    "installation-guide-amd64": "GPL-2+",
    "jargon-text": "public domain",
    "libreoffice-help-en-us": "MPL-2.0",
    "linux-doc-6.1": "GPL-2",
    "maint-guide": "GPL-2+",
    "manpages": "GPL-2+, BSD, Linux-man-pages-copyleft",
    "manpages-dev": "GPL-2+, BSD, Linux-man-pages-copyleft",
    "mercurial-common": "GPL-2+",
    "perl-doc": "Artistic, GPL-1+",
    "postgresql-doc-15": "PostgreSQL",
    "python-django-doc": "BSD-3-Clause",
    "python3.11-doc": "PSF-2",
    "r-doc-html": "GPL-2+",
}
"""The packages of Debian 12 to fetch, with the licenses of their texts."""

DESCRIPTIONS = "package-descriptions"

MIN_CHARACTERS, MIN_WORDS = 60, 10
MIN_LETTERS = 0.78
"""Minimum fraction of letters and spaces in a paragraph of prose."""

MARKS = re.compile(r"[{}<>=_|\\/*#;@$~^`\[\]]")
MAX_MARKS = 0.02
COMMON = {
    *("the", "of", "and", "to", "a", "in", "is", "that", "for", "it", "with", "as", "be", "on"),
    *("are", "this", "by", "or", "from", "not", "you", "if", "he", "his", "was", "which", "an"),
    *("at", "have", "but", "can", "will", "has", "their", "they", "all", "when", "one", "so"),
}
MIN_COMMON = 0.18
"""Minimum fraction of common English words in a paragraph of English."""

SHINGLE = 6
OTHER_LANGUAGES = re.compile(
    r"[./_](de|es|fr|it|ja|ko|nl|pl|pt|pt-br|ru|sv|tr|zh|zh-cn|da|ro)[./]|/help/(?!C/|en)"
)


def main() -> None:
    """Fetch the available packages, clean their texts, and print the sizes."""
    parser = argparse.ArgumentParser(description="Fetch English text to pre-train on.")
    parser.add_argument("output", type=Path, help="folder for the text files")
    parser.add_argument("--packages", type=Path, help="folder for the downloads")
    arguments = parser.parse_args()
    downloads = arguments.packages or arguments.output / ".packages"
    for folder in (arguments.output, downloads):
        folder.mkdir(parents=True, exist_ok=True)
    keep, total = Filter(task_shingles()), 0
    print(f"{'source':<28} {'version':<28} {'MB':>6}  license", flush=True)
    for name, license in LICENSES.items():
        package = fetch(name, downloads)
        if package is None:
            print(f"{name:<28} unavailable, skipped", flush=True)
            continue
        size = write(arguments.output / f"{name}.txt", keep(texts_of(package)))
        total += size
        version = package.name.split("_")[1].replace("%3a", ":")
        print(f"{name:<28} {version:<28} {size / 1e6:6.2f}  {license}", flush=True)
    size = write(arguments.output / f"{DESCRIPTIONS}.txt", keep(descriptions(downloads)))
    print(f"{DESCRIPTIONS:<28} {'-':<28} {size / 1e6:6.2f}  of the packages", flush=True)
    print(f"{'total':<57} {(total + size) / 1e6:6.2f}")
    print(f"dropped paragraphs: {keep.summary()}")


def fetch(name: str, folder: Path) -> Path | None:
    """The file of a package, downloaded if necessary; None if it is unavailable."""
    files = sorted(folder.glob(f"{name}_*.deb"))
    if not files:
        subprocess.run(["apt-get", "download", name], cwd=folder, capture_output=True, check=False)
        files = sorted(folder.glob(f"{name}_*.deb"))
    return files[-1] if files else None


def write(file: Path, paragraphs: Iterable[str]) -> int:
    """Write paragraphs with blank lines between them; return the number of bytes."""
    with file.open("w", encoding="utf-8") as opened:
        for paragraph in paragraphs:
            opened.write(paragraph + "\n\n")
    size = file.stat().st_size
    if size == 0:
        file.unlink()
    return size


def texts_of(package: Path) -> Iterator[str]:
    """The paragraphs of every file of a package that has a reader, in the order of the archive."""
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE
    ) as unpack:
        assert unpack.stdout is not None
        with tarfile.open(fileobj=unpack.stdout, mode="r|") as archive:
            for member in archive:
                reader = reader_for(member.name)
                opened = archive.extractfile(member) if reader and member.isfile() else None
                if reader and opened:
                    yield from reader(decode(member.name, opened.read()))


def decode(name: str, data: bytes) -> str:
    """The text of a file, decompressed if its name ends in .gz or .dz."""
    if name.endswith((".gz", ".dz")):
        data = gzip.GzipFile(fileobj=io.BytesIO(data)).read()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def reader_for(name: str) -> Callable[[str], Iterator[str]] | None:
    """The reader of a file, by its name; None for files without English prose."""
    plain = name.removesuffix(".gz")
    folder = plain.rpartition("/")[0]
    if OTHER_LANGUAGES.search(plain) or re.search(r"copyright|changelog|/_?sources/", plain, re.I):
        return None
    if plain.endswith((".html", ".htm", ".xhtml", ".page")):
        return html_paragraphs
    if "/man/man" in folder:
        return man_paragraphs
    if plain.endswith(".dict.dz"):
        return plain_paragraphs
    if "games/fortunes" in folder and "." not in plain.rpartition("/")[2]:
        return lambda text: iter(re.split(r"\n%\n", text))
    if plain.endswith((".txt", ".text", ".info", ".rst", ".pod")):
        return plain_paragraphs
    return None


class Paragraphs(HTMLParser):
    """The paragraphs of an HTML page: text between block elements, without code and navigation."""

    BLOCKS: ClassVar = {
        *("p", "div", "li", "dd", "dt", "td", "th", "tr", "h1", "h2", "h3", "h4", "h5", "h6"),
        *("blockquote", "section", "article", "ul", "ol", "dl", "table"),
    }
    HIDDEN: ClassVar = {"script", "style", "pre", "head", "nav", "footer", "form", "svg"}

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.paragraphs: list[str] = []
        self._text: list[str] = []
        self._hidden: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in self.HIDDEN:
            self._hidden.append(tag)
        if tag in self.BLOCKS:
            self.end()
        self._text.append(" " if tag == "br" else "")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._hidden:
            while self._hidden.pop() != tag:
                pass
        if tag in self.BLOCKS:
            self.end()

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._text.append(data)

    def end(self) -> None:
        """Close a paragraph."""
        text = "".join(self._text)
        self._text.clear()
        if text.strip():
            self.paragraphs.append(text)


def html_paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a page."""
    page = Paragraphs()
    page.feed(text)
    page.close()
    page.end()
    return iter(page.paragraphs)


def plain_paragraphs(text: str) -> Iterator[str]:
    """Text between blank lines, with line-end hyphens joined and emphasis markup removed."""
    for paragraph in re.split(r"\n[ \t]*\n", text):
        joined = re.sub(r"(?<=[a-z])-\n\s*(?=[a-z])", "-", paragraph)
        yield re.sub(r"``?|\*\*?(?=\w)|(?<=\w)\*\*?|:\w+:(?=`)|[BCFIL]<+([^<>]*)>+", r"\1", joined)


def man_paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a manual page in roff, which any request ends unless it sets a font."""
    lines: list[str] = []
    for line in text.splitlines():
        font = re.match(r"\.(?:B|I|BR|IR|RB|RI|BI|IB|Nm|Fn|Ar|Pa|Xr|Em|Sy)\s+(.*)", line)
        if line.startswith((".", "'")) and not font:
            yield unescape(" ".join(lines))
            lines = []
        else:
            lines.append(font[1] if font else line)
    yield unescape(" ".join(lines))


def unescape(text: str) -> str:
    """Remove the escapes of roff.

    >>> unescape(r"a \\fBbold\\fP word\\-pair")
    'a bold word-pair'
    """
    text = re.sub(r"\\f(?:\[\w*\]|\(..|.)|\\[&/|^%]|\\s[-+]?\d", "", text)
    text = re.sub(r"\\\((?:aq|cq|oq)", "'", text)
    return text.replace("\\-", "-").replace("\\ ", " ").replace("\\e", "\\").replace('"', "")


def descriptions(folder: Path) -> Iterator[str]:
    """The long descriptions of all packages, from separate apt lists."""
    lists = (folder / "lists").resolve()
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    options = ["-o", f"Dir::State::Lists={lists}", "-o", "Acquire::Languages=en"]
    subprocess.run(["apt-get", *options, "update"], capture_output=True, check=False)
    for file in sorted(lists.glob("*i18n_Translation-en*")):
        output = subprocess.run(
            ["/usr/lib/apt/apt-helper", "cat-file", file], capture_output=True, check=False
        )
        for entry in re.split(r"\n\n", output.stdout.decode("utf-8", "replace")):
            _, _, long = entry.partition("Description-en:")
            yield from re.split(r"\n \.\n", long.partition("\n")[2])


class Filter:
    """Passes English prose, each paragraph once, and nothing that overlaps with the tasks.

    Args:
        taboo: word sequences of the tasks.
    """

    def __init__(self, taboo: frozenset[tuple[str, ...]]) -> None:
        self._taboo = taboo
        self._seen: set[bytes] = set()
        self._dropped = {"not prose": 0, "duplicate": 0, "in a task": 0}

    def __call__(self, paragraphs: Iterable[str]) -> Iterator[str]:
        for paragraph in paragraphs:
            text = " ".join(paragraph.split())
            reason = self._reason_to_drop(text)
            if reason is None:
                yield text
            else:
                self._dropped[reason] += 1

    def _reason_to_drop(self, text: str) -> str | None:
        if not is_prose(text):
            return "not prose"
        digest = hashlib.blake2b(text.lower().encode(), digest_size=8).digest()
        if digest in self._seen:
            return "duplicate"
        self._seen.add(digest)
        return "in a task" if "[WordNet" in text or self._taboo & shingles(text) else None

    def summary(self) -> str:
        """The number of dropped paragraphs, by reason."""
        return ", ".join(f"{count:,} {reason}" for reason, count in self._dropped.items())


def is_prose(text: str) -> bool:
    """Whether a paragraph is English sentences rather than code, tables or names.

    >>> is_prose("The kernel calls this function when the device is removed, and waits for it.")
    True
    >>> is_prose("int main(int argc, char **argv) { return run(argc, argv) || code; } /* x */")
    False
    """
    words = re.findall(r"[A-Za-z']+", text.lower())
    if len(text) < MIN_CHARACTERS or len(words) < MIN_WORDS or "\x00" in text:
        return False
    letters = sum(c.isascii() and (c.isalpha() or c == " ") for c in text)
    return (
        letters >= MIN_LETTERS * len(text)
        and len(MARKS.findall(text)) <= MAX_MARKS * len(text)
        and sum(word in COMMON for word in words) >= MIN_COMMON * len(words)
    )


def shingles(text: str) -> set[tuple[str, ...]]:
    """Every run of six words."""
    words = re.findall(r"[a-z0-9']+", text.lower())
    return {tuple(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1)}


def task_shingles() -> frozenset[tuple[str, ...]]:
    """The shingles of the examples of the bundled tasks."""
    task_words: set[tuple[str, ...]] = set()
    for file in sorted(TASKS.glob("*/*.jsonl.gz")):
        for line in gzip.decompress(file.read_bytes()).decode("utf-8").splitlines():
            row = json.loads(line)
            for column in ("gloss", "candidate"):
                task_words |= shingles(row.get(column, ""))
    if not task_words:
        sys.exit(f"error: no bundled tasks in '{TASKS}': run this from a checkout of d90.")
    return frozenset(task_words)


if __name__ == "__main__":
    main()
