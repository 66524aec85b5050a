"""Claims 2 and 3: d90 along pre-training, and of models of four sizes.

The models are those of `pretraining`. For claim 3 every size is measured twice: at one held-out
loss, that of `small` in the end (of the other sizes, the checkpoint whose loss is nearest), and at
one number of tokens, that of the last step of `small`. The tasks are ones that full fine-tuning of
such models learns: `living` (scripts/make_living_task.py, beside the results), clinc150 and yelp.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.claims import pretraining
from benchmarks.claims.study import REPETITIONS, SEEDS_APART, Study, load
from benchmarks.claims.tasks import TASKS, ModelSettings, TaskSettings
from d90.experiments.trajectory import join_checkpoints
from d90.pretraining.checkpoints import checkpoint_name, history
from d90.report.document import Document
from d90.report.paper import figure2, figure3
from d90.report.write import write_document

LEARNED: Mapping[str, TaskSettings] = {
    "living": TaskSettings("living", 4),
    "clinc150": TASKS["clinc150"],
    "yelp": TASKS["yelp"],
}
SETTINGS = ModelSettings("", 6000, (3e-4, 1e-3), "no")

TRAJECTORY = "micro"
STEPS = (0, 500, 1000, 1500, 2000, 3000, 4500, 6500)

SIZES = ("nano", "micro", "mini", "small")
LARGEST = "small"


def study(claim: str, size: str, step: int, task: str, repetition: int) -> Study:
    """One repetition of a checkpoint on a task."""
    folder = f"{pretraining.MODELS[size].name}/checkpoints/{checkpoint_name(step)}"
    options = (*LEARNED[task].options, *SETTINGS.options, f"--seeds={repetition * SEEDS_APART}")
    name = f"{claim}/{size}-{step}-{task}-{repetition}"
    return Study(name, folder, LEARNED[task].task, options)


def trajectory_studies(folder: Path) -> list[Study]:
    """Of every checkpoint of claim 2, one repetition."""
    return [study("trajectory", TRAJECTORY, step, task, 0) for task in LEARNED for step in STEPS]


def trajectory_table(folder: Path) -> str:
    """Figure 2, written to the folder `trajectory/figure`, and its correlations."""
    found = load(folder, trajectory_studies(folder))
    name = pretraining.MODELS[TRAJECTORY].name
    steps = {f"{name}/checkpoints/{checkpoint_name(step)}": step for step in STEPS}
    if not found:
        return "No study has ended."
    points = join_checkpoints(folder / name, steps, [*found.values()])
    return _written(figure2.trajectory(points), folder / "trajectory" / "figure")


def same_tokens(folder: Path) -> dict[str, int]:
    """The step of each size with the tokens of the last of `LARGEST`."""
    return dict.fromkeys(SIZES, pretraining.MODELS[LARGEST].steps)


def same_loss(folder: Path) -> dict[str, int]:
    """The step of each size whose held-out loss is nearest to the last of `LARGEST`.

    Raises:
        D90Error: a size is not pre-trained yet.
    """
    losses = {
        size: {e.step: e.validation_loss for e in history(folder / pretraining.MODELS[size].name)}
        for size in SIZES
    }
    target = losses[LARGEST][pretraining.MODELS[LARGEST].steps]
    nearest = {
        size: min(
            (step for step in found if step % pretraining.CHECKPOINT_EVERY == 0),
            key=lambda step, found=found: abs(found[step] - target),
        )
        for size, found in losses.items()
    }
    return {**nearest, LARGEST: pretraining.MODELS[LARGEST].steps}


LADDERS = {"loss": same_loss, "tokens": same_tokens}


def sizes_studies(folder: Path) -> list[Study]:
    """Of both ladders, on the first two tasks; a first repetition before any second."""
    ladders = {name: steps(folder) for name, steps in LADDERS.items()}
    return [
        study(f"sizes/{name}", size, step, task, k)
        for k in range(REPETITIONS)
        for task in [*LEARNED][:2]
        for name, steps in ladders.items()
        for size, step in steps.items()
    ]


def sizes_table(folder: Path) -> str:
    """Figure 3 of each ladder, written to `sizes/NAME/figure`, and its correlations."""
    found = load(folder, sizes_studies(folder))
    texts = []
    for name in LADDERS:
        summaries = [s for study, s in found.items() if study.name.startswith(f"sizes/{name}/")]
        document = figure3.scaling(summaries)
        text = _written(document, folder / "sizes" / name / "figure") if summaries else "none yet"
        texts.append(f"At the same {name}: {text}")
    return "\n".join(texts)


def _written(document: Document, folder: Path) -> str:
    write_document(document, folder)
    return f"{document.answer} ({folder})"
