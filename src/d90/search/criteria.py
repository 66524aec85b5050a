"""What a run is scored by: the metric of its task, or a skill score of its probabilities.

A skill score is 1 at a loss of 0, and 0 at the loss L_M of the best constant prediction, the shares
of the classes::

    skill = 1 - L / L_M,   L the mean Brier score or log-loss

so that it rises like a metric, and the fraction q of its gain is reached where
``L <= L_M - q (L_M - L_full)``.

This module imports no torch.
"""

from __future__ import annotations

SMOOTH = ("brier", "nll")
"""The criteria that are skill scores: they move less from run to run than the classes do."""
