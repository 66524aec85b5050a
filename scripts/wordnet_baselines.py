"""Simple baselines on the bundled tasks, for their data card.

Bag-of-words logistic regression for the classes, rules of suffixes for the base forms.

python scripts/wordnet_baselines.py
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from d90.tasks import Split, load_task, majority_score, score

TASKS = ("wordnet-supersense", "wordnet-hypernym")
INVERSE_PENALTIES = (
    0.1,
    0.3,
    1.0,
    3.0,
    10.0,
)  # scikit-learn's C; the best is printed


RULES = {
    "noun": {
        "ies": "y", "ves": "f", "ses": "sis", "ae": "a", "ia": "ium", "a": "um", "i": "us", "s": "",
    },
    "verb": {"ied": "y", "ing": "", "ed": ""},
    "adjective": {"ier": "y", "iest": "y", "er": "", "est": ""},
}  # fmt: skip
"""Of a form, the first ending that it has, and what replaces it."""


def main() -> None:
    """Print one line for each task and kind of features, and for the rules."""
    for name in TASKS:
        task = load_task(name)
        validation = task.evaluation[task.primary]
        print(f"{name}: majority {majority_score(task.metric, validation.labels):.3f}")
        bags = ["words of each text"] + ["and the words they share"] * (len(task.text_columns) - 1)
        for shared, bag in enumerate(bags):
            accuracy, penalty = best_accuracy(task.train, validation, shared=bool(shared))
            print(f"{name}: bag of words ({bag}): {accuracy:.3f} (C = {penalty})")

    task = load_task("wordnet-lemma", metric="exact_match")
    validation = task.evaluation[task.primary]
    pairs = [*zip(validation.texts, validation.labels, strict=True)]
    right = [f" {base_form(*text.split()[5:7])}" == base for (text,), base in pairs]
    print(f"wordnet-lemma: rules of suffixes: {sum(right) / len(right):.3f}")


def base_form(speech: str, form: str) -> str:
    """What `RULES` make of a form; of a doubled consonant before an ending, one is left."""
    for ending, replacement in RULES[speech].items():
        if form.endswith(ending):
            stem = form.removesuffix(ending)
            is_doubled = not replacement and ending != "s" and stem[-2:-1] == stem[-1:]
            return stem[:-1] if is_doubled else stem + replacement
    return form


def best_accuracy(train: Split, validation: Split, *, shared: bool) -> tuple[float, float]:
    """The best validation accuracy over `INVERSE_PENALTIES`, and the C that gave it."""
    vectorizer = CountVectorizer(binary=True).fit(text for row in train.texts for text in row)
    features = [bag_of_words(vectorizer, split.texts, shared) for split in (train, validation)]
    results = []
    for penalty in INVERSE_PENALTIES:
        model = LogisticRegression(C=penalty, max_iter=1_000).fit(features[0], train.labels)
        predictions = model.predict(features[1])
        results.append((score("accuracy", validation.labels, predictions), penalty))
    return max(results)


def bag_of_words(
    vectorizer: CountVectorizer, texts: Sequence[tuple[str, ...]], shared: bool
) -> Any:
    """A sparse row per example: its words; if `shared`, those of both texts and their count too."""
    bags = [vectorizer.transform(column) for column in zip(*texts, strict=True)]
    if shared:
        both = bags[0].multiply(bags[1]).tocsr()
        bags += [both, sparse.csr_matrix(both.sum(axis=1))]
    return sparse.hstack(bags, format="csr")


if __name__ == "__main__":
    main()
