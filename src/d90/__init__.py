"""Measure the intrinsic dimension of fine-tuning.

The names below are loaded when they are first asked for: `import d90` alone loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from d90.adapters.model import load
    from d90.experiments.measure import measure, run_study
    from d90.experiments.problem import load_problem
    from d90.experiments.study import Study
    from d90.storage.store import Store
    from d90.subspace import attach, detach
    from d90.tasks import load_task

    __version__: str

__all__ = [
    "Store",
    "Study",
    "__version__",
    "attach",
    "detach",
    "load",
    "load_problem",
    "load_task",
    "measure",
    "run_study",
]

_HOMES = {
    "Store": "d90.storage.store",
    "Study": "d90.experiments.study",
    "attach": "d90.subspace",
    "detach": "d90.subspace",
    "load": "d90.adapters.model",
    "load_task": "d90.tasks",
    "load_problem": "d90.experiments.problem",
    "measure": "d90.experiments.measure",
    "run_study": "d90.experiments.measure",
}


def __getattr__(name: str) -> Any:
    """A public name, from the module that defines it (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return version("d90")
    if name not in _HOMES:
        raise AttributeError(f"module 'd90' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
