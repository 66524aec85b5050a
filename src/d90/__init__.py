"""Measure the intrinsic dimension of fine-tuning.

The public names are loaded on first use: `import d90` alone does not load torch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inspect import Signature

    from d90.adapters import Adapter
    from d90.adapters.model import load
    from d90.errors import D90Error
    from d90.experiments.callbacks import Callback
    from d90.experiments.measure import measure, run_study
    from d90.experiments.objective import search
    from d90.experiments.problem import Problem, load_problem
    from d90.experiments.study import Study
    from d90.search.protocols import AdaptiveProtocol, BisectProtocol, GridProtocol, ListProtocol
    from d90.search.subspace_config import SubspaceConfig
    from d90.search.summary import Summary
    from d90.search.trial import Trial, TrialResult
    from d90.storage.store import Store
    from d90.subspace import attach, detach
    from d90.tasks import load_task
    from d90.training import TrainConfig

    __version__: str

__all__ = [
    "Adapter",
    "AdaptiveProtocol",
    "BisectProtocol",
    "Callback",
    "D90Error",
    "GridProtocol",
    "ListProtocol",
    "Problem",
    "Store",
    "Study",
    "SubspaceConfig",
    "Summary",
    "TrainConfig",
    "Trial",
    "TrialResult",
    "__version__",
    "attach",
    "detach",
    "load",
    "load_problem",
    "load_task",
    "measure",
    "run_study",
    "search",
]

_MODULES = {
    "Adapter": "d90.adapters",
    "AdaptiveProtocol": "d90.search.protocols",
    "BisectProtocol": "d90.search.protocols",
    "Callback": "d90.experiments.callbacks",
    "D90Error": "d90.errors",
    "GridProtocol": "d90.search.protocols",
    "ListProtocol": "d90.search.protocols",
    "Problem": "d90.experiments.problem",
    "Store": "d90.storage.store",
    "Study": "d90.experiments.study",
    "SubspaceConfig": "d90.search.subspace_config",
    "Summary": "d90.search.summary",
    "TrainConfig": "d90.training",
    "Trial": "d90.search.trial",
    "TrialResult": "d90.search.trial",
    "attach": "d90.subspace",
    "detach": "d90.subspace",
    "load": "d90.adapters.model",
    "load_problem": "d90.experiments.problem",
    "load_task": "d90.tasks",
    "measure": "d90.experiments.measure",
    "run_study": "d90.experiments.measure",
    "search": "d90.experiments.objective",
}


def __getattr__(name: str) -> Any:
    """A public name, from the module that defines it (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return version("d90")
    if name not in _MODULES:
        raise AttributeError(f"module 'd90' has no attribute '{name}'")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _CallablePackage(ModuleType):
    """The subpackage `d90.search`, which is also the public function of that name.

    Importing a module of the subpackage makes it the attribute `d90.search`, so that it has to be
    callable: `d90.search(objective, ...)` is `d90.experiments.objective.search`.
    """

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self._function(*args, **keywords)

    @property
    def __signature__(self) -> Signature:
        from inspect import signature

        return signature(self._function)

    @property
    def _function(self) -> Any:
        return import_module(_MODULES["search"]).search


import_module("d90.search")  # It imports nothing more.
sys.modules["d90.search"].__class__ = _CallablePackage
