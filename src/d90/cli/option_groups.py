"""Groups of options that several commands share.

A group is a function whose parameters are the options. `with_options` adds them to a command's
signature and passes the command the group's result in their place.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

Group = Callable[..., Any]


def with_options(**groups: Group) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace the parameters of these names by the options of their groups.

    >>> def size(width: int = 2, height: int = 3) -> int:
    ...     return width * height
    >>> @with_options(area=size)
    ... def paint(color: str, *, area: int) -> None:
    ...     print(color, area)
    >>> list(inspect.signature(paint).parameters)
    ['color', 'width', 'height']
    >>> paint(color="red", width=4)
    red 12
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        options = {name: _parameters(group) for name, group in groups.items()}
        merged: dict[str, inspect.Parameter] = {}
        for name, parameter in _parameters(command).items():
            merged.update(options.get(name, {name: parameter}))

        @functools.wraps(command)
        def call(**values: Any) -> None:
            given = {
                name: groups[name](**{key: values.pop(key) for key in own if key in values})
                for name, own in options.items()
            }
            command(**values, **given)

        call.__signature__ = inspect.Signature(list(merged.values()))  # type: ignore[attr-defined]
        hints = {name: parameter.annotation for name, parameter in merged.items()}
        call.__annotations__ = {**hints, "return": type(None)}
        return call

    return decorate


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters with their annotations resolved, all by keyword."""
    hints = get_type_hints(function, include_extras=True)
    return {
        name: parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(function).parameters.items()
    }
