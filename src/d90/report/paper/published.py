"""The paper's values, for comparison (Aghajanyan, Gupta and Zettlemoyer 2021, Table 1)."""

from __future__ import annotations

from collections.abc import Mapping

D90: Mapping[tuple[str, str, str], int] = {
    ("bert-base", "mrpc", "said"): 1608,
    ("bert-base", "qqp", "said"): 8030,
    ("bert-base", "mrpc", "did"): 1861,
    ("bert-base", "qqp", "did"): 9295,
    ("bert-large", "mrpc", "said"): 1037,
    ("bert-large", "qqp", "said"): 1200,
    ("bert-large", "mrpc", "did"): 2493,
    ("bert-large", "qqp", "did"): 1389,
    ("roberta-base", "mrpc", "said"): 896,
    ("roberta-base", "qqp", "said"): 896,
    ("roberta-base", "mrpc", "did"): 1000,
    ("roberta-base", "qqp", "did"): 1389,
    ("roberta-large", "mrpc", "said"): 207,
    ("roberta-large", "qqp", "said"): 774,
    ("roberta-large", "mrpc", "did"): 322,
    ("roberta-large", "qqp", "did"): 774,
}
"""(model, task, method) -> d90."""

PAPER_NAMES: Mapping[str, str] = {
    "bert-base-cased": "bert-base",
    "bert-base-uncased": "bert-base",
    "bert-large-cased": "bert-large",
    "bert-large-uncased": "bert-large",
    "roberta-base": "roberta-base",
    "roberta-large": "roberta-large",
}
"""Hub name -> the paper's name; the paper does not say whether its BERT was cased."""

RATIO = 1.157
"""Ratio of neighboring values of the paper's d: closer agreement is not meaningful."""


def d90(model: str, task: str, method: str) -> int | None:
    """The paper's d90 of a hub model on a task; None if it gives none.

    >>> d90("FacebookAI/roberta-large", "mrpc", "said"), d90("gpt2", "mrpc", "did")
    (207, None)
    """
    name = PAPER_NAMES.get(model.rpartition("/")[2], "")
    return D90.get((name, task, method))
