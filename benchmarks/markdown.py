"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_table(rows: Sequence[Sequence[object]], *, rule: str = "---") -> str:
    """A table whose first row is its head.

    Args:
        rows: of equal lengths.
        rule: below the head from the second column on: `---:` aligns these to the right.

    >>> print(markdown_table([["d", "metric"], [10, "0.700"]]))
    | d | metric |
    | --- | --- |
    | 10 | 0.700 |
    """
    head, *body = rows
    rules = ["---"] + [rule] * (len(head) - 1)
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [head, rules, *body])
