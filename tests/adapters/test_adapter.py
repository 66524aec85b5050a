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

SPACE = SubspaceConfig(method="said", projection="onehot", d=200)
BASE = BaseModelInfo("minilm-l6", "", "ab" * 32, D=22_713_986)
M = 8
USE = TaskInfo("mrpc", ("sentence1", "sentence2"), ("no", "yes"), 128, "accuracy", 0.7892)


def made(space: SubspaceConfig = SPACE, base: BaseModelInfo = BASE, use: TaskInfo = USE) -> Adapter:
    numbers = np.random.default_rng(0).standard_normal(200).astype(np.float32)
    numbers *= np.float32(0.25)
    numbers[-M:] += 1
    return new_adapter(numbers, space, base, use, m=M)


CODED = (Float32Codec(), Float16Codec(), UniformCodec(0.1), CodebookCodec((-0.3, -0.1, 0.1, 0.3)))


@pytest.mark.parametrize("code", CODED)
def test_what_is_written_is_read(code: object, tmp_path: Path) -> None:
    file = made().with_codec(code)  # type: ignore[arg-type]
    path = tmp_path / "a file.safetensors"
    assert file.save(path) == path.stat().st_size
    again = load_adapter(path)
    assert again.to_bytes() == file.to_bytes() == path.read_bytes()
    assert (again.parameters == file.parameters).all()
    assert (again.subspace, again.base, again.task, again.codec) == (SPACE, BASE, USE, file.codec)
    assert (len(again.z), len(again.lam)) == (192, 8)
    assert again.bits == 8 * len(file.data)


def test_float32_is_exact_whatever_lam_is() -> None:
    numbers = made().parameters.copy()
    numbers[-8:] = [0.3, -2.7, 1e-8, 1.0000001, 33.3, 0.1, 5e8, -1e-20]
    file = new_adapter(numbers, SPACE, BASE, USE, m=M)
    assert from_bytes(file.to_bytes()).parameters.tobytes() == numbers.tobytes()


def test_sizes() -> None:
    """Under 800 bytes in float16 and 600 in a code, at d = 200."""
    assert len(made().with_codec(Float16Codec()).to_bytes()) < 800
    assert len(made().with_codec(UniformCodec(0.1)).to_bytes()) < 600
    assert (
        len(made().with_codec(CodebookCodec(np.linspace(-0.5, 0.5, 16).tolist())).to_bytes()) < 600
    )


def test_any_safetensors_reader_opens_it(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    made().with_codec(Float16Codec()).save(path)
    with safe_open(path, framework="np") as opened:
        assert opened.get_tensor("numbers").dtype == np.float16
        assert opened.get_tensor("numbers").shape == (200,)
        assert opened.metadata()["random"] == philox.SCHEME == module.SCHEME


def test_names_may_be_anything() -> None:
    base = BaseModelInfo("my models/größe 100%/-", "a b", "01" * 32, D=22_713_986)
    use = TaskInfo("", ("a b", ""), ("ja, nein", "", "\u2603", "-"), 7, "macro_f1", 0.5)
    file = made(base=base, use=use)
    again = from_bytes(file.to_bytes())
    assert (again.base, again.task) == (base, use)


def test_saving_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    made().save(path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("d90.utils.files.os.fsync", full)
    with pytest.raises(D90Error, match="cannot be written: No space left on device"):
        made().with_codec(Float16Codec()).save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.safetensors"]


CONTENT = made().with_codec(UniformCodec(0.1)).to_bytes()


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


def rewritten(**words: str) -> bytes:
    """The file with other words and a right checksum."""
    found = module.unpack(CONTENT)
    return module.pack(replace(found, metadata={**found.metadata, **words}))


@pytest.mark.parametrize(
    ("words", "message"),
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
def test_words_that_mean_nothing(words: dict[str, str], message: str) -> None:
    with pytest.raises(D90Error, match=message):
        from_bytes(rewritten(**words))


def test_a_missing_word_and_another_kind_of_file() -> None:
    found = module.unpack(CONTENT)
    words = {name: word for name, word in found.metadata.items() if name != "base"}
    with pytest.raises(D90Error, match="its metadata are damaged"):
        from_bytes(module.pack(replace(found, metadata=words)))
    header = json.dumps({"w": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}).encode()
    with pytest.raises(D90Error, match="another kind of safetensors file"):
        from_bytes(len(header).to_bytes(8, "little") + header)
    deep = b"[" * 50_000
    with pytest.raises(D90Error, match="its header is not JSON"):
        from_bytes(len(deep).to_bytes(8, "little") + deep)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(value: float) -> None:
    numbers = made().parameters.copy()
    numbers[3] = value
    with pytest.raises(D90Error, match="not finite"):
        new_adapter(numbers, SPACE, BASE, USE, m=M)
    found = module.unpack(made().to_bytes())
    with pytest.raises(D90Error, match="not finite"):
        from_bytes(module.pack(replace(found, data=numbers.tobytes())))


def test_a_wrong_number_of_numbers() -> None:
    with pytest.raises(D90Error, match=r"shape \(199,\): expected \(200,\)"):
        new_adapter(made().parameters[:-1], SPACE, BASE, USE, m=M)


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


def test_files_that_share_a_space() -> None:
    assert_same_subspace([made(), made(use=replace(USE, name="qqp"))])
    with pytest.raises(D90Error, match="do not share a projection and a base model"):
        assert_same_subspace([made(), made(space=replace(SPACE, seed=1))])
    with pytest.raises(D90Error, match="do not share"):
        assert_same_subspace([made(), made(base=replace(BASE, fingerprint="cd" * 32))])
