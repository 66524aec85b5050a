"""philox-v1 against published vectors, frozen vectors and the distributions it stands for."""

from __future__ import annotations

import contextlib
import io
import math
import runpy
from pathlib import Path

import pytest
import torch
from scipy import stats

from d90.projections.kernels.hadamard import hadamard
from d90.rng import philox
from d90.rng.philox import Stream

ROOT = Path(__file__).parents[2]

# Random123, kat_vectors, philox4x32 with 10 rounds: counter, key, result.
KNOWN_ANSWERS = [
    (
        (0, 0, 0, 0),
        (0, 0),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF,) * 2,
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(
    counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]
) -> None:
    found = philox.philox4x32([torch.tensor([c]) for c in counter], key)
    assert tuple(int(word) for word in found) == expected


def test_entry_zero_is_word_zero_of_the_counter_that_the_scheme_says() -> None:
    seed, block = 0x0123456789ABCDEF, 2**40 + 5
    index = 64 * 7 + 16 * 2 + 9  # Word 2 of counter 7 * 16 + 9.
    counter = (7 * 16 + 9, 0, block & 0xFFFFFFFF, int(Stream.DENSE) | (block >> 32) << 16)
    key = (seed & 0xFFFFFFFF, seed >> 32)
    expected = philox.philox4x32([torch.tensor([c]) for c in counter], key)[2]
    found = philox.words(seed, Stream.DENSE, index, index + 1, block=block)
    assert int(found) == int(expected)


# Frozen with the first release: a change here is a new scheme.
GOLDEN_WORDS = [3531183886, 1802910505, 2120028596, 2748954140, 386900412, 597667385]
GOLDEN_SIGNS = [1.0, -1.0, 1.0, 1.0, 1.0, -1.0]
GOLDEN_NORMALS = [-5491, -1890, 3012, 830, 6070, 66, -3283, -4424, -4580, 5490, -3740, 4440]
GOLDEN_ROWS = ([1845621398, 988323185, 1105016633], [2442221332, 2466774206, 3376859890])
GOLDEN_ROW_SIGNS = [1, -1, -1, 1, -1, 1, 1, -1, 1, -1, 1, 1, -1, -1, -1, -1]
GOLDEN_ROW_ORDERS = [
    [6, 0, 2, 3, 15, 8, 7, 1, 12, 4, 13, 14, 11, 9, 5, 10],
    [6, 14, 8, 5, 13, 0, 10, 15, 1, 11, 2, 4, 9, 7, 12, 3],
]
GOLDEN_PERMUTATIONS = [
    [8, 1, 4, 12, 5, 13, 14, 15, 0, 11, 9, 2, 10, 3, 6, 7],
    [2, 13, 15, 10, 4, 5, 12, 7, 11, 0, 6, 3, 8, 9, 1, 14],
]
GOLDEN_PERMUTATION_BY_ROWS = [34, 181, 39, 200, 15, 193, 81, 96, 114, 1, 16, 85]
GOLDEN_ORDER = [2, 3, 4, 1, 8, 0, 6, 9, 5, 7]


def test_golden_words() -> None:
    found = philox.words(2021, Stream.FASTFOOD, 1000, 1006)
    assert found.tolist() == GOLDEN_WORDS


def test_golden_signs_and_normals() -> None:
    word = philox.words(2021, Stream.FASTFOOD, 1000, 1006)
    assert philox.to_signs(word).tolist() == GOLDEN_SIGNS
    assert (philox.to_normals(word) * 2**12).tolist() == GOLDEN_NORMALS


def test_golden_permutations() -> None:
    found = philox.permutations(2021, 3, 5, 4)
    assert found.tolist() == GOLDEN_PERMUTATIONS


def test_golden_rows() -> None:
    first, second = philox.rows(2021, Stream.ONEHOT, 30, 33)
    assert (first.tolist(), second.tolist()) == GOLDEN_ROWS
    assert philox.row_signs(first).tolist()[0] == GOLDEN_ROW_SIGNS
    assert philox.row_permutations(first[:2]).tolist() == GOLDEN_ROW_ORDERS


def test_golden_permutation_by_rows() -> None:
    found = philox.permutations(2021, 3, 4, 8)[0, :12]
    assert found.tolist() == GOLDEN_PERMUTATION_BY_ROWS


def test_golden_order() -> None:
    assert philox.shuffle(2021, 10, block=1).tolist() == GOLDEN_ORDER


@pytest.mark.parametrize("seed", [0, 7, 2**32 + 5, 2**64 - 1])
@pytest.mark.parametrize("block", [0, 2**40 + 1, 2**48 - 1])
def test_one_word_is_that_of_the_stream(seed: int, block: int) -> None:
    for start in (0, 2**38 - 100, 2**40):
        words = philox.words(seed, Stream.DATA, start, start + 150, block=block)
        found = [philox.word(seed, Stream.DATA, start + i, block=block) for i in range(150)]
        assert found == words.tolist()


