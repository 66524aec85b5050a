"""Simulated worlds in which d90 is known: curves, learning rates, noise and collapse.

A world answers each trial with the result that a run would have, a function of the trial alone.
The families are of the form of `d90.search.curve_model`, but for those in `OUTSIDE`. Noise comes in
three sizes: as measured on bert-tiny and SST-2 (`real`), as of independent evaluation examples
(`binomial`), and between (`paired`). Half of its variance is a seed's luck, the same at every d and
learning rate: two seeds of docs/results/sst2 differ by 0.024 on average over d, with a standard
deviation of 0.020 around it.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from d90.search.protocols import BASELINE_LEARNING_RATES, LEARNING_RATES
from d90.search.trial import Trial, TrialResult

Array = NDArray[np.float64]

FAMILIES = (
    "logistic",
    "plateau",
    "nonmonotone",
    "drift",
    "sharp",
    "collapse",
    "unreachable",
    "easy",
)
OUTSIDE = ("two-step", "gompertz", "wiggly")

NOISES = ("real", "paired", "binomial")

_TAU = {"real": (0.015, 0.025), "paired": (0.003, 0.008), "binomial": (0.005, 0.015)}
"""Range of the standard deviation over seeds."""

_BINOMIAL_SHARE = {"real": 0.0, "paired": 0.25, "binomial": 1.0}
"""Fraction of the binomial variance that differs from run to run: runs share their examples."""

_X = np.linspace(0, math.log(4e6), 20001)
"""ln d where the true crossing is looked for."""

TARGET_FRACTION = 0.9


@dataclass(frozen=True)
class World:
    """A model on a task, of which everything is known.

    The mean metric is `majority + height(ln d) * exp(-((u - u*) / width)^2 / 2)` at u octaves above
    a learning rate of 0.008, where the best one is `u* = best_rate + drift (ln d - ln 1,000)`.

    Attributes:
        family: one of `FAMILIES` or `OUTSIDE`.
        number: which world of the family.
        majority, full: metric of a constant prediction and of full fine-tuning.
        evaluation_size: examples that the metric is over.
        a, s, x0, b: the rise, its steepness and middle, and the slope behind it.
        turn: ln d from which a curve that is not monotone falls.
        best_rate, drift, width: of the learning rates.
        tau, tau_full, binomial_share: the noise.
        collapse: probability that any run collapses.
        worse_rate, lag: which baseline rate is worse, and by how much.
    """

    family: str
    number: int
    majority: float
    full: float
    evaluation_size: int
    a: float
    s: float
    x0: float
    b: float
    turn: float
    best_rate: float
    drift: float
    width: float
    tau: float
    tau_full: float
    binomial_share: float
    collapse: float
    worse_rate: float
    lag: float

    @property
    def threshold(self) -> float:
        return TARGET_FRACTION * self.full

    @property
    def log_d90(self) -> float:
        """ln of the true d90; infinite where nothing reaches the threshold."""
        return _crossing(_X, self.best(_X), self.threshold)

    def height(self, x: Array) -> Array:
        """Rise above the majority class at the best learning rate."""
        v = x - self.x0
        if self.family == "two-step":
            first = min(0.6 * self.a, self.threshold - self.majority - 0.03)
            return first * _sigmoid(1.5 * v) + (self.a - first) * _sigmoid(1.5 * (v - math.log(30)))
        if self.family == "gompertz":
            return self.a * np.exp(-np.exp(-np.clip(0.8 * self.s * v, -50, 50)))
        rise = self.a * _sigmoid(self.s * v) + self.b * np.logaddexp(0, v)
        if self.family == "nonmonotone":
            rise = rise - 0.04 / 3 * np.logaddexp(0, 3 * (x - self.turn))
        return np.maximum(rise, 0)

    def mean(self, x: Array, learning_rate: float) -> Array:
        """Mean metric of the runs that train, at ln d."""
        best = np.clip(self.best_rate + self.drift * (x - math.log(1000)), -2.6, 1.6)
        distance = (math.log2(learning_rate / 0.008) - best) / self.width
        return self.majority + self.height(x) * np.exp(-0.5 * distance**2)

    def best(self, x: Array) -> Array:
        """Mean metric at the best of the usual learning rates."""
        return np.max([self.mean(x, rate) for rate in LEARNING_RATES], axis=0)

    def run(self, trial: Trial) -> TrialResult:
        """The result of a trial, the same each time."""
        own = self._generator("run", trial.d or 0, trial.learning_rate, trial.seed)
        common = self._generator("seed", trial.d is None, trial.seed).normal()
        noise = math.sqrt(0.5) * (common + own.normal())
        if trial.d is None:
            lag = self.lag if trial.learning_rate == self.worse_rate else 0.0
            return TrialResult(
                trial, "ok", self._measured(self.full - lag + self.tau_full * noise, own)
            )
        mean = float(self.mean(np.array(math.log(trial.d)), trial.learning_rate))
        if self.family == "wiggly":  # Luck of a d for all its seeds, and heavy tails.
            mean += 0.012 * self._generator("d", trial.d).normal()
            mean += 0.5 * self.tau * own.standard_t(2.5)
        metric = mean + self.tau * noise
        at_floor = metric < self.majority + 0.01 + 0.005 * own.normal()
        if own.uniform() < self.collapse or at_floor:
            return TrialResult(trial, "collapsed", self.majority)
        least = self.majority + 1 / self.evaluation_size
        return TrialResult(trial, "ok", max(self._measured(metric, own), least))

    def _measured(self, metric: float, generator: Generator) -> float:
        """On a number of examples."""
        p = float(np.clip(metric, 0.01, 0.99))
        error = math.sqrt(self.binomial_share * p * (1 - p) / self.evaluation_size)
        p = float(np.clip(p + generator.normal(0, error), 0, 1))
        return round(p * self.evaluation_size) / self.evaluation_size

    def _generator(self, *about: object) -> Generator:
        return np.random.default_rng(zlib.crc32(repr((self.family, self.number, *about)).encode()))


def make_world(family: str, number: int, noise: str = "real") -> World:
    """World `number` of a family.

    Args:
        family: one of `FAMILIES` or `OUTSIDE`.
        noise: one of `NOISES`.
    """
    rng = np.random.default_rng([7, number])
    majority, full = 0.5, rng.uniform(0.78, 0.88)
    to_threshold = TARGET_FRACTION * full - majority
    tau = rng.uniform(*_TAU[noise])
    drifts = family == "drift"
    world = World(
        family=family,
        number=number,
        majority=majority,
        full=full,
        evaluation_size=int(rng.choice([400, 600, 872])),
        a=rng.uniform(0.93, 1.0) * (full - majority),
        s=8.0 if family == "sharp" else rng.uniform(0.8, 2.0),
        x0=0.0,
        b=0.0,
        turn=math.inf,
        best_rate=rng.uniform(-1.5, 0.5),
        drift=rng.choice([-1, 1]) * rng.uniform(0.25, 0.5) if drifts else 0.0,
        width=1.4 if drifts else 2.0,
        tau=tau,
        tau_full=0.006 if noise == "real" else tau,
        binomial_share=_BINOMIAL_SHARE[noise],
        collapse=0.30 if family == "collapse" else 0.05,
        worse_rate=float(rng.choice(BASELINE_LEARNING_RATES)),
        lag=rng.uniform(0, 0.02),
    )
    if family == "plateau":
        a = to_threshold + rng.uniform(-0.03, 0.005)
        world = replace(world, a=a, s=rng.uniform(1.0, 1.8), b=rng.uniform(0.006, 0.012))
    if family == "unreachable":
        x0 = rng.uniform(math.log(60), math.log(1000))
        return replace(world, a=to_threshold - 0.03, x0=x0)
    goal = math.log(5) if family == "easy" else rng.uniform(math.log(150), math.log(6000))
    return _placed(world, goal, rng)


def _placed(world: World, goal: float, rng: Generator) -> World:
    """The world with its middle where the curve crosses the threshold at the goal."""
    still = replace(world, drift=0.0)
    x = np.linspace(-12, 14, 5201)
    crossing = _crossing(x, still.best(x), world.threshold)
    while math.isinf(crossing):  # The rates between the best one and its neighbor are all too low.
        still = replace(still, best_rate=rng.uniform(-1.5, 0.5), a=1.02 * still.a)
        crossing = _crossing(x, still.best(x), world.threshold)
    turn = goal + math.log(rng.uniform(8, 30)) if world.family == "nonmonotone" else math.inf
    return replace(still, drift=world.drift, x0=goal - crossing, turn=turn)


def _crossing(x: Array, metric: Array, threshold: float) -> float:
    above = metric >= threshold
    return float(x[above.argmax()]) if above.any() else math.inf


def _sigmoid(v: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(v, -60, 60)))
