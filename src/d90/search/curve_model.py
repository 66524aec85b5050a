"""A Bayesian model of the curve that a study measures: what any set of runs says about d90.

With x = ln d and u = log2(learning rate / 0.008), the floor M (the majority class), F what full
fine-tuning reaches and gain = F - M::

    m(x)     = M + gain (a sigmoid(s (x - x0)) + b softplus(x - x0)), clipped to [M, 1]
    mu(x, u) = M + (m(x) - M) exp(-((u - u0 - g (x - xc)) / w)^2 / 2)
    metric   = mu(x, u) + delta_d + N(0, tau^2),   delta_d ~ N(0, omega^2) for all runs at one d
    P(collapse) = c + (1 - c) exp(-(mu - M) / (0.06 gain))
    metric of full fine-tuning at rate l = N(f_l, phi^2),   F = max over l of f_l

Learning rates matter: the best one drifts with d (g), and runs at a worse one say less. A run that
collapsed is evidence too: it is unlikely where the curve is high. xc is the middle of the ladder.

This module imports no torch. The model and its prior are described in docs/protocols.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from d90.search.criteria import Score, score_threshold
from d90.search.curve import valid_results
from d90.search.trial import Status, Trial, TrialResult

Array = NDArray[np.float64]

REFERENCE_RATE = 0.008
"""The learning rate at which u = 0."""

_COLLAPSE_SCALE = 0.06
"""Height above the floor, in gains, at which a run that need not collapse does so 1 time in e."""

_BEYOND = 1.5
"""How far x0 may lie beyond the ends of the ladder."""

_LAG = 0.015
"""Scale of the half-Cauchy prior of what a rate of full fine-tuning lies below the best one."""

SHAPE = 11
"""Number of parameters besides f."""


class Records(NamedTuple):
    """The runs that the model learns from, by d, in one order whatever order they ended in.

    Attributes:
        x, u: ln d and log2(learning rate / 0.008) of each subspace run, shape (runs,).
        metric: of each, NaN where it collapsed.
        full_rates: the learning rates of full fine-tuning that trained.
        full_rate, full_metric: index into `full_rates`, and metric, of each full run.
    """

    x: Array
    u: Array
    metric: Array
    full_rates: tuple[float, ...]
    full_rate: NDArray[np.int64]
    full_metric: Array


class Run(NamedTuple):
    """A finished run as the model sees it.

    Attributes:
        d: None is full fine-tuning.
        learning_rate, seed: of the trial.
        status: of the result; a run that was stopped or diverged counts as collapsed, and one
            that `failed` says nothing about the curve.
        metric: None unless `ok`.
    """

    d: int | None
    learning_rate: float
    seed: int
    status: Status
    metric: float | None

    @property
    def trial(self) -> Trial:
        """What was run."""
        return Trial(self.d, self.learning_rate, self.seed)

    @property
    def is_informative(self) -> bool:
        """Whether it says something about the curve."""
        return self.metric is not None or self.status in ("collapsed", "stopped", "diverged")


def runs_of(results: Iterable[TrialResult]) -> tuple[Run, ...]:
    """The runs, sorted: the same for the same results in any order."""
    results = sorted(results, key=lambda result: result.trial.sort_key)
    valid = {id(r): r.metric for r in valid_results(results)}
    return tuple(
        Run(r.trial.d, r.trial.learning_rate, r.trial.seed, r.status, valid.get(id(r)))
        for r in results
    )


def records(runs: Iterable[Run]) -> Records:
    """The runs as arrays."""
    kept = [run for run in runs if run.is_informative]
    subspace = [
        (
            math.log(run.d),
            _octaves(run.learning_rate),
            math.nan if run.metric is None else run.metric,
        )
        for run in kept
        if run.d is not None
    ]
    full = [
        (run.learning_rate, run.metric) for run in kept if run.d is None and run.metric is not None
    ]
    rates = tuple(sorted({rate for rate, _ in full}))
    x, u, metric = np.array(subspace, dtype=float).reshape(-1, 3).T
    return Records(
        x,
        u,
        metric,
        rates,
        np.array([rates.index(rate) for rate, _ in full], dtype=np.int64),
        np.array([metric for _, metric in full], dtype=float),
    )


class Parameters:
    """The rows of an array of parameters, each of shape (particles,).

    Args:
        theta: shape (11 + number of full rates, particles).
    """

    def __init__(self, theta: Array) -> None:
        (
            self.x0,
            log_s,
            self.a,
            self.b,
            log_tau,
            self.u0,
            self.g,
            log_w,
            logit_c,
            log_omega,
            log_phi,
        ) = theta[:SHAPE]
        self.s, self.tau, self.w = np.exp(log_s), np.exp(log_tau), np.exp(log_w)
        self.omega, self.phi, self.c = np.exp(log_omega), np.exp(log_phi), _sigmoid(logit_c)
        self.f = theta[SHAPE:]
        self.F = self.f.max(axis=0)


@dataclass(frozen=True)
class CurveModel:
    """Prior and likelihood of the curve, given the baseline.

    Args:
        records: what was run; at least one full run.
        majority: M, the metric of the best constant predictor.
        evaluation_size: N, examples that the metric is over.
        learning_rates: that the subspace runs may have.
        dims: the ladder, ascending.
        target_fraction: q, the 0.9 of d90.
        criterion_of: what q is a fraction of (`d90.search.criteria`).
    """

    records: Records
    majority: float
    evaluation_size: int
    learning_rates: tuple[float, ...]
    dims: tuple[int, ...]
    target_fraction: float = 0.9
    criterion_of: str = "metric"

    @cached_property
    def x(self) -> Array:
        """ln d of the ladder's rungs."""
        return np.log(np.array(self.dims, dtype=float))

    @cached_property
    def u(self) -> Array:
        """The learning rates in octaves above 0.008."""
        return np.array([_octaves(rate) for rate in self.learning_rates])

    @cached_property
    def _full_center(self) -> float:
        """Mean over the runs of the best rate's metric: the center of F's prior."""
        means = [
            self.records.full_metric[self.records.full_rate == i].mean()
            for i in range(len(self.records.full_rates))
        ]
        return float(max(means))

    @cached_property
    def _prior(self) -> tuple[Array, Array]:
        """Means and standard deviations of the normal priors, x0's not used."""
        line = self._threshold(self._full_center)
        error = math.sqrt(max(line * (1 - line), 0.05) / self.evaluation_size)
        prior = (
            (0.0, 1.0),  # x0: flat
            (math.log(1.5), 0.9),  # ln s
            (0.9, 0.25),  # a
            (0.01, 0.02),  # b
            (math.log(error), 0.4),  # ln tau
            (float(self.u.mean()), 1.2),  # u0
            (0.0, 0.25),  # g
            (math.log(2.0), 0.35),  # ln w
            (-2.2, 1.0),  # logit c
            (math.log(0.3 * error), 0.5),  # ln omega
            (math.log(0.6 * error), 0.5),  # ln phi
        )
        mean, deviation = np.array(prior).T
        return mean, deviation

    def sample_prior(self, normal: Array, uniform: Array) -> Array:
        """Parameters from the prior, those of draws outside its support left out.

        Args:
            normal: standard normal, shape (draws, 11 + 1).
            uniform: in (0, 1), shape (draws, 2 + number of full rates).
        """
        mean, deviation = self._prior
        shape = mean + deviation * normal[:, :SHAPE]
        shape[:, 0] = self.x[0] - _BEYOND + uniform[:, 0] * (self.x[-1] - self.x[0] + 2 * _BEYOND)
        best = self._full_center + 0.06 * normal[:, SHAPE]
        count = len(self.records.full_rates)
        lag = _LAG * np.tan(0.5 * math.pi * uniform[:, 2:])
        lag[np.arange(len(lag)), (uniform[:, 1] * count).astype(int)] = 0
        theta = np.column_stack([shape, best[:, None] - lag]).T
        return theta[:, np.isfinite(self.log_prior(theta))]

    def log_prior(self, theta: Array) -> Array:
        """Up to a constant, shape (particles,); minus infinity outside the support."""
        mean, deviation = (values[1:, None] for values in self._prior)
        z = (theta[1:SHAPE] - mean) / deviation
        best = theta[SHAPE:].max(axis=0)
        lag = (best - theta[SHAPE:]) / _LAG
        log_p = -0.5 * ((z**2).sum(axis=0) + ((best - self._full_center) / 0.06) ** 2)
        log_p -= np.log1p(lag**2).sum(axis=0)
        x0, a = theta[0], theta[2]
        inside = (x0 > self.x[0] - _BEYOND) & (x0 < self.x[-1] + _BEYOND) & (a > 0.03) & (a < 1.2)
        inside &= (best > self.majority + 0.005) & (best < 1)
        return np.where(inside, log_p, -np.inf)

    def log_likelihood(self, theta: Array) -> Array:
        """Of all records, shape (particles,)."""
        p, data = Parameters(theta), self.records
        full = (data.full_metric[:, None] - p.f[data.full_rate]) / p.phi
        log_l = (-0.5 * full**2 - np.log(p.phi)).sum(axis=0)
        if not len(data.x):
            return log_l
        x, of_run = self._distinct
        rise = self.rise(p, x)[of_run] * self.rate_factor(p, data.x, data.u)
        collapse = np.clip(self.collapse(p, rise), 1e-9, 1 - 1e-9)
        trained = ~np.isnan(data.metric)
        log_l += np.log(np.where(trained[:, None], 1 - collapse, collapse)).sum(axis=0)
        if not trained.any():
            return log_l
        residual = data.metric[trained, None] - self.majority - rise[trained]
        return log_l + _log_normal_by_group(residual, self._groups, p.tau**2, p.omega**2)

    @cached_property
    def _distinct(self) -> tuple[Array, NDArray[np.intp]]:
        """ln d that were run, and the index into it of each run: a grid has several at each."""
        return np.unique(self.records.x, return_inverse=True)

    @cached_property
    def _groups(self) -> NDArray[np.intp]:
        """The first run that trained at each d, of those that trained."""
        x = self.records.x[~np.isnan(self.records.metric)]
        return np.unique(x, return_index=True)[1]

    def gain(self, p: Parameters) -> Array:
        """F - M, shape (particles,); positive even where the prior has no support."""
        return np.maximum(p.F - self.majority, 1e-3)

    def rise(self, p: Parameters, x: Array) -> Array:
        """m(x) - M, shape (len(x), particles)."""
        gain, v = self.gain(p), x[:, None] - p.x0
        height = p.a * _sigmoid(p.s * v) + p.b * _softplus(v)
        return gain * np.clip(height, 0, (1 - self.majority) / gain)

    def rate_factor(self, p: Parameters, x: Array, u: Array) -> Array:
        """What is left of the rise at a learning rate, in (0, 1], shape (len(x), particles)."""
        center = 0.5 * (self.x[0] + self.x[-1])
        return np.exp(-0.5 * ((u[:, None] - p.u0 - p.g * (x[:, None] - center)) / p.w) ** 2)

    def collapse(self, p: Parameters, rise: Array) -> Array:
        """Probability that a run collapses, shaped like `rise`."""
        return p.c + (1 - p.c) * np.exp(-rise / (_COLLAPSE_SCALE * self.gain(p)))

    def rises(self, p: Parameters) -> Array:
        """mu - M at every learning rate and rung, shape (rates, rungs, particles)."""
        factors = [self.rate_factor(p, self.x, np.full_like(self.x, u)) for u in self.u]
        return self.rise(p, self.x) * np.stack(factors)

    def needed(self, p: Parameters) -> Array:
        """The rise that passes, (threshold of F) - M, shape (particles,)."""
        return self._threshold(p.F) - self.majority

    def _threshold(self, full: Score) -> Score:
        return score_threshold(
            full,
            floor=self.majority,
            target_fraction=self.target_fraction,
            criterion_of=self.criterion_of,
        )


def _log_normal_by_group(
    residual: Array, starts: NDArray[np.intp], tau2: Array, omega2: Array
) -> Array:
    """Log density of residuals that share an effect within each group, which integrates out.

    Args:
        residual: shape (runs, particles), the runs of each group adjacent.
        starts: the first run of each group.
        tau2, omega2: variances within and of the shared effect, shape (particles,).
    """
    n = np.diff(starts, append=len(residual))[:, None]
    total, squares = np.add.reduceat(residual, starts), np.add.reduceat(residual**2, starts)
    joint = tau2 + n * omega2
    squares -= total**2 * omega2 / joint
    return -0.5 * (squares / tau2 + (n - 1) * np.log(tau2) + np.log(joint)).sum(axis=0)


def _octaves(rate: float) -> float:
    return math.log2(rate / REFERENCE_RATE)


def _sigmoid(v: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(v, -60, 60)))


def _softplus(v: Array) -> Array:
    """log(1 + exp(v)); `np.logaddexp` takes five times as long."""
    return np.maximum(v, 0) + np.log1p(np.exp(-np.abs(v)))
