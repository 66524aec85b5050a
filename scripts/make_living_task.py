"""Write a binary task: does a WordNet gloss define something living?

Made from the bundled wordnet-supersense: glosses of persons and animals are `yes`, those of
artifacts and communication `no`, half of each. The splits are those of the bundled task.

    python scripts/make_living_task.py living
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from d90.tasks import load_task
from d90.utils.files import atomic_write

LIVING = {
    "noun.person": "yes",
    "noun.animal": "yes",
    "noun.artifact": "no",
    "noun.communication": "no",
}


def main() -> None:
    """Write `train.jsonl` and `validation.jsonl` to a folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    task = load_task("wordnet-supersense")
    for name, split in {"train": task.train, **task.evaluation}.items():
        classes = (task.labels[label] for label in split.labels)
        pairs = zip(split.texts, classes, strict=True)
        rows = [{"gloss": g, "label": LIVING[c]} for (g,), c in pairs if c in LIVING]
        atomic_write(folder / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
