"""What is notified of the progress of a study."""

from __future__ import annotations

from collections.abc import Sequence

from d90.experiments.study import Study
from d90.search.trial import Trial, TrialResult
from d90.training import Progress


class Callback:
    """Base class of callbacks, such as a progress display: every method does nothing.

    A callback that raises ends the study.
    """

    def on_study_begin(self, study: Study, results: Sequence[TrialResult]) -> None:
        """The study is open; `results` are those of earlier sessions."""

    def on_results_taken_over(
        self, study: Study, count: int, results: Sequence[TrialResult]
    ) -> None:
        """Results of other protocols in the store are the study's own from the start."""

    def on_trial_begin(self, trial: Trial) -> None:
        """A trial starts."""

    def on_progress(self, trial: Trial, progress: Progress) -> None:
        """A trial has made an optimizer step."""

    def on_trial_end(
        self, study: Study, result: TrialResult, results: Sequence[TrialResult], *, reused: bool
    ) -> None:
        """A trial has finished; `reused` if its result comes from another study of the store."""

    def on_trial_cancelled(self, trial: Trial) -> None:
        """A speculative trial is no longer needed and ends without a result."""
