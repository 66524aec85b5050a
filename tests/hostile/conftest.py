"""The ground of the hostile cases, made once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.hostile.ground import Ground, make_ground


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """Valid inputs of every kind."""
    return make_ground(tmp_path_factory.mktemp("ground"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder, which is the current one; its permissions are restored."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    yield tmp_path
    for folder, names, _ in os.walk(tmp_path):
        for name in names:
            os.chmod(os.path.join(folder, name), 0o700)
