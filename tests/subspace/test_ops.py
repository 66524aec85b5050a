"""The op of one group: schema, fake, autograd, and what it keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from d90.projections import PROJECTIONS, make_projection
from d90.subspace.ops import add_projected, pull_back

D, ROW_OFFSETS, SCALES = 100, [10, 16, 40], [1.0, 0.5, 3.0]


def arguments(
    lam: Tensor | None = None, dtype: torch.dtype = torch.float32, projection: str = "fastfood"
) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(5, generator=generator, dtype=dtype, requires_grad=True)
    shapes = [(2, 3), (4,), (3, 1, 5)]
    theta_0 = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    return {
        "z": z,
        "lam": lam,
        "theta_0": theta_0,
        "group": 1,
        "projection": projection,
        "D": D,
        "seed": -3,
        "row_offsets": ROW_OFFSETS,
        "scales": SCALES,
    }


def lams(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor([1.0, -0.7, 2.0], dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("lam", [None, lams()], ids=["did", "said"])
def test_opcheck_add_projected(lam: Tensor | None) -> None:
    torch.library.opcheck(add_projected, (), arguments(lam))


def test_opcheck_pull_back() -> None:
    gradients = [torch.ones(2, 3), torch.ones(4).double(), torch.ones(5)]
    torch.library.opcheck(pull_back, (gradients, 5, "fastfood", D, 3, ROW_OFFSETS, SCALES))
    halves = [gradient.bfloat16() for gradient in gradients]
    torch.library.opcheck(pull_back, (halves, 5, "onehot", D, 3, ROW_OFFSETS, SCALES))


@pytest.mark.skipif(not hasattr(torch.Tag, "cudagraph_unsafe"), reason="torch before 2.8")
@pytest.mark.parametrize("name", ["add_projected", "pull_back"])
def test_the_ops_are_left_out_of_cuda_graphs(name: str) -> None:
    op = getattr(torch.ops.d90, name).default
    assert torch.Tag.cudagraph_unsafe in op.tags


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_values_and_gradients_are_those_of_the_formula(projection: str) -> None:
    lam = lams(torch.float64)
    given = arguments(lam, torch.float64, projection)
    z = given["z"]
    P = make_projection(projection, d=5, D=D, seed=2**64 - 3).matrix()
    expected = [
        t + s * lam[1] * (P[start : start + t.numel()] @ z).view(t.shape)
        for t, start, s in zip(given["theta_0"], ROW_OFFSETS, SCALES, strict=True)
    ]
    theta = add_projected(**given)
    outer = [torch.randn_like(t) for t in theta]
    for got, want in zip(theta, expected, strict=True):
        torch.testing.assert_close(got, want)
    results = [torch.autograd.grad(tensors, [z, lam], outer) for tensors in (theta, expected)]
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want)


def test_gradcheck_with_a_tensor_that_nothing_reads() -> None:
    given = arguments(None, torch.float64)

    def two_of_three(z: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
        theta = add_projected(**(given | {"z": z, "lam": lam}))
        return theta[0], theta[2]

    assert torch.autograd.gradcheck(two_of_three, (given["z"], lams(torch.float64)))


def test_backward_runs_again_and_after_a_step() -> None:
    lam = lams()
    given = arguments(lam)
    z, lam_now = given["z"].clone(), lam.clone()
    theta = add_projected(**(given | {"z": z, "lam": lam_now}))
    loss = theta[0].sum()
    loss.backward(retain_graph=False)
    first = given["z"].grad.clone()
    with torch.no_grad():
        given["z"].add_(1)
    theta[0].sum().backward()
    assert torch.equal(given["z"].grad, 2 * first)


def test_second_derivatives_are_refused() -> None:
    given = arguments()
    (gradient,) = torch.autograd.grad(
        add_projected(**given)[0].square().sum(), given["z"], create_graph=True
    )
    with pytest.raises(RuntimeError, match="pull_back"):
        gradient.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_theta_at_zero_is_theta_0_bit_for_bit(dtype: torch.dtype) -> None:
    tiny = torch.finfo(dtype).smallest_normal / 2
    theta_0 = torch.tensor([0.0, -0.0, tiny, -tiny, 1.0, -3.0], dtype=dtype)
    given = arguments(lams()) | {"theta_0": [theta_0], "row_offsets": [10], "scales": [2.0]}
    (theta,) = add_projected(**(given | {"z": torch.zeros(5)}))
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    assert theta.data_ptr() != theta_0.data_ptr()
    assert torch.equal(theta.view(bits), theta_0.view(bits))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_weights_are_rounded_once(dtype: torch.dtype) -> None:
    given = arguments()
    exact = add_projected(**(given | {"theta_0": [t.to(dtype).float() for t in given["theta_0"]]}))
    theta = add_projected(**(given | {"theta_0": [t.to(dtype) for t in given["theta_0"]]}))
    for got, want in zip(theta, exact, strict=True):
        assert got.dtype == dtype
        assert torch.equal(got, want.to(dtype))


def test_autocast_changes_nothing() -> None:
    given = arguments(lams(), projection="dense")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = add_projected(**given)
    for got, want in zip(inside, add_projected(**given), strict=True):
        assert torch.equal(got, want)


def test_strides_are_kept() -> None:
    theta_0 = torch.randn(4, 6).t()
    given = arguments() | {"theta_0": [theta_0], "row_offsets": [10], "scales": [2.0]}
    (theta,) = add_projected(**given)
    (flat,) = add_projected(**(given | {"theta_0": [theta_0.contiguous()]}))
    assert theta.stride() == theta_0.stride()
    torch.testing.assert_close(theta, flat)
