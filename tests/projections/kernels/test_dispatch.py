from __future__ import annotations

import warnings
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from d90.errors import D90Error
from d90.projections import make_projection
from d90.projections.kernels import dispatch
from d90.projections.kernels.dispatch import implementation

PLAIN, HALF = [torch.float32], [torch.float32, torch.bfloat16]
WIDE, WRONG = [torch.float64], [torch.bfloat16, torch.float32]


def everything(name: str) -> bool:
    return True


def nothing(name: str) -> bool:
    return False


@pytest.mark.parametrize(
    ("wanted", "device", "dtypes", "expected"),
    [
        ("auto", "cpu", PLAIN, "native"),
        ("auto", "cpu", HALF, "native"),
        ("auto", "cuda", PLAIN, "triton"),
        ("auto", "cuda", HALF, "triton"),
        ("auto", "mps", PLAIN, "reference"),
        ("auto", "cpu", WIDE, "reference"),
        ("auto", "cuda", WIDE, "reference"),
        ("auto", "cpu", WRONG, "reference"),
        ("auto", "cpu", [*PLAIN, torch.float16], "reference"),
        ("auto", "cuda", [*PLAIN, torch.float16], "triton"),
        ("native", "cpu", [*PLAIN, torch.float16], "reference"),
        ("reference", "cpu", PLAIN, "reference"),
        ("reference", "cuda", PLAIN, "reference"),
        ("native", "cpu", PLAIN, "native"),
        ("native", "cpu", WIDE, "reference"),
        ("triton", "cuda", PLAIN, "triton"),
        ("triton", "cuda", WIDE, "reference"),
    ],
)
def test_who_serves(wanted: str, device: str, dtypes: list[torch.dtype], expected: str) -> None:
    assert implementation(wanted, device, dtypes, everything) == expected


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_without_kernels_the_reference_serves(device: str) -> None:
    assert implementation("auto", device, PLAIN, nothing) == "reference"


@pytest.mark.parametrize(
    ("wanted", "device", "remedy"),
    [("native", "cpu", "C\\+\\+ compiler"), ("triton", "cuda", "install triton 3.6")],
)
def test_a_missing_kernel_asked_for_by_name_is_an_error(
    wanted: str, device: str, remedy: str
) -> None:
    with pytest.raises(D90Error, match=remedy):
        implementation(wanted, device, PLAIN, nothing)


def test_the_wrong_device_for_a_kernel_asked_for_by_name_is_an_error() -> None:
    with pytest.raises(D90Error, match="native takes tensors on cpu, but these are on cuda"):
        implementation("native", "cuda", PLAIN, everything)
    with pytest.raises(D90Error, match="TRITON_INTERPRET=1"):
        implementation("triton", "cpu", PLAIN, everything)


def test_the_interpreter_is_on_the_processor() -> None:
    assert implementation("triton", "cpu", PLAIN, everything, interpreted=True) == "triton"
    assert implementation("auto", "cpu", PLAIN, everything, interpreted=True) == "native"
    with pytest.raises(D90Error, match="takes tensors on cpu"):
        implementation("triton", "cuda", PLAIN, everything, interpreted=True)


def test_nothing_is_loaded_that_cannot_serve() -> None:
    def must_not_be_asked(name: str) -> bool:
        raise AssertionError(name)

    assert implementation("auto", "cpu", WIDE, must_not_be_asked) == "reference"
    assert implementation("reference", "cpu", PLAIN, must_not_be_asked) == "reference"
    assert implementation("auto", "mps", PLAIN, must_not_be_asked) == "reference"


def test_tensors_of_two_devices_are_left_to_torch() -> None:
    assert dispatch.select_kernel(torch.zeros(1), torch.zeros(1, device="meta")) == "reference"


@pytest.mark.parametrize("name", ["dense", "fastfood"])
def test_the_reference_stays_on_the_device(name: str) -> None:
    """A device without memory refuses whatever would be read from it."""
    P = make_projection(name, d=300, D=5000)
    assert P.apply(torch.empty(300, device="meta"), 7, 5000).is_meta
    assert P.adjoint(torch.empty(4993, device="meta"), 7, 5000).is_meta


def test_a_projection_without_a_name_has_no_kernel() -> None:
    assert dispatch.kernel("", 3, torch.zeros(3)) is None


def test_an_unknown_kernel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D90_KERNEL", "tritn")
    with pytest.raises(D90Error, match="did you mean 'triton'"):
        dispatch.requested_kernel()


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The Triton kernels, looked up again after the test."""
    kernels = pytest.importorskip("d90.projections.kernels.triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.delenv("CC", raising=False)
    dispatch._triton.cache_clear()
    yield kernels
    dispatch._triton.cache_clear()


def test_a_triton_that_is_too_old_is_left_to_the_reference(
    triton: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernels would fail at their first launch."""
    monkeypatch.setattr(triton.triton, "__version__", "3.5.1")
    with pytest.warns(RuntimeWarning, match=r"3.5.1 is older than 3.6.*reference runs on the GPU"):
        assert dispatch._triton() is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dispatch._triton() is None, "one warning is enough"


def test_without_a_compiler_triton_is_left_to_the_reference(
    triton: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.warns(RuntimeWarning, match="C compiler"):
        assert dispatch._triton() is None
