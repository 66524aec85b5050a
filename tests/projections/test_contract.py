"""The laws that every projection obeys, swept over all of them."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from d90.errors import D90Error
from d90.projections import PROJECTIONS, Projection, make_projection

# d = 1, D below a block, odd D, d not a power of two, d = D, several tiles of the reference.
SIZES = [
    (1, 1),
    (1, 7),
    (3, 50),
    (5, 37),
    (10, 100),
    (33, 33),
    (100, 1001),
    (130, 300),
]
KERNELS = ["native", "reference"]

names = pytest.mark.parametrize("name", sorted(PROJECTIONS))
sizes = pytest.mark.parametrize(("d", "D"), SIZES)


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("D90_KERNEL", request.param)
    return request.param


def vector(length: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(length, generator=generator, dtype=torch.float64).to(dtype)


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_the_sweep_is_complete() -> None:
    concrete = {kind for kind in Projection.__subclasses__() if kind.name}
    assert concrete == set(PROJECTIONS.values())
    assert all(name == kind.name for name, kind in PROJECTIONS.items())


@names
@sizes
def test_apply_and_adjoint_are_one_matrix_and_its_transpose(name: str, d: int, D: int) -> None:
    P = make_projection(name, d=d, D=D, seed=3)
    matrix = P.matrix()
    z, g = vector(d, dtype=torch.float64), vector(D, 1, torch.float64)
    torch.testing.assert_close(P.apply(z, 0, D), matrix @ z)
    torch.testing.assert_close(P.adjoint(g, 0, D), matrix.T @ g)


@names
@sizes
def test_float32_is_as_good_as_float32_can_be(kernel: str, name: str, d: int, D: int) -> None:
    P = make_projection(name, d=d, D=D, seed=3)
    z, g = vector(d), vector(D, 1)
    assert relative_error(P.apply(z, 0, D), P.apply(z.double(), 0, D)) < 1e-6
    assert relative_error(P.adjoint(g, 0, D), P.adjoint(g.double(), 0, D)) < 1e-6


@names
@sizes
def test_the_adjoint_is_the_true_adjoint(kernel: str, name: str, d: int, D: int) -> None:
    P = make_projection(name, d=d, D=D, seed=4)
    z, g = vector(d, 2), vector(D, 3)
    left, right = P.apply(z, 0, D) @ g, z @ P.adjoint(g, 0, D)
    assert abs(left - right) < 1e-5 * z.norm() * g.norm()


@names
def test_linear(kernel: str, name: str) -> None:
    P = make_projection(name, d=20, D=333, seed=5)
    x, y = vector(20, 1), vector(20, 2)
    whole = P.apply(2 * x - 3 * y, 0, 333)
    torch.testing.assert_close(whole, 2 * P.apply(x, 0, 333) - 3 * P.apply(y, 0, 333))
    assert not P.apply(torch.zeros(20), 0, 333).any()


@names
@pytest.mark.parametrize(("d", "D"), [(3, 50), (100, 1001), (40, 70_000)])
def test_any_slice_has_the_bits_of_the_whole(kernel: str, name: str, d: int, D: int) -> None:
    P = make_projection(name, d=d, D=D, seed=6)
    z, g = vector(d), vector(D, 1)
    whole, total = P.apply(z, 0, D), P.adjoint(g, 0, D)
    cuts = [0, 1, D // 3, D // 3 + 1, D - 2, D]
    parts = list(pairwise(cuts))
    for start, stop in [*parts, (D // 2, D // 2), (7, D)]:
        assert torch.equal(P.apply(z, start, stop), whole[start:stop])
    pieces = [P.adjoint(g[start:stop], start, stop) for start, stop in parts]
    assert relative_error(torch.stack(pieces).sum(0), total) < 1e-5


@names
def test_threads_do_not_change_a_bit(kernel: str, name: str) -> None:
    P = make_projection(name, d=150, D=300_000 if name != "dense" else 5000, seed=7)
    z, g = vector(150), vector(P.D, 1)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append((P.apply(z, 0, P.D), P.adjoint(g, 0, P.D)))
    finally:
        torch.set_num_threads(before)
    for rows, sums in results[1:]:
        assert torch.equal(rows, results[0][0])
        assert torch.equal(sums, results[0][1])


@names
@pytest.mark.parametrize(("d", "D"), [(1, 9), (5, 37), (16, 16), (20, 75)])
def test_columns_have_unit_expected_norm_and_no_mean(name: str, d: int, D: int) -> None:
    draws = 150
    matrices = torch.stack(
        [make_projection(name, d=d, D=D, seed=seed).matrix() for seed in range(draws)]
    )
    norms = matrices.square().sum(1).mean(1)  # Mean over columns: one number a seed.
    error = norms.std() / math.sqrt(draws)
    assert abs(norms.mean() - 1) < 4 * error + 1e-9
    # Every entry on its own: mean 0, variance 1 / D, in all of the block and of the remainder.
    scaled = matrices * math.sqrt(D)
    assert scaled.mean(0).abs().max() < 6 * math.sqrt(scaled.square().mean()) / math.sqrt(draws) * 2
    rows = scaled.square().mean((0, 2))
    assert (rows - 1).abs().max() < 0.75


@names
def test_gradcheck(name: str) -> None:
    P = make_projection(name, d=6, D=41, seed=8)

    class Apply(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            return P.apply(z, 3, 40)

        @staticmethod
        def backward(ctx, g):
            return P.adjoint(g, 3, 40)

    z = vector(6, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(Apply.apply, (z,))


@names
def test_seeds_give_other_projections(name: str) -> None:
    one, two = (make_projection(name, d=20, D=500, seed=seed).matrix() for seed in (0, 1))
    assert not torch.equal(one, two)


@names
def test_columns_are_nearly_orthogonal(name: str) -> None:
    matrix = make_projection(name, d=8, D=1000, seed=9).matrix()
    gram = matrix.T @ matrix
    # Off the diagonal, 1 / sqrt(D) is expected (sparse: sqrt(D) times fewer, larger entries).
    assert (gram - torch.diag(gram.diag())).abs().max() < 24 / math.sqrt(1000)


def test_onehot_columns_are_exactly_orthogonal() -> None:
    gram = make_projection("onehot", d=8, D=4000, seed=9).matrix()
    gram = gram.T @ gram
    assert not (gram - torch.diag(gram.diag())).any()


@names
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_displace_and_collect_are_apply_and_adjoint_by_tensor(
    kernel: str, name: str, dtype: torch.dtype
) -> None:
    P = make_projection(name, d=12, D=400, seed=10)
    shapes, starts, scales = [(5, 8), (3,), (100,)], [17, 57, 300], [2.0, 0.5, 1.5]
    theta_0 = [torch.randn(shape).to(dtype) for shape in shapes]
    z = vector(12, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    found = P.add_projected(z, theta_0, starts, scales)
    for tensor, target, start, scale in zip(theta_0, found, starts, scales, strict=True):
        step = P.apply(z, start, start + tensor.numel()).view(tensor.shape)
        expected = (tensor.to(z.dtype) + scale * step).to(dtype)
        torch.testing.assert_close(target, expected)
    gradients = [torch.randn(shape).to(dtype) for shape in shapes]
    expected = sum(
        scale * P.adjoint(g.to(z.dtype).flatten(), start, start + g.numel())
        for g, start, scale in zip(gradients, starts, scales, strict=True)
    )
    torch.testing.assert_close(P.pull_back(gradients, starts, scales), expected)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    kinds = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.view(kinds[tensor.dtype.itemsize])


@names
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str
)
def test_theta_at_zero_is_theta_0_bit_for_bit(kernel: str, name: str, dtype: torch.dtype) -> None:
    P = make_projection(name, d=12, D=400, seed=10)
    tiny = torch.finfo(dtype).smallest_normal / 2
    theta_0 = torch.tensor([0.0, -0.0, tiny, -tiny, 1 / 3, -3.0], dtype=dtype).repeat(20)
    shifted = torch.zeros(121, dtype=dtype)[1:]
    for z in (torch.zeros(12), -torch.zeros(12)):
        (theta,) = P.add_projected(z, [theta_0], [17], [-2.0])
        P.add_projected(z, [theta_0], [17], [1.5], out=[shifted])
        assert torch.equal(bits(theta), bits(theta_0))
        assert torch.equal(bits(shifted), bits(theta_0))


@names
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_step_of_zero_is_added_where_z_is_not_zero(
    kernel: str, name: str, dtype: torch.dtype
) -> None:
    """-0.0 + 0.0 is 0.0, unless all of z is zero."""
    P = make_projection(name, d=12, D=400, seed=10)
    z = torch.zeros(12)
    z[5] = 1e-20
    step = 2 * P.apply(z, 17, 137)
    theta_0 = torch.full((120,), -0.0, dtype=dtype)
    (theta,) = P.add_projected(z, [theta_0], [17], [2.0])
    assert torch.equal(bits(theta), bits((-0.0 + step).to(dtype)))
    assert name != "onehot" or bool(((theta == 0) & ~theta.signbit()).any())


@names
def test_collect_takes_the_gradient_of_a_sum(kernel: str, name: str) -> None:
    """Such a gradient is one number with stride 0."""
    P = make_projection(name, d=12, D=400, seed=10)
    found = P.pull_back([torch.ones(()).expand(5, 8)], [17], [2.0])
    torch.testing.assert_close(found, 2 * P.adjoint(torch.ones(40), 17, 57))


@names
def test_unstored(kernel: str, name: str) -> None:
    """Nothing but its three numbers, and frozen."""
    P = make_projection(name, d=5, D=100, seed=1)
    assert vars(P) == {"d": 5, "D": 100, "seed": 1}
    with pytest.raises(AttributeError):
        P.d = 6  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "fastfod", "d": 1, "D": 2}, "did you mean 'fastfood'"),
        ({"name": "dense", "d": 0, "D": 2}, "at least one dimension"),
        ({"name": "dense", "d": 3, "D": 2}, "larger than D = 2"),
        ({"name": "dense", "d": 1, "D": 2, "seed": -1}, "seed is -1"),
    ],
)
def test_bad_arguments_are_one_line(arguments: dict, message: str) -> None:
    with pytest.raises(D90Error, match=message) as error:
        make_projection(**arguments)
    assert "\n" not in str(error.value)


@names
def test_wrong_shapes_are_refused(name: str) -> None:
    P = make_projection(name, d=5, D=100)
    for bad in (lambda: P.apply(torch.zeros(4), 0, 10), lambda: P.apply(torch.zeros(5), 90, 101)):
        with pytest.raises(ValueError, match=r"expected a vector|outside"):
            bad()
    with pytest.raises(ValueError, match="expected a vector"):
        P.adjoint(torch.zeros(5), 0, 10)
