"""What `d90` exports: complete, documented, annotated, and loaded only when it is used."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import d90

EXPORTED = [name for name in d90.__all__ if name != "__version__"]


@pytest.mark.parametrize("name", EXPORTED)
def test_a_public_name_is_defined_documented_and_annotated(name: str) -> None:
    value = getattr(d90, name)
    assert value.__name__.rpartition(".")[2] == name and inspect.getdoc(value)
    if not inspect.isclass(value):
        signature = inspect.signature(value)
        kinds = {parameter.kind for parameter in signature.parameters.values()}
        assert not kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
        annotations = [parameter.annotation for parameter in signature.parameters.values()]
        assert inspect.Signature.empty not in [*annotations, signature.return_annotation]


def test_the_export_lists_agree() -> None:
    assert sorted(d90.__all__) == d90.__all__
    assert set(d90._MODULES) == set(EXPORTED)
    assert set(d90.__all__) <= set(dir(d90))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        d90.nothing  # noqa: B018


def test_search_is_a_function_and_a_package() -> None:
    import d90.search.summary as summary
    from d90.experiments.objective import search

    assert d90.search.summary is summary  # type: ignore[attr-defined]
    assert d90.search is sys.modules["d90.search"]
    assert inspect.signature(d90.search) == inspect.signature(search)
    with pytest.raises(d90.D90Error, match="name is ''"):
        d90.search(lambda trial: 0.5, name="")


MEASURE = """
import sys
import d90

assert "torch" not in sys.modules
summary = d90.measure(
    sys.argv[1],
    sys.argv[2],
    protocol=d90.ListProtocol(dims=[10], learning_rates=[0.01], baseline_learning_rates=[0.01]),
    training=d90.TrainConfig(max_steps=2, batch_size=8, precision="no"),
    max_length=16,
    store=sys.argv[3],
)
assert len(summary.trials) == 2
forbidden = ("d90.cli", "d90.report", "matplotlib")
print([name for name in sys.modules if name.startswith(forbidden)])
"""


def test_measuring_loads_no_report(ready_folder: Path, toy_folder: Path, tmp_path: Path) -> None:
    """Whatever of rich or jinja2 is loaded comes from libraries that import them themselves."""
    arguments = [str(ready_folder), str(toy_folder), str(tmp_path / "d90.db")]
    command = [sys.executable, "-c", MEASURE, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
