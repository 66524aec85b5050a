"""The posterior of the curve given the runs so far: d90 with its interval, and the next run.

Particles are moved from the prior to the posterior by tempering the likelihood (sequential Monte
Carlo; Del Moral, Doucet and Jasra 2006). All runs enter together, so that the result is a function
of the set of runs: the order in which they ended does not matter.

This module imports no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.special import ndtri

from d90.search.curve_model import SHAPE, Array, CurveModel, Parameters
from d90.search.ladder import RATIO

PARTICLES = 800
"""Of the posterior that chooses runs."""

ANSWER_PARTICLES = 2000
ANSWER_SEED = 1
"""Of the posterior that gives the answer, another sample than those that chose the runs."""

MOVES = 5
"""Metropolis steps of each particle at each temperature."""

LEVEL = 0.95
"""Level of the interval."""


class Draws:
    """Random numbers of a fixed seed: Philox's raw words, whose bits numpy promises to keep."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.Philox(key=seed)

    def uniform(self, *shape: int) -> Array:
        """In (0, 1)."""
        words = self._bits.random_raw(math.prod(shape)) >> np.uint64(12)
        return (words.astype(float).reshape(shape) + 0.5) * 2.0**-52

    def normal(self, *shape: int) -> Array:
        """Standard normal."""
        return ndtri(self.uniform(*shape))


def sample_posterior(model: CurveModel, *, particles: int = PARTICLES, seed: int = 0) -> Posterior:
    """Particles of the posterior, equally weighted."""
    draws = Draws(seed)
    theta = _prior_particles(model, draws, particles)
    log_p, log_l = model.log_prior(theta), model.log_likelihood(theta)
    temperature = 0.0
    while temperature < 1:
        step = _step(log_l, 1 - temperature)
        temperature += step
        weights = _normalized(step * log_l)
        root = _root_of_covariance(theta, weights)
        chosen = _systematic(weights, float(draws.uniform(1)[0]))
        theta, log_p, log_l = theta[:, chosen], log_p[chosen], log_l[chosen]
        for k in range(MOVES):
            scale = (2.0 if k % 2 == 0 else 0.8) / math.sqrt(len(theta))
            proposed = theta + scale * root @ draws.normal(*theta.T.shape).T
            new_p, new_l = model.log_prior(proposed), model.log_likelihood(proposed)
            with np.errstate(invalid="ignore"):
                change = new_p - log_p + temperature * (new_l - log_l)
            accepted = np.log(draws.uniform(particles)) < np.where(
                np.isfinite(new_p), change, -np.inf
            )
            theta = np.where(accepted, proposed, theta)
            log_p, log_l = np.where(accepted, new_p, log_p), np.where(accepted, new_l, log_l)
    return Posterior(model, theta)


def _prior_particles(model: CurveModel, draws: Draws, count: int) -> Array:
    rates = len(model.records.full_rates)
    found = np.empty((SHAPE + rates, 0))
    while found.shape[1] < count:
        sample = model.sample_prior(
            draws.normal(2 * count, 12), draws.uniform(2 * count, 2 + rates)
        )
        found = np.concatenate([found, sample], axis=1)
    return found[:, :count]


def _step(log_l: Array, largest: float) -> float:
    """The largest rise of the temperature that leaves half of the particles effective."""

    def effective(step: float) -> float:
        return 1 / float(np.sum(_normalized(step * log_l) ** 2))

    if effective(largest) >= 0.5 * len(log_l):
        return largest
    low, high = 0.0, largest
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if effective(middle) >= 0.5 * len(log_l) else (low, middle)
    return max(low, 1e-6)


def _normalized(log_weights: Array) -> Array:
    weights = np.exp(log_weights - log_weights.max())
    return weights / weights.sum()


def _systematic(weights: Array, offset: float) -> np.ndarray:
    """Systematic resampling: the index of each new particle."""
    positions = (offset + np.arange(len(weights))) / len(weights)
    return np.minimum(np.searchsorted(np.cumsum(weights), positions), len(weights) - 1)