def test_any_slice_and_any_block_equal_the_whole() -> None:
    whole = philox.words(5, Stream.HEAD, 0, 300)
    for start, stop in ((0, 1), (63, 65), (64, 128), (17, 300), (299, 300), (130, 130)):
        assert torch.equal(philox.words(5, Stream.HEAD, start, stop), whole[start:stop])
    blocks = torch.tensor([0, 3, 2**40])
    process_group = philox.words(5, Stream.HEAD, 10, 90, block=blocks)
    for row, block in zip(process_group, blocks.tolist(), strict=True):
        assert torch.equal(row, philox.words(5, Stream.HEAD, 10, 90, block=block))


def test_seeds_streams_and_blocks_differ() -> None:
    base = philox.words(1, Stream.HEAD, 0, 64)
    others = [
        philox.words(2, Stream.HEAD, 0, 64),
        philox.words(1 + 2**32, Stream.HEAD, 0, 64),
        philox.words(1, Stream.DATA, 0, 64),
        philox.words(1, Stream.HEAD, 0, 64, block=1),
        philox.words(1, Stream.HEAD, 0, 64, block=2**32),
        philox.words(1, Stream.HEAD, 64, 128),
    ]
    for other in others:
        assert not torch.equal(base, other)


@pytest.fixture(scope="module")
def draws() -> torch.Tensor:
    return philox.normals(11, Stream.DENSE, 0, 10**7, dtype=torch.float64)


def test_normals_have_the_moments_of_the_normal(draws: torch.Tensor) -> None:
    x, n = draws, len(draws)
    # Each within four standard errors, which are those of the standard normal.
    assert abs(x.mean()) < 4 / math.sqrt(n)
    assert abs(x.square().mean() - 1) < 4 * math.sqrt(2 / n)
    assert abs((x**3).mean()) < 4 * math.sqrt(15 / n)
    assert abs((x**4).mean() - 3) < 4 * math.sqrt(96 / n)
    assert 3.9 < x.abs().max() < 4


def test_normals_pass_kolmogorov_and_smirnov(draws: torch.Tensor) -> None:
    assert stats.kstest(draws.numpy(), "norm").pvalue > 0.001


def test_row_signs_are_fair_and_independent_of_one_another() -> None:
    word, _ = philox.rows(11, Stream.ONEHOT, 0, 200_000)
    signs = philox.row_signs(word, torch.float64)
    products = signs.T @ signs / len(signs)
    assert (products - torch.eye(16)).abs().max() < 5 / math.sqrt(len(signs))
    assert signs.mean(0).abs().max() < 5 / math.sqrt(len(signs))


def test_any_two_lanes_go_to_any_two_places_equally_often() -> None:
    orders = torch.tensor(philox.lane_permutations())
    assert torch.equal(orders.sort(1).values, torch.arange(16).expand(240, -1))
    for left, right in ((0, 1), (0, 8), (3, 12), (15, 2)):
        pairs = torch.bincount(orders[:, left] * 16 + orders[:, right], minlength=256)
        assert torch.equal(pairs.view(16, 16), 1 - torch.eye(16, dtype=torch.int64))


def test_row_orders_are_drawn_evenly() -> None:
    word, _ = philox.rows(11, Stream.ONEHOT, 0, 200_000)
    first_two = philox.row_permutations(word)[:, :2]
    drawn = torch.bincount(first_two[:, 0] * 16 + first_two[:, 1])
    assert stats.chisquare(drawn[drawn > 0].numpy()).pvalue > 0.001
    assert (drawn > 0).sum() == 240


def test_neighbours_are_not_correlated(draws: torch.Tensor) -> None:
    x = draws
    for lag in (1, 15, 16, 48, 64):
        assert abs((x[lag:] * x[:-lag]).mean()) < 4 / math.sqrt(len(x))


def test_normals_are_exact_multiples_and_the_same_in_both_precisions(draws: torch.Tensor) -> None:
    single = philox.normals(11, Stream.DENSE, 0, 10_000)
    assert torch.equal(single.double(), draws[:10_000])
    assert torch.equal(single * 2**12, (single * 2**12).round())


def test_integers_are_uniform() -> None:
    word = philox.words(11, Stream.ONEHOT, 0, 1_000_000)
    found = torch.bincount(philox.to_integers(word, 1000), minlength=1000)
    assert stats.chisquare(found.numpy()).pvalue > 0.001


