"""Documents to pretrain on: from files, folders, and data sets on the hub.

Documents are streamed: memory does not grow with the corpus. The lines of a document are joined by
single spaces, since RoBERTa's tokens have no line ends.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

from d90.errors import D90Error
from d90.utils.digest import json_digest
from d90.utils.files import as_path
from d90.utils.reading import open_text, parse_json, read_lines

MAX_CHARACTERS = 50_000
"""A longer document is split at the next line end."""

MAX_UNPACKED = 1 << 36
"""Bytes that a compressed file may hold: it is streamed."""

COLUMN = "text"
ROWS = 1000


class Source(Protocol):
    """One entry of the corpus."""

    @property
    def identity(self) -> str:
        """Readable name that distinguishes one corpus from another."""
        ...

    def documents(self) -> Iterator[str]:
        """The documents, always in the same order."""
        ...


@dataclass(frozen=True)
class Files:
    """Text files, in the order of their names.

    Attributes:
        name: of the given file or folder.
        root: the folder that contains the files.
        paths: the files.
    """

    name: str
    root: Path
    paths: tuple[Path, ...]

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.paths)

    @property
    def identity(self) -> str:
        """Name, number of files, bytes, and a digest of names and sizes; not the location."""
        listing = [(str(path.relative_to(self.root)), path.stat().st_size) for path in self.paths]
        digest = json_digest(listing)[:12]
        return f"{self.name} ({len(self.paths)} files, {self.size} bytes, {digest})"

    def documents(self) -> Iterator[str]:
        """The paragraphs of text files, and the rows of other files.

        Raises:
            D90Error: a file cannot be read.
        """
        for path in self.paths:
            try:
                yield from READERS[_ending(path)](path)
            except UnicodeDecodeError as error:
                raise D90Error(f"{path}: not UTF-8 text ({error.reason}).") from error
            except (OSError, EOFError, zlib.error) as error:
                raise D90Error(f"{path}: cannot be read ({error}).") from error


@dataclass(frozen=True)
class HubDataset:
    """The training split of a data set on the Hugging Face hub, streamed.

    Attributes:
        path: id of the data set.
        config: its configuration, if it has several.
    """

    path: str
    config: str | None = None

    @property
    def identity(self) -> str:
        return self.path if self.config is None else f"{self.path}:{self.config}"

    def documents(self) -> Iterator[str]:
        """The rows of the data set.

        Raises:
            D90Error: it cannot be streamed from the hub, or has no `text` column.
        """
        import datasets  # takes a second to import
        from datasets import config

        from d90.utils.hub import first_line, is_reachable

        try:
            if config.HF_HUB_OFFLINE or not is_reachable(config.HF_ENDPOINT):
                raise ConnectionError("no connection")
            rows = datasets.load_dataset(self.path, self.config, split="train", streaming=True)
            for row in rows:
                yield from _row(_text_of(row, self.identity))
        except D90Error:
            raise
        except Exception as error:  # `datasets` and its readers raise many kinds
            raise D90Error(
                f"cannot stream {self.identity} from {config.HF_ENDPOINT}: check the name and the "
                f"connection, or give text files ({first_line(error)})."
            ) from error


def open_corpus(arguments: Sequence[str]) -> tuple[Source, ...]:
    """The sources that the arguments name: existing files and folders, otherwise hub ids.

    Raises:
        D90Error: a file that does not exist; a folder without text files; an unknown format.
    """
    if not arguments:
        raise D90Error("no corpus: give text files, folders or data sets of the hub.")
    return tuple(map(_open_source, arguments))


def documents(sources: Iterable[Source], limit: int | None = None) -> Iterator[str]:
    """The documents of all sources in order, at most `limit`."""
    return islice(chain.from_iterable(source.documents() for source in sources), limit)


def _open_source(argument: str) -> Source:
    path = as_path(argument, "corpus")
    if path.is_dir():
        paths = sorted(p for p in path.rglob("*") if p.is_file() and _ending(p))
        if not paths:
            raise D90Error(f"no text in '{path}': expected files ending in {', '.join(READERS)}.")
        return Files(path.resolve().name, path, tuple(paths))
    if path.is_file():
        if not _ending(path):
            raise D90Error(f"corpus '{path}': expected one of the endings {', '.join(READERS)}.")
        return Files(path.name, path.parent, (path,))
    name, _, config = argument.partition(":")
    if argument.startswith((".", "~", "/")) or _ending(path) or len(Path(name).parts) > 2:
        raise D90Error(f"corpus '{argument}': there is no such file or folder.{_hint(path)}")
    return HubDataset(name, config or None)


def _hint(path: Path) -> str:
    """Suggest the file with the most similar name in the same folder."""
    if not path.parent.is_dir():
        return ""
    siblings = {item.name: str(item) for item in path.parent.iterdir()}
    nearest = get_close_matches(path.name, siblings, n=1, cutoff=0.6)
    return f" Did you mean '{siblings[nearest[0]]}'?" if nearest else ""


def _split_documents(lines: Iterable[str]) -> Iterator[str]:
    """Split lines into documents: at blank lines, and at the line that exceeds the maximum length.

    >>> list(_split_documents(["one", "  two ", "", "", "three"]))
    ['one two', 'three']
    """
    parts: list[str] = []
    length = 0
    for line in lines:
        words = " ".join(line.split())
        parts += [words] if words else []
        length += len(words) + 1
        if parts and (not words or length > MAX_CHARACTERS):
            yield " ".join(parts)
            parts, length = [], 0
    if parts:
        yield " ".join(parts)


def _row(text: str) -> Iterator[str]:
    """The document in a row; blank lines do not split it."""
    return _split_documents(line for line in text.splitlines() if line.strip())


def _read_text(path: Path) -> Iterator[str]:
    with open_text(path, unpacked=MAX_UNPACKED) as file:
        yield from _split_documents(read_lines(file, str(path)))


def _read_json_lines(path: Path) -> Iterator[str]:
    with open_text(path, unpacked=MAX_UNPACKED) as file:
        for number, line in enumerate(read_lines(file, str(path)), 1):
            where = f"{path}, line {number}"
            if not line.strip():
                continue
            yield from _row(_text_of(parse_json(line, where), where))


def _read_parquet(path: Path) -> Iterator[str]:
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        names = file.schema_arrow.names
        if COLUMN not in names:
            raise D90Error(f"{path}: no column '{COLUMN}', only {', '.join(file.schema.names)}.")
        if names.count(COLUMN) > 1:
            raise D90Error(f"{path}: two columns are called '{COLUMN}': rename one.")
        if not _is_text(file.schema_arrow.field(COLUMN).type):  # A far date has no Python value.
            raise D90Error(f"{path}: expected strings in the column '{COLUMN}'.")
        for batch in file.iter_batches(ROWS, columns=[COLUMN]):
            for row in batch.to_pylist():
                yield from _row(_text_of(row, str(path)))
    except pyarrow.ArrowException as error:
        raise D90Error(f"{path}: not a Parquet file.") from error


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    value = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_string(value) or types.is_large_string(value) or types.is_string_view(value)


def _text_of(row: Any, where: str) -> str:
    text = row.get(COLUMN) if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise D90Error(f"{where}: expected a row whose column '{COLUMN}' is a string.")
    return text


def _ending(path: Path) -> str:
    return next((ending for ending in READERS if path.name.endswith(ending)), "")


READERS: dict[str, Callable[[Path], Iterator[str]]] = {
    ".txt": _read_text,
    ".txt.gz": _read_text,
    ".jsonl": _read_json_lines,
    ".jsonl.gz": _read_json_lines,
    ".parquet": _read_parquet,
}
