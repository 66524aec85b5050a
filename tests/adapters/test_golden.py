"""Files that were written once: they mean the same weights for ever.

A file of each projection, with a code, a scale, a method and a grouping each; `weights.json` has
entries of the theta that they mean on a model whose weights are philox-v1's. Never written again:
what this finds changed is a break of every file that anybody has.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from d90.adapters import CODECS, Adapter, load_adapter
from d90.adapters.fingerprint import fingerprint
from d90.projections import PROJECTIONS
from d90.rng import philox
from d90.search.subspace_config import METHODS, SCALES
from d90.subspace import attach

FOLDER = Path(__file__).with_name("golden")
FILES = sorted(FOLDER.glob("*.safetensors"))
WEIGHTS = json.loads((FOLDER / "weights.json").read_text())


def golden_model() -> nn.Module:
    """A little network; tensor number i is of stream HEAD, block i, in steps of 2^-20."""
    layers = [
        ("table", nn.Embedding(300, 16)),
        ("body", nn.Linear(16, 40)),
        ("norm", nn.LayerNorm(40)),
    ]
    model = nn.Sequential(OrderedDict([*layers, ("head", nn.Linear(40, 3))]))
    for number, parameter in enumerate(model.parameters()):
        values = philox.normals(7, philox.Stream.HEAD, 0, parameter.numel(), block=number)
        exact = torch.round(values * 2**17) / 2**20
        parameter.data.copy_(exact.view_as(parameter))
    return model


def theta(file: Adapter) -> np.ndarray:
    """All weights that a file means, flat and in float64."""
    model, space = golden_model(), file.subspace
    subspace = attach(model, **space.to_dict())
    with torch.no_grad():
        subspace.z.copy_(torch.from_numpy(file.z))
        if subspace.lam is not None:
            subspace.lam.copy_(torch.from_numpy(file.lam))
        subspace.materialize()
    found = [getattr(*subspace.sites[slot][0]) for slot in subspace.layout.slices]
    return torch.cat([tensor.reshape(-1).double() for tensor in found]).numpy()


def test_there_is_one_of_everything() -> None:
    spaces = [load_adapter(path).subspace for path in FILES]
    assert {space.projection for space in spaces} == {*PROJECTIONS}
    assert {space.scale for space in spaces} == {*SCALES}
    assert {space.method for space in spaces} == {*METHODS}
    assert {load_adapter(path).codec for path in FILES} == {*CODECS}
    assert {path.name for path in FILES} == {*WEIGHTS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_means_the_same_weights(path: Path) -> None:
    expected = WEIGHTS[path.name]
    file = load_adapter(path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == expected["file"]
    assert hashlib.sha256(file.parameters.tobytes()).hexdigest() == expected["numbers"]
    assert file.to_bytes() == path.read_bytes()
    assert fingerprint(golden_model()) == file.base.fingerprint
    found = theta(file)
    assert len(found) == file.base.D
    # A kernel may add in another order: the last bits of a float32 are not frozen, all others are.
    np.testing.assert_allclose(found[expected["rows"]], expected["theta"], rtol=1e-6, atol=2e-7)
    digest = hashlib.sha256(np.rint(found[expected["digest_rows"]] * 2**12).astype("<i4").tobytes())
    assert digest.hexdigest() == expected["digest"]
