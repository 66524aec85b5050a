"""Lists on the command line: values separated by commas."""

from __future__ import annotations

import math

from d90.errors import D90Error


def names(text: str) -> tuple[str, ...]:
    """`premise, hypothesis` as names.

    >>> names("premise, hypothesis")
    ('premise', 'hypothesis')
    """
    return tuple(part.strip() for part in text.split(","))


def integers(option: str, text: str) -> tuple[int, ...]:
    """`10,100,1000` as integers.

    Raises:
        D90Error: for anything else.

    >>> integers("--dims", "10, 1e3, 10_000")
    (10, 1000, 10000)
    """
    return tuple(_integer(option, text, part) for part in names(text))


def integer_pairs(option: str, text: str) -> tuple[tuple[int, int], ...]:
    """`8:800,16:1200` as pairs of integers.

    Raises:
        D90Error: for anything else.

    >>> integer_pairs("--sequence-length-schedule", "8:800, 16:1e3")
    ((8, 800), (16, 1000))
    """
    pairs = [part.split(":") for part in names(text)]
    if any(len(pair) != 2 for pair in pairs):
        raise D90Error(f"{option} '{text}': expected pairs such as 8:800,16:1200.")
    return tuple(
        (_integer(option, text, first), _integer(option, text, second)) for first, second in pairs
    )


def numbers(option: str, text: str) -> tuple[float, ...]:
    """`0.005,0.01` as numbers.

    Raises:
        D90Error: for anything else.

    >>> numbers("--learning-rates", "5e-3,0.01")
    (0.005, 0.01)
    """
    return tuple(_number(option, text, part) for part in names(text))


def _integer(option: str, text: str, part: str) -> int:
    try:
        return int(part)  # A float would round a large seed.
    except ValueError:
        number = _number(option, text, part)
    if number != int(number):
        raise D90Error(
            f"{option} '{text}': {part} is not an integer; expected a list such as 10,100,1000."
        )
    return int(number)


def _number(option: str, text: str, part: str) -> float:
    try:
        number = float(part)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise D90Error(
            f"{option} '{text}': '{part}' is not a number; expected numbers separated by "
            "commas, as in 10,100 or 0.01,0.02."
        )
    return number