@pytest.mark.parametrize("bits", [0, 1, 2, 3, 4, 5, 7, 8, 9, 13])
def test_permutations_are_bijections(bits: int) -> None:
    found = philox.permutations(3, 10, 40, bits)
    assert torch.equal(found.sort(1).values, torch.arange(2**bits).expand(30, -1))


@pytest.mark.parametrize("bits", [5, 8, 10])
def test_permutations_do_not_depend_on_the_range_asked_for(bits: int) -> None:
    whole = philox.permutations(3, 0, 20, bits)
    assert torch.equal(philox.permutations(3, 7, 9, bits), whole[7:9])


@pytest.mark.parametrize("bits", [4, 5, 6])
def test_images_of_places_and_of_pairs_are_uniform(bits: int) -> None:
    n, blocks = 2**bits, 60_000
    found = philox.permutations(17, 0, blocks, bits)
    for place in (0, 1, n // 2, n - 1):
        assert stats.chisquare(torch.bincount(found[:, place], minlength=n)).pvalue > 1e-4
    different = ~torch.eye(n, dtype=torch.bool).view(-1)
    for left, right in ((0, 1), (0, n // 2), (1, n // 2 + 1), (0, n // 4), (n - 2, n - 1)):
        pairs = torch.bincount(found[:, left] * n + found[:, right], minlength=n * n)
        assert stats.chisquare(pairs[different]).pvalue > 1e-4


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_fixed_points_and_cycles_are_those_of_uniform_permutations(bits: int) -> None:
    n, blocks = 2**bits, 4000
    found = philox.permutations(23, 0, blocks, bits)
    fixed = (found == torch.arange(n)).sum(1).double()
    assert abs(fixed.mean() - 1) < 4 / math.sqrt(blocks)
    assert abs(fixed.var() - 1) < 4 * math.sqrt(3 / blocks)
    # A uniform permutation has H_n cycles on average, with variance H_n - H_n^(2).
    cycles = torch.tensor([_cycles(p) for p in found.tolist()], dtype=torch.float64)
    mean = sum(1 / k for k in range(1, n + 1))
    variance = mean - sum(1 / k**2 for k in range(1, n + 1))
    assert abs(cycles.mean() - mean) < 4 * math.sqrt(variance / blocks)


@pytest.mark.parametrize("bits", [8, 9, 10])
def test_permutations_by_rows_map_every_place_uniformly(bits: int) -> None:
    n, blocks = 2**bits, 40_000 // 2 ** (bits - 8)
    found = philox.permutations(29, 0, blocks, bits)
    for place in (0, 1, n // 2 + 5, n - 1):
        assert stats.chisquare(torch.bincount(found[:, place], minlength=n)).pvalue > 1e-4


@pytest.mark.parametrize("pair", [(0, 1), (0, 16), (3, 200), (17, 33)])
def test_pairs_of_a_permutation_by_rows_share_a_row_or_a_lane_about_as_often(
    pair: tuple[int, int],
) -> None:
    blocks = 40_000
    left, right = philox.permutations(31, 0, blocks, 8)[:, list(pair)].t()
    for same in ((left // 16 == right // 16), (left % 16 == right % 16)):
        assert same.double().mean() < 1 / 16 + 4 * math.sqrt(1 / 16 / blocks)


@pytest.mark.parametrize("bits", [8, 10])
def test_entries_of_a_fastfood_block_are_as_uncorrelated_as_with_uniform_permutations(
    bits: int,
) -> None:
    """Entries (i, j) and (i', j') of H G Pi H correlate as `H_a . H_b[Pi] / n`, a = i xor i'."""
    n = 2**bits
    H = hadamard(torch.eye(n))
    for permutation in philox.permutations(37, 0, 4, bits):
        products = (H @ H[permutation])[1:, 1:] / math.sqrt(n)
        assert abs((products**4).mean() - 3) < 0.12
        # An affine permutation would have products of sqrt(n).
        assert products.abs().max() < 0.8 * math.sqrt(n)


def _cycles(permutation: list[int]) -> int:
    seen, count = set(), 0
    for start in range(len(permutation)):
        count += start not in seen
        while start not in seen:
            seen.add(start)
            start = permutation[start]
    return count


def test_order_is_a_permutation_that_depends_on_seed_and_block() -> None:
    found = philox.shuffle(1, 1000)
    assert torch.equal(found.sort().values, torch.arange(1000))
    assert not torch.equal(found, philox.shuffle(2, 1000))
    assert not torch.equal(found, philox.shuffle(1, 1000, block=1))


def test_the_normal_table_is_what_its_script_makes() -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(ROOT / "scripts" / "make_normal_table.py"), run_name="__main__")
    assert printed.getvalue() == (ROOT / "src" / "d90" / "rng" / "normal_table.py").read_text()
