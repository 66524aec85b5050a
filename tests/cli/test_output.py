"""What reaches standard error, and in how many lines."""

from __future__ import annotations

import logging
import warnings

import pytest

from d90.cli import main
from d90.cli.output import silence


@pytest.mark.parametrize(("quiet", "count"), [(True, 0), (False, 1)])
def test_silence(quiet: bool, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("some.library")
    log.addHandler(handler := logging.StreamHandler())
    with warnings.catch_warnings(record=True) as seen:
        with silence(quiet):
            warnings.simplefilter("always")  # As scikit-learn does.
            warnings.warn("this will change", FutureWarning, stacklevel=1)
            log.error("this happened")
        log.removeHandler(handler)
    assert len(seen) == count
    assert capsys.readouterr().err.count("\n") == count


def test_a_warning_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # Put back afterwards.
    with pytest.raises(SystemExit):
        main(["--version"])
    line = warnings.formatwarning("the native kernel\nis missing", RuntimeWarning, "file.py", 1)
    assert line == "warning: the native kernel is missing\n"
