"""The native kernel against the reference, bit by bit where bits are promised."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from d90.errors import D90Error
from d90.projections import PROJECTIONS, Projection, make_projection
from d90.projections.kernels import native
from d90.projections.kernels.dispatch import select_kernel
from d90.rng import philox
from d90.rng.philox import Stream

pytestmark = pytest.mark.skipif(native.library() is None, reason="the native kernel is not built")


def _pointer(tensor: torch.Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


@pytest.mark.parametrize("block", [0, 5, 2**40 + 3])
def test_words_and_normals_have_the_bits_of_the_reference(block: int) -> None:
    library = native.library()
    assert library is not None
    seed, start, stop = 2**63 + 12345, 100, 5000
    found = torch.empty(stop - start, dtype=torch.int32)
    library.d90_words(
        ctypes.c_uint64(seed),
        ctypes.c_uint32(Stream.DENSE),
        ctypes.c_uint64(block),
        ctypes.c_int64(start),
        ctypes.c_int64(stop),
        _pointer(found),
    )
    expected = philox.words(seed, Stream.DENSE, start, stop, block=block)
    assert torch.equal(found.to(torch.int64) & 0xFFFFFFFF, expected)
    values = torch.empty(2 * (stop - start))
    library.d90_normals(_pointer(found), ctypes.c_int64(stop - start), _pointer(values))
    assert torch.equal(values, philox.to_normals(expected))


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(PROJECTIONS)),
    d=st.integers(1, 600),
    extra=st.integers(0, 3000),
    seed=st.integers(0, 2**64 - 1),
    data=st.data(),
)
def test_native_agrees_with_the_reference(
    name: str, d: int, extra: int, seed: int, data: st.DataObject
) -> None:
    D = d + extra
    start = data.draw(st.integers(0, D))
    stop = data.draw(st.integers(start, D))
    P = make_projection(name, d=d, D=D, seed=seed)
    z, g = torch.randn(d), torch.randn(stop - start)
    rows, sums = P.apply(z, start, stop), P.adjoint(g, start, stop)
    assert_good(P, z, rows, P._apply(z, start, stop), P._apply(z.double(), start, stop))
    assert_good(P, g, sums, P._adjoint(g, start, stop), P._adjoint(g.double(), start, stop))


@pytest.mark.parametrize("isa", ["avx512", "avx2", "baseline"])
def test_every_instruction_set_gives_the_same_bits(isa: str) -> None:
    code = (
        "import hashlib, torch; from d90.projections.kernels import native\n"
        "from d90.projections import *\n"
        "torch.manual_seed(0); h = hashlib.sha256();\n"
        "for name in sorted(PROJECTIONS):\n"
        "    for d, D in ((3, 100), (10, 500), (200, 5000), (3000, 9000)):\n"
        "        P = make_projection(name, d=d, D=D, seed=5); z = torch.randn(d)\n"
        "        h.update(P.apply(z, 0, D).numpy())\n"
        "        h.update(P.adjoint(torch.randn(D), 0, D).numpy())\n"
        "print(native.library().d90_isa().decode(), h.hexdigest())"
    )

    def digest(wanted: str) -> list[str]:
        environment = {**os.environ, "D90_ISA": wanted, "D90_KERNEL": "native"}
        return subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()

    found = digest(isa)
    if found[0] != isa:
        pytest.skip(f"this processor has no {isa}")
    assert found[1] == digest("baseline")[1]


def test_several_python_threads_at_once() -> None:
    P = make_projection("fastfood", d=300, D=50_000, seed=1)
    z = torch.randn(300)
    expected, found = P.apply(z, 0, P.D), {}

    def work(index: int) -> None:
        found[index] = all(torch.equal(P.apply(z, 0, P.D), expected) for _ in range(5))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(4), True)


def _digest(queue: multiprocessing.Queue) -> None:
    P = make_projection("fastfood", d=30, D=5000, seed=1)
    queue.put(float(P.apply(torch.ones(30), 0, P.D).double().sum()))


def test_after_a_fork() -> None:
    P = make_projection("fastfood", d=30, D=5000, seed=1)
    expected = float(P.apply(torch.ones(30), 0, P.D).double().sum())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_digest, args=(queue,))
    process.start()
    assert queue.get(timeout=30) == expected
    process.join()


def test_an_unknown_kernel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D90_KERNEL", "nativ")
    with pytest.raises(ValueError, match="did you mean 'native'"):
        native.requested_kernel()


def test_without_the_library_the_reference_serves_and_says_so_once() -> None:
    code = (
        "import warnings, torch\n"
        "from d90.projections.kernels import native\n"
        "from d90.projections import make_projection\n"
        "native._LIBRARY = 'missing.so'\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    P = make_projection('fastfood', d=5, D=50)\n"
        "    P.apply(torch.ones(5), 0, 50); P.apply(torch.ones(5), 0, 50)\n"
        "print(len([w for w in seen if 'torch reference runs' in str(w.message)]))\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("D90_KERNEL", "D90_LIBRARY")}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "1"


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(["fastfood", "onehot"]),
    d=st.integers(129, 5000),
    blocks=st.floats(1, 5),
    threads=st.integers(1, 5),
    data=st.data(),
)
def test_blocks_by_rows_agree_with_the_reference(
    name: str, d: int, blocks: float, threads: int, data: st.DataObject
) -> None:
    D = int(d * blocks)
    start = data.draw(st.integers(0, D - 1))
    stop = data.draw(st.integers(start + 1, D))
    P = make_projection(name, d=d, D=D, seed=data.draw(st.integers(0, 2**64 - 1)))
    z, g = torch.randn(d), torch.randn(stop - start)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rows, sums = P.apply(z, start, stop), P.adjoint(g, start, stop)
    finally:
        torch.set_num_threads(before)
    assert_good(P, z, rows, P._apply(z, start, stop), P._apply(z.double(), start, stop))
    assert_good(P, g, sums, P._adjoint(g, start, stop), P._adjoint(g.double(), start, stop))


@pytest.mark.parametrize("name", sorted(PROJECTIONS))
@pytest.mark.parametrize("d", [3, 200, 700])
def test_long_sums_are_as_good_as_those_of_the_reference(name: str, d: int) -> None:
    D = 500_000 if name != "dense" else 20_000
    P = make_projection(name, d=d, D=D, seed=1)
    g = torch.randn(D)
    assert_good(P, g, P.adjoint(g, 0, D), P._adjoint(g, 0, D), P._adjoint(g.double(), 0, D))


@pytest.mark.parametrize("name", sorted(PROJECTIONS))
@pytest.mark.parametrize("d", [5, 300])
def test_bfloat16_weights_are_summed_in_float32_and_rounded_once(name: str, d: int) -> None:
    P = make_projection(name, d=d, D=3001, seed=2)
    # Odd lengths and starts: no vector is aligned.
    starts, lengths, scales = [3, 1100, 2005], [1001, 333, 996], [1.0, 3.0, 0.5]
    theta_0 = [torch.randn(length).bfloat16() for length in lengths]
    theta_0[1][:4] = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0])
    z = torch.randn(d)
    assert select_kernel(z, *theta_0) == "native"
    found = P.add_projected(z, theta_0, starts, scales)
    exact = P.add_projected(z, [t.float() for t in theta_0], starts, scales)
    for tensor, wide in zip(found, exact, strict=True):
        assert torch.equal(tensor.isnan(), wide.isnan())
        assert torch.equal(tensor.nan_to_num(), wide.bfloat16().nan_to_num())
    gradients = [torch.randn(length).bfloat16() for length in lengths]
    wide = P.pull_back([g.float() for g in gradients], starts, scales)
    assert torch.equal(P.pull_back(gradients, starts, scales), wide)


def test_rows_outside_the_tensors_are_not_written() -> None:
    P = make_projection("fastfood", d=300, D=2000, seed=1)
    memory = torch.full((2000,), 7.0)
    P.add_projected(torch.randn(300), [torch.zeros(501)], [701], [1.0], out=[memory[701:1202]])
    assert torch.equal(memory[:701], torch.full((701,), 7.0))
    assert torch.equal(memory[1202:], torch.full((798,), 7.0))
    assert (memory[701:1202] != 7).all()


def test_long_theta_goes_past_the_caches_to_the_same_values() -> None:
    D = 2**22 + 1003  # Longer than what the kernel expects to find in a cache afterwards.
    P, z = make_projection("onehot", d=100, D=D, seed=1), torch.randn(100)
    theta_0, shifted = torch.randn(D), torch.empty(D + 3)[3:]
    P.add_projected(z, [theta_0], [0], [2.0], out=[shifted])
    short = [P.add_projected(z, [part], [start], [2.0])[0] for start, part in parts_of(theta_0)]
    assert torch.equal(shifted, torch.cat(short))


def parts_of(tensor: torch.Tensor) -> list[tuple[int, torch.Tensor]]:
    size = 1_000_001
    return [(start, tensor[start : start + size]) for start in range(0, len(tensor), size)]


def test_a_long_call_can_be_interrupted() -> None:
    code = (
        "import signal, sys, time, torch\n"
        "from d90.projections import make_projection\n"
        "P = make_projection('dense', d=1_000_000, D=10_000_000)\n"  # Hours of work.
        "z = torch.randn(P.d)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.3)\n"
        "def alarm(*_): raise KeyboardInterrupt\n"
        "signal.signal(signal.SIGALRM, alarm)\n"
        "start = time.monotonic()\n"
        "try:\n"
        "    P.apply(z, 0, P.D)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', time.monotonic() - start < 20)\n"
    )
    environment = {**os.environ, "D90_KERNEL": "native"}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert found.stdout.split() == ["interrupted", "True"], found.stderr


def test_a_requested_kernel_without_its_library_is_one_line(tmp_path: Path) -> None:
    code = (
        "import torch\n"
        "from d90.errors import D90Error\n"
        "from d90.projections import make_projection\n"
        "try:\n"
        "    make_projection('onehot', d=2, D=4, seed=0).apply(torch.ones(2), 0, 4)\n"
        "except D90Error as error:\n"
        "    print(error)\n"
    )
    missing = {"D90_KERNEL": "native", "D90_LIBRARY": str(tmp_path / "no.so")}
    command = [sys.executable, "-c", code]
    found = subprocess.run(
        command, env={**os.environ, **missing}, capture_output=True, text=True, timeout=120
    )
    assert found.stdout.startswith("D90_KERNEL=native, but"), found.stderr
    assert found.stdout.count("\n") == 1


@pytest.mark.parametrize(
    "change",
    [
        {"threads": 0},
        {"threads": -1},
        {"threads": -(2**31)},
        {"D": 2**53 + 1},
        {"d": 2**53 + 1, "D": 2**63 - 1},
        {"d": 2**63 - 1, "D": 2**63 - 1},
        {"d": 0},
        {"d": -(2**63)},
        {"d": 31, "D": 30},
        {"projection": 4},
        {"projection": -1},
        {"count": -1},
        {"stop": 10**6},
        {"start": -1},
        {"start": 21},
    ],
    ids=str,
)
@pytest.mark.parametrize("function", ["d90_apply", "d90_adjoint"])
def test_the_library_refuses_arguments_out_of_range(function: str, change: dict[str, int]) -> None:
    vector, rows = torch.full((3,), 7.0), torch.full((20,), 7.0)
    assert call(function, vector, rows, **change) == 2
    assert (vector == 7).all() and (rows == 7).all()


# Not sparse: a stratum has sqrt(D) rows, 380 MB.
@pytest.mark.parametrize("name", ["dense", "fastfood", "onehot"])
def test_the_largest_D_is_exact(name: str) -> None:
    D = 2**53
    P, z, g = make_projection(name, d=3, D=D), torch.randn(3), torch.randn(20)
    rows, sums = P._apply(z, D - 20, D), P._adjoint(g, D - 20, D)
    assert torch.allclose(P.apply(z, D - 20, D), rows, rtol=1e-5, atol=0)
    assert torch.allclose(P.adjoint(g, D - 20, D), sums, rtol=1e-5, atol=1e-6 * D**-0.5)
    with pytest.raises(D90Error, match="D is 9007199254740993: expected at most 2\\^53 weights"):
        make_projection(name, d=3, D=D + 1)


def call(
    function: str,
    vector: torch.Tensor,
    rows: torch.Tensor,
    *,
    projection: int = 3,
    d: int = 3,
    D: int = 30,
    start: int = 0,
    stop: int = 20,
    count: int = 1,
    threads: int = 1,
) -> int:
    """What a function of the library returns for one run of rows."""
    library = native.library()
    assert library is not None
    pointer = rows.data_ptr()
    segment = (native._Segment * 1)(native._Segment(start, stop, pointer, pointer, 1.0, 0))
    run = getattr(library, function)
    if function == "d90_apply":
        segment[0].source = None
    return run(projection, 0, d, D, vector.data_ptr(), segment, count, threads, native._CHECK())


def test_no_exception_leaves_the_library(tmp_path: Path) -> None:
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), "g++"))), None)
    if compiler is None:
        pytest.skip("no C++ compiler")
    source = 'extern "C" int raise_from_check() { throw 1; }\n'
    command = [compiler, "-shared", "-fPIC", "-x", "c++", "-", "-o", str(tmp_path / "check.so")]
    subprocess.run(command, input=source, text=True, check=True)
    code = (
        "import ctypes, sys, torch\n"
        "from d90.projections.kernels import native\n"
        "check = native._CHECK(('raise_from_check', ctypes.CDLL(sys.argv[1])))\n"
        "vector, rows = torch.ones(1_000_000), torch.ones(8_000)\n"  # More than 50 ms.
        "for function in ('d90_apply', 'd90_adjoint'):\n"
        "    segment = native._Segment(0, 8_000, rows.data_ptr(), rows.data_ptr(), 1.0, 0)\n"
        "    function = getattr(native.library(), function)\n"
        "    D, segments = 10_000_000, (native._Segment * 1)(segment)\n"
        "    print(function(0, 0, len(vector), D, vector.data_ptr(), segments, 1, 3, check))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "check.so")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (found.returncode, found.stdout.split()) == (0, ["4", "4"]), found.stderr


def assert_good(
    P: Projection,
    vector: torch.Tensor,
    found: torch.Tensor,
    reference: torch.Tensor,
    exact: torch.Tensor,
) -> None:
    """The error is at most twice that of the reference.

    Where the reference happens to be exact, a few roundings of the input's size are left.
    """
    floor = 4 * torch.finfo(torch.float32).eps * vector.norm() * (P.d / P.D) ** 0.5
    assert (found - exact).norm() <= 2 * (reference - exact).norm() + floor
