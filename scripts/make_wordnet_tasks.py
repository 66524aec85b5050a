"""Make the bundled tasks from WordNet 3.0, as installed by Debian's `wordnet-base` package.

    apt-get install wordnet-base
    python scripts/make_wordnet_tasks.py

The result depends on the WordNet files alone: every selection and order is by SHA-256. The file
formats are described in wndb(5WN), the lexicographer files in lexnames(5WN), the exception lists of
inflected forms in morphy(7WN).
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

# The classes of `wordnet-supersense`, by lexicographer file number.
SUPERSENSES = {
    4: "noun.act",
    5: "noun.animal",
    6: "noun.artifact",
    7: "noun.attribute",
    10: "noun.communication",
    18: "noun.person",
    26: "noun.state",
    30: "verb.change",
    32: "verb.communication",
    35: "verb.contact",
}
TRAIN_ROWS, VALIDATION_ROWS = 8_000, 2_000
VALIDATION_EVERY = 5  # one gloss, or base form, in five is in the validation split
SMALLEST_CLASS = 500  # synsets; below it a hypernym task has too few candidates of the same class

# The parts of speech of `wordnet-lemma`, by the ending of WordNet's files.
SPEECH = {"noun": "noun", "verb": "verb", "adj": "adjective"}
LEMMA_ROWS = (3_200, 800)
OFFENSIVE = re.compile("offensive|disparag|slur|obscen|vulgar|derogatory|taboo")  # in a gloss

Row = dict[str, str]
T = TypeVar("T")


@dataclass(frozen=True)
class Synset:
    """One WordNet synset.

    Attributes:
        key: part of speech and offset in the file.
        lexicographer: the number of its lexicographer file, which is its class.
        words: its words in lower case, with underscores for spaces.
        gloss: the definition, without example sentences.
        hypernyms: the keys of its direct hypernyms (pointer `@`).
    """

    key: str
    lexicographer: int
    words: tuple[str, ...]
    gloss: str
    hypernyms: tuple[str, ...]


Synsets = dict[str, Synset]
Pair = tuple[Synset, Synset]  # a synset and a direct hypernym of it


def main() -> None:
    """Read WordNet; write the tasks and the license."""
    parser = argparse.ArgumentParser(description="Make the bundled WordNet tasks.")
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    data = Path(__file__).parent.parent / "src" / "d90" / "tasks" / "data"
    parser.add_argument("--output", type=Path, default=data)
    arguments = parser.parse_args()

    files = [arguments.wordnet / "data.noun", arguments.wordnet / "data.verb"]
    synsets = {synset.key: synset for file in files for synset in read_synsets(file)}
    write_task(arguments.output / "wordnet-supersense", *supersense(synsets.values()))
    write_task(arguments.output / "wordnet-hypernym", *hypernym(synsets))
    write_task(arguments.output / "wordnet-lemma", *lemma(arguments.wordnet))
    (arguments.output / "WORDNET-LICENSE.txt").write_text(read_license(files[0]))


def read_synsets(file: Path) -> Iterator[Synset]:
    """The synsets of a WordNet data file, each gloss without its example sentences."""
    for line in file.read_text(encoding="ascii").splitlines():
        if line.startswith(" "):  # the license
            continue
        fields, _, gloss = line.partition("|")
        offset, lexicographer, kind, words, *rest = fields.split()
        end = 2 * int(words, 16)  # each word has a lexical id beside it
        pointers = rest[end:]
        yield Synset(
            key=kind + offset,
            lexicographer=int(lexicographer),
            words=tuple(word.lower() for word in rest[:end:2]),
            gloss=definition(gloss),
            hypernyms=tuple(
                pointers[i + 2] + pointers[i + 1]
                for i in range(1, 1 + 4 * int(pointers[0]), 4)
                if pointers[i] == "@"
            ),
        )


def definition(gloss: str) -> str:
    """The part of a gloss before its first example sentence, which is in double quotes.

    >>> definition(' move fast by using one\\'s feet; "Don\\'t run"; "He ran"  ')
    "move fast by using one's feet"
    """
    return re.split(r'(?:^|[;:,])\s*"', gloss.strip())[0].strip(" ;")


def supersense(synsets: Iterable[Synset]) -> tuple[list[Row], list[Row]]:
    """Gloss to lexicographer class: equally many glosses per class, none in two classes."""
    classes: dict[str, set[int]] = defaultdict(set)
    for synset in synsets:
        classes[synset.gloss].add(synset.lexicographer)
    glosses: dict[int, list[str]] = defaultdict(list)
    for gloss in by_hash(classes):
        if len(classes[gloss]) == 1 and is_definition(gloss):
            glosses[min(classes[gloss])].append(gloss)

    def rows(start: int, stop: int) -> list[Row]:
        return shuffled(
            {"gloss": gloss, "label": name}
            for number, name in SUPERSENSES.items()
            for gloss in glosses[number][start:stop]
        )

    train, validation = (size // len(SUPERSENSES) for size in (TRAIN_ROWS, VALIDATION_ROWS))
    return rows(0, train), rows(train, train + validation)


def hypernym(synsets: Synsets) -> tuple[list[Row], list[Row]]:
    """Two glosses: is the second the gloss of a hypernym of the first?

    Each gloss belongs to one split. Each selected pair makes two rows: one with its own hypernym,
    one with the hypernym of another pair of its class. So every gloss is in as many positive as
    negative rows on either side, and neither text alone predicts the label.
    """
    pairs = hypernym_pairs(synsets)
    train = [pair for pair in pairs if not in_validation(pair[0].gloss)][: TRAIN_ROWS // 2]
    validation = [pair for pair in pairs if in_validation(pair[0].gloss)][: VALIDATION_ROWS // 2]
    return shuffled(hypernym_rows(train, synsets)), shuffled(hypernym_rows(validation, synsets))


def hypernym_pairs(synsets: Synsets) -> list[Pair]:
    """Synsets with a direct hypernym of the same class and split, each gloss used once per side."""
    sizes = Counter(synset.lexicographer for synset in synsets.values())
    pairs, used_below, used_above = [], set(), set()
    for below in by_hash(synsets.values(), key=lambda synset: synset.gloss):
        for above in (synsets[key] for key in below.hypernyms[:1]):
            if (
                below.lexicographer == above.lexicographer
                and sizes[below.lexicographer] >= SMALLEST_CLASS
                and in_validation(below.gloss) == in_validation(above.gloss)
                and below.gloss not in used_below
                and above.gloss not in used_above
                and is_definition(below.gloss, above.gloss)
            ):
                used_below.add(below.gloss)
                used_above.add(above.gloss)
                pairs.append((below, above))
    return pairs


def hypernym_rows(pairs: Iterable[Pair], synsets: Synsets) -> Iterator[Row]:
    """Each pair as a positive row, and a negative row with the hypernym of another pair."""
    by_class: dict[int, list[Pair]] = defaultdict(list)
    for below, above in pairs:
        by_class[below.lexicographer].append((below, above))
    for members in by_class.values():
        others = derange(members, synsets)
        for (below, above), other in zip(members, others, strict=True):
            yield {"gloss": below.gloss, "candidate": above.gloss, "label": "yes"}
            yield {"gloss": below.gloss, "candidate": other.gloss, "label": "no"}


def derange(pairs: Sequence[Pair], synsets: Synsets) -> list[Synset]:
    """The hypernyms of the pairs, permuted so that none is an ancestor of its new partner."""
    above = [ancestor_glosses(below, synsets) for below, _ in pairs]
    others = [pairs[i - 1][1] for i in range(len(pairs))]

    def fits(i: int, j: int) -> bool:
        return others[j].gloss not in above[i]

    for i in range(len(pairs)):
        if not fits(i, i):
            j = next(j for j in range(len(pairs)) if fits(i, j) and fits(j, i))
            others[i], others[j] = others[j], others[i]
    return others


def ancestor_glosses(synset: Synset, synsets: Synsets) -> set[str]:
    """The glosses of the synset and of all its hypernyms, at any distance."""
    found: dict[str, Synset] = {}
    waiting = [synset]
    while waiting:
        current = waiting.pop()
        if current.key not in found:
            found[current.key] = current
            waiting.extend(synsets[key] for key in current.hypernyms)
    return {ancestor.gloss for ancestor in found.values()}


def lemma(wordnet: Path) -> tuple[list[Row], list[Row]]:
    """The base form of an irregular form: each form once, no base form in both splits."""
    splits: tuple[list[Row], list[Row]] = ([], [])
    for ending, speech in SPEECH.items():
        synsets = [*read_synsets(wordnet / f"data.{ending}")]
        bad = {word for s in synsets if OFFENSIVE.search(s.gloss) for word in s.words}
        known = {word for synset in synsets for word in synset.words} - bad
        bases: dict[str, set[str]] = defaultdict(set)
        for line in (wordnet / f"{ending}.exc").read_text(encoding="ascii").splitlines():
            form, *words = line.split()
            bases[form].update(words)
        for form, found in bases.items():
            base = min(found)
            if len(found) == 1 and base in known and form.isalpha() and base.isalpha():
                row = {
                    "prompt": f"The base form of the {speech} {form} is",
                    "completion": f" {base}",
                }
                # A verb and a noun may share a base form, and its split.
                splits[in_validation(base)].append(row)
    train, validation = (shuffled(rows)[:n] for rows, n in zip(splits, LEMMA_ROWS, strict=True))
    return train, validation


def is_definition(*glosses: str) -> bool:
    """Whether every gloss has at least three words and no quotation or parenthesis cut off."""
    return all(
        len(gloss.split()) >= 3 and '"' not in gloss and gloss.count("(") == gloss.count(")")
        for gloss in glosses
    )


def in_validation(gloss: str) -> bool:
    """Whether a gloss, or a base form, is in the validation split."""
    return digest("split " + gloss)[0] % VALIDATION_EVERY == 0


def digest(text: str) -> bytes:
    """The SHA-256 of a text."""
    return hashlib.sha256(text.encode()).digest()


def by_hash(items: Iterable[T], key: Callable[[T], str] = str) -> list[T]:
    """The items in the order of the SHA-256 of their keys."""
    return sorted(items, key=lambda item: digest(key(item)))


def shuffled(rows: Iterable[Row]) -> list[Row]:
    """The rows in an order independent of their labels."""
    return by_hash(rows, key=lambda row: "\t".join(row.values()))


def write_task(folder: Path, train: list[Row], validation: list[Row]) -> None:
    """Write the two splits as gzipped JSON lines, without a time stamp in the file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", train), ("validation", validation)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        packed = gzip.compress(lines.encode(), compresslevel=9, mtime=0)
        (folder / f"{name}.jsonl.gz").write_bytes(packed)
        print(f"{folder.name}/{name}: {len(rows)} rows, {len(packed)} bytes")


def read_license(file: Path) -> str:
    """The WordNet license, which heads every data file with numbered lines."""
    lines = file.read_text(encoding="ascii").splitlines()
    return "".join(line[4:].rstrip() + "\n" for line in lines if line.startswith("  "))


if __name__ == "__main__":
    main()
