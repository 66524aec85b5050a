"""Lists of numbers on the command line."""

from __future__ import annotations

from d90.errors import D90Error


def whole_numbers(name: str, text: str) -> tuple[int, ...]:
    """`10,100,1000` as numbers.

    Raises:
        D90Error: for anything else.

    >>> whole_numbers("dims", "10, 1e3, 10_000")
    (10, 1000, 10000)
    """
    values = rates(name, text)
    if any(value != int(value) for value in values):
        raise D90Error(f"--{_flag(name)} '{text}': expected whole numbers, as in 10,100,1000.")
    return tuple(int(value) for value in values)


def rates(name: str, text: str) -> tuple[float, ...]:
    """`0.005,0.01` as numbers.

    Raises:
        D90Error: for anything else.

    >>> rates("learning_rates", "5e-3,0.01")
    (0.005, 0.01)
    """
    try:
        values = tuple(float(part) for part in text.replace(" ", "").split(","))
    except ValueError as error:
        raise D90Error(
            f"--{_flag(name)} '{text}': expected numbers with commas between them, as in 0.01,0.02."
        ) from error
    if any(value != value or abs(value) == float("inf") for value in values):
        raise D90Error(f"--{_flag(name)} '{text}': expected finite numbers.")
    return values


def _flag(name: str) -> str:
    return name.replace("_", "-")
