"""Which runs say most about d90, given the runs so far.

This module imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count as counted
from typing import NamedTuple

import numpy as np

from d90.search.curve_model import Array, Run
from d90.search.posterior import Posterior
from d90.search.trial import Trial

LOCAL = 0.1
"""Rungs that pass, or fail, with less than this probability are no candidates (`propose`)."""

LOCAL_FROM = 6
"""Subspace runs from which on that holds: before, the shape of the curve is still to be found."""


class Proposal(NamedTuple):
    """A run to make, and why.

    Attributes:
        trial: the run.
        reduction: fraction of the present variance of ln d90 that it is expected to take away,
            beyond what the proposals before it do; None for a run at an end of the ladder
            (`propose_end`).
    """

    trial: Trial
    reduction: float | None


def propose(
    posterior: Posterior, runs: Sequence[Run], count: int, *, first_seed: int = 0
) -> list[Proposal]:
    """The `count` runs that together take away most of the variance of ln d90.

    In the linear-Gaussian approximation a run with mean mu_c and noise v_c takes away::

        Cov(ln d90, mu_c)^2 / (Var(mu_c) + v_c)

    After each choice all covariances are conditioned on it (a Schur complement), so that runs made
    at the same time differ. Each gets the smallest seed that no run has yet: a seed's luck is much
    the same at every d (its P, data order and dropout), so runs that share one are not independent.

    Args:
        posterior: given these runs.
        runs: so far, those that failed too.
        count: of trials, at least one.
        first_seed: the smallest seed.
    """
    model = posterior.model
    mean, noise = _candidates(posterior, runs)
    rows = np.vstack([posterior.log_d90, mean])
    rows -= rows.mean(axis=1, keepdims=True)
    covariance = rows @ rows.T / rows.shape[1]
    baseline = np.ones(len(model.records.full_rates), dtype=bool)
    allowed = np.append(np.tile(_open_rungs(posterior), len(model.u)), baseline)
    variance_before = max(covariance[0, 0], np.finfo(float).tiny)
    taken = [run.trial for run in runs]
    proposals = []
    for _ in range(count):
        variance = np.diag(covariance)[1:] + noise
        reduction = np.where(allowed, covariance[0, 1:] ** 2 / variance, -1.0)
        best = int(reduction.argmax())
        taken.append(_trial(posterior, best, taken, first_seed))
        proposals.append(Proposal(taken[-1], float(reduction[best] / variance_before)))
        column = covariance[:, 1 + best].copy()
        covariance -= np.outer(column, column) / (column[1 + best] + noise[best])
    return proposals


def propose_end(
    posterior: Posterior, runs: Sequence[Run], *, sure: float, first_seed: int = 0
) -> list[Proposal]:
    """A run at the end of the ladder that d90 is beyond, if none was made there.

    What lies beyond the runs is the form of the model: a curve that it cannot follow, such as one
    that dips below the floor before it rises, may reach the line after all. The run has the
    learning rate that is the best there in the mean.

    Args:
        posterior, runs, first_seed: as in `propose`.
        sure: probability from which on d90 is beyond an end.
    """
    model, answer = posterior.model, posterior.answer
    tried = [run.d for run in runs if run.d is not None and run.is_informative]
    if answer.above >= sure and max(tried, default=0) < model.dims[-1]:
        rung = len(model.dims) - 1
    elif answer.below >= sure and min(tried, default=model.dims[-1]) > model.dims[0]:
        rung = 0
    else:
        return []
    mean, _ = _candidates(posterior, runs)
    rates, rungs = len(model.u), len(model.dims)
    at_rung = mean[: rates * rungs].reshape(rates, rungs, -1)[:, rung].mean(axis=1)
    candidate = int(at_rung.argmax()) * rungs + rung
    taken = [run.trial for run in runs]
    return [Proposal(_trial(posterior, candidate, taken, first_seed), None)]


def _candidates(posterior: Posterior, runs: Sequence[Run]) -> tuple[Array, Array]:
    """Mean metric above the floor and noise of each candidate: rate by rate the rungs; then full.

    Returns:
        Shapes (candidates, particles) and (candidates,). A run that collapses scores the floor.
    """
    model, p = posterior.model, posterior.parameters
    rise = posterior.rises
    collapse = model.collapse(p, rise)
    counts = np.array([sum(run.d == d for run in runs if run.is_informative) for d in model.dims])
    spread = _noise_at(counts[:, None], p.tau**2, p.omega**2)
    noise = ((1 - collapse) * spread + collapse * (1 - collapse) * rise**2).mean(axis=2)
    mean = ((1 - collapse) * rise).reshape(-1, rise.shape[2])
    full_noise = np.repeat((p.phi**2).mean(), len(p.f))
    return np.vstack([mean, p.f]), np.append(noise.ravel(), full_noise)


def _noise_at(runs: np.ndarray, tau2: Array, omega2: Array) -> Array:
    """The variance of one more run at a d that has some, as new information about its mean.

    n runs know the mean up to omega^2 + tau^2 / n; the noise of the next is such that both
    together know it as n + 1 runs do. Shape (rungs, particles).
    """
    some = np.maximum(runs, 1)
    gained = 1 / (omega2 + tau2 / (some + 1)) - 1 / (omega2 + tau2 / some)
    return np.where(runs == 0, omega2 + tau2, 1 / (gained + 1e-12))


def _open_rungs(posterior: Posterior) -> np.ndarray:
    """The rungs of which it is open whether they pass; all, at first or where none is open."""
    passes = posterior.passes.mean(axis=1)
    is_open = (passes >= LOCAL) & (passes <= 1 - LOCAL)
    if len(posterior.model.records.x) < LOCAL_FROM or not is_open.any():
        return np.ones(len(passes), dtype=bool)
    return is_open


def _trial(posterior: Posterior, candidate: int, taken: Iterable[Trial], first_seed: int) -> Trial:
    model = posterior.model
    rate, rung = divmod(candidate, len(model.dims))
    if rate < len(model.u):
        d, learning_rate = model.dims[rung], model.learning_rates[rate]
    else:
        d = None
        learning_rate = model.records.full_rates[candidate - len(model.dims) * len(model.u)]
    used = {trial.seed for trial in taken}
    seed = next(seed for seed in counted(first_seed) if seed not in used)
    return Trial(d, learning_rate, seed)
