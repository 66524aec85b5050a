"""Adapters: the same bytes every time, and only complete, unaltered files are read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from d90.adapters import (
    Adapter,
    BaseModelInfo,
    CodebookCodec,
    Float16Codec,
    Float32Codec,
    SubspaceConfig,
    TaskInfo,
    UniformCodec,
    assert_same_subspace,
    from_bytes,
    load_adapter,
    new_adapter,
)
from d90.adapters import adapter as module
from d90.errors import D90Error
from d90.rng import philox

SUBSPACE = SubspaceConfig(method="said", projection="onehot", d=200)
BASE = BaseModelInfo("minilm-l6", "", "ab" * 32, D=22_713_986)
M = 8
TASK = TaskInfo("mrpc", ("sentence1", "sentence2"), ("no", "yes"), 128, "accuracy", 0.7892)


def example_adapter(
    subspace: SubspaceConfig = SUBSPACE, base: BaseModelInfo = BASE, task: TaskInfo = TASK
) -> Adapter:
    parameters = np.random.default_rng(0).standard_normal(200).astype(np.float32)
    parameters *= np.float32(0.25)
    parameters[-M:] += 1
    return new_adapter(parameters, subspace, base, task, m=M)


CODECS = (Float32Codec(), Float16Codec(), UniformCodec(0.1), CodebookCodec((-0.3, -0.1, 0.1, 0.3)))


@pytest.mark.parametrize("codec", CODECS)
def test_save_and_load(codec: object, tmp_path: Path) -> None:
    file = example_adapter().with_codec(codec)  # type: ignore[arg-type]
    path = tmp_path / "a file.safetensors"
    assert file.save(path) == path.stat().st_size
    again = load_adapter(path)
    assert again.to_bytes() == file.to_bytes() == path.read_bytes()
    assert (again.parameters == file.parameters).all()
    assert (again.subspace, again.base, again.task, again.codec) == (
        SUBSPACE,
        BASE,
        TASK,
        file.codec,
    )
    assert (len(again.z), len(again.lam)) == (192, 8)
    assert again.bits == 8 * len(file.data)


def test_float32_is_lossless_for_any_lam() -> None:
    parameters = example_adapter().parameters.copy()
    parameters[-8:] = [0.3, -2.7, 1e-8, 1.0000001, 33.3, 0.1, 5e8, -1e-20]
    file = new_adapter(parameters, SUBSPACE, BASE, TASK, m=M)
    assert from_bytes(file.to_bytes()).parameters.tobytes() == parameters.tobytes()


def test_sizes() -> None:
    """Under 800 bytes in float16 and 600 entropy-coded, at d = 200."""
    assert len(example_adapter().with_codec(Float16Codec()).to_bytes()) < 800
    assert len(example_adapter().with_codec(UniformCodec(0.1)).to_bytes()) < 600
    assert (
        len(
            example_adapter()
            .with_codec(CodebookCodec(np.linspace(-0.5, 0.5, 16).tolist()))
            .to_bytes()
        )
        < 600
    )


def test_any_safetensors_reader_opens_it(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    example_adapter().with_codec(Float16Codec()).save(path)
    with safe_open(path, framework="np") as opened:
        assert opened.get_tensor("numbers").dtype == np.float16
        assert opened.get_tensor("numbers").shape == (200,)
        assert opened.metadata()["random"] == philox.SCHEME == module.SCHEME


def test_names_may_be_anything() -> None:
    base = BaseModelInfo("my models/größe 100%/-", "a b", "01" * 32, D=22_713_986)
    task = TaskInfo("", ("a b", ""), ("ja, nein", "", "\u2603", "-"), 7, "macro_f1", 0.5)
    file = example_adapter(base=base, task=task)
    again = from_bytes(file.to_bytes())
    assert (again.base, again.task) == (base, task)


def test_saving_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    example_adapter().save(path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("d90.utils.files.os.fsync", full)
    with pytest.raises(D90Error, match="cannot be written: No space left on device"):
        example_adapter().with_codec(Float16Codec()).save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.safetensors"]


CONTENT = example_adapter().with_codec(UniformCodec(0.1)).to_bytes()


@pytest.mark.parametrize("at", range(0, len(CONTENT), 7))
def test_one_changed_byte_is_refused(at: int) -> None:
    altered = bytearray(CONTENT)
    altered[at] ^= 1
    with pytest.raises(D90Error):
        from_bytes(bytes(altered))


@pytest.mark.parametrize("length", [0, 7, 8, 100, len(CONTENT) - 1])
def test_a_file_that_is_cut_off(length: int) -> None:
    with pytest.raises(D90Error):
        from_bytes(CONTENT[:length])
    with pytest.raises(D90Error):
        from_bytes(CONTENT + b"\0")


def rewritten(**metadata: str) -> bytes:
    """The file with changed metadata and a valid checksum."""
    content = module.unpack(CONTENT)
    return module.pack(replace(content, metadata={**content.metadata, **metadata}))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"d90": "2"}, "version 2 with philox-v1, and this d90 reads version 1 with philox-v1"),
        ({"random": "philox-v9"}, "with philox-v9"),
        ({"code": "zip"}, "unknown codec 'zip'"),
        ({"code": "float32"}, "its tensor is U8, which does not fit the codec float32"),
        ({"space": "onehot tensor did layer 200 100 0 0 0"}, "its subspace is impossible"),
        ({"space": "onehot tensor did layer 0 100 0 0 0"}, "its subspace is impossible"),
        ({"space": "onehot tensor did layer 2e2 100 0 0 0"}, "its subspace is damaged"),
        ({"space": "onehot"}, "its metadata are damaged"),
        ({"space": "kronecker tensor did layer 9 100 0 0 0"}, "unknown projection 'kronecker'"),
        ({"space": "onehot tensor did layer 9 100 0 0 18446744073709551616"}, "is impossible"),
        ({"space": "onehot tensor said layer 150 22713986 8 0 0"}, "are damaged"),
        ({"base": "minilm-l6  abc"}, "fingerprint of its base model is damaged"),
        ({"labels": "yes"}, "columns or labels are damaged"),
        ({"labels": "yes yes"}, "columns or labels are damaged"),
        ({"metric": "accuracy high 128"}, "its metadata are damaged"),
        ({"task": "%ff a"}, "its metadata are damaged"),
    ],
)
def test_invalid_metadata(metadata: dict[str, str], message: str) -> None:
    with pytest.raises(D90Error, match=message):
        from_bytes(rewritten(**metadata))


def test_missing_metadata_and_other_files() -> None:
    content = module.unpack(CONTENT)
    metadata = {name: value for name, value in content.metadata.items() if name != "base"}
    with pytest.raises(D90Error, match="its metadata are damaged"):
        from_bytes(module.pack(replace(content, metadata=metadata)))
    header = json.dumps({"w": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}).encode()
    with pytest.raises(D90Error, match="another kind of safetensors file"):
        from_bytes(len(header).to_bytes(8, "little") + header)
    deep = b"[" * 50_000
    with pytest.raises(D90Error, match="its header is not JSON"):
        from_bytes(len(deep).to_bytes(8, "little") + deep)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_parameters_that_are_not_finite(value: float) -> None:
    parameters = example_adapter().parameters.copy()
    parameters[3] = value
    with pytest.raises(D90Error, match="not finite"):
        new_adapter(parameters, SUBSPACE, BASE, TASK, m=M)
    content = module.unpack(example_adapter().to_bytes())
    with pytest.raises(D90Error, match="not finite"):
        from_bytes(module.pack(replace(content, data=parameters.tobytes())))


def test_a_wrong_number_of_parameters() -> None:
    with pytest.raises(D90Error, match=r"shape \(199,\): expected \(200,\)"):
        new_adapter(example_adapter().parameters[:-1], SUBSPACE, BASE, TASK, m=M)


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(D90Error, match=r"adapter '.*nothing' cannot be read: No such file"):
        load_adapter(tmp_path / "nothing")
    (tmp_path / "x").write_bytes(b"hello")
    with pytest.raises(D90Error, match=r"adapter '.*x': it is not an adapter, or it is cut off"):
        load_adapter(tmp_path / "x")


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=400))
def test_any_bytes_are_a_named_error(data: bytes) -> None:
    with pytest.raises(D90Error):
        from_bytes(data)


def test_adapters_of_the_same_subspace() -> None:
    assert_same_subspace([example_adapter(), example_adapter(task=replace(TASK, name="qqp"))])
    with pytest.raises(D90Error, match="do not share a projection and a base model"):
        assert_same_subspace(
            [example_adapter(), example_adapter(subspace=replace(SUBSPACE, seed=1))]
        )
    with pytest.raises(D90Error, match="do not share"):
        assert_same_subspace(
            [example_adapter(), example_adapter(base=replace(BASE, fingerprint="cd" * 32))]
        )