def _root_of_covariance(theta: Array, weights: Array) -> Array:
    deviation = theta - (theta @ weights)[:, None]
    covariance = (deviation * weights) @ deviation.T
    return np.linalg.cholesky(covariance + 1e-9 * np.eye(len(theta))).astype(float)


@dataclass(frozen=True)
class Answer:
    """d90 by the posterior.

    Attributes:
        status: `ok`, or beyond which end of the ladder the median is.
        median: of d90; None unless `ok`.
        interval: its 2.5% and 97.5% quantiles; an end is None where it is beyond the ladder.
        below: probability that the smallest rung passes.
        above: probability that no rung passes.
    """

    status: Literal["ok", "at-minimum", "above-maximum"]
    median: float | None
    interval: tuple[float | None, float | None]
    below: float
    above: float

    @property
    def ratio(self) -> float:
        """Of the ends of the interval; infinite where one is open."""
        low, high = self.interval
        return math.inf if low is None or high is None else high / low


@dataclass(frozen=True)
class Posterior:
    """Equally weighted particles.

    Attributes:
        model: the model that they are of.
        theta: shape (parameters, particles).
    """

    model: CurveModel
    theta: Array

    @cached_property
    def parameters(self) -> Parameters:
        return Parameters(self.theta)

    @property
    def rises(self) -> Array:
        """mu - M, shape (rates, rungs, particles): 1.6 MB, not kept since many posteriors are."""
        return self.model.rises(self.parameters)

    @property
    def passes(self) -> Array:
        """Whether each rung passes at its best learning rate, shape (rungs, particles)."""
        return self._crossings[0]

    @property
    def log_d90(self) -> Array:
        """ln of the smallest d whose mean metric passes at the best rate, linear between rungs.

        Where d90 is beyond an end of the ladder it lies three rungs outside. Shape (particles,).
        """
        return self._crossings[1]

    @cached_property
    def _crossings(self) -> tuple[Array, Array]:
        x, best = self.model.x, self.rises.max(axis=0)
        needed = self.model.needed(self.parameters)
        passes = best >= needed
        first = passes.argmax(axis=0)
        below, particle = np.maximum(first - 1, 0), np.arange(best.shape[1])
        low, high = best[below, particle], best[first, particle]
        part = (needed - low) / np.where(high > low, high - low, 1)
        crossing = x[below] + np.clip(part, 0, 1) * (x[first] - x[below])
        beyond = 3 * math.log(RATIO)
        crossing = np.where(first == 0, x[0] - beyond, crossing)
        return passes, np.where(passes.any(axis=0), crossing, x[-1] + beyond)

    @cached_property
    def band(self) -> Array:
        """The mean metric at the best rate: its 2.5%, 50% and 97.5% quantiles, (3, rungs)."""
        levels = ((1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2)
        return self.model.majority + np.quantile(self.rises.max(axis=0), levels, axis=1)

    @cached_property
    def answer(self) -> Answer:
        """d90 and its interval."""
        t, x = np.sort(self.log_d90), self.model.x
        ends = (_quantile(t, (1 - LEVEL) / 2), _quantile(t, (1 + LEVEL) / 2))
        low = None if ends[0] < x[0] else math.exp(min(ends[0], x[-1]))
        high = None if ends[1] > x[-1] else math.exp(max(ends[1], x[0]))
        median = _quantile(t, 0.5)
        status = "at-minimum" if median < x[0] else "above-maximum" if median > x[-1] else "ok"
        below, above = float(np.mean(t < x[0])), float(np.mean(t > x[-1]))
        return Answer(
            status, math.exp(median) if status == "ok" else None, (low, high), below, above
        )


def _quantile(ordered: Array, level: float) -> float:
    return float(ordered[min(int(level * len(ordered)), len(ordered) - 1)])
