"""d90 of a training loop of your own: a small network on handwritten digits.

    python examples/own_training.py
    python examples/own_training.py --workers 2

Nothing here is of transformers. `objective` trains all parameters, or `trial.d` of them, and
returns a score; d90 chooses the trials, stores them and estimates d90. Rerun the script to resume.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
import typer
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import d90
from d90.report import write_report
from d90.training import subspace_learning_rate

STEPS = 150


@cache
def digits() -> list[Tensor]:
    """Images and labels for training, and for evaluation: 1,347 and 450 of them."""
    images, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(images / 16, labels, random_state=0)
    pixels = [torch.tensor(x, dtype=torch.float32) for x in (x_train, x_test)]
    return [pixels[0], torch.tensor(y_train), pixels[1], torch.tensor(y_test)]


def network() -> nn.Module:
    """The same weights each time: theta_0."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def objective(trial: d90.Trial) -> float:
    """Train `trial.d` parameters, or all of them, and return the accuracy."""
    x_train, y_train, x_test, y_test = digits()
    model = network()
    if trial.d is not None:
        d90.attach(model, d=trial.d, seed=trial.seed)
    rate = subspace_learning_rate(trial.learning_rate, trial.d)  # So that one rate fits every d.
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=rate)
    generator = torch.Generator().manual_seed(trial.seed)
    for _ in range(STEPS):
        batch = torch.randint(len(x_train), (128,), generator=generator)
        loss = nn.functional.cross_entropy(model(x_train[batch]), y_train[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return (model(x_test).argmax(1) == y_test).float().mean().item()


def main(
    store: str = "d90.db", output: str = "reports/digits-mlp", workers: int = 1, dims: str = ""
) -> d90.Summary:
    """Measure d90 of the network and write a report; `dims` are separated by commas."""
    summary = d90.search(
        objective,
        name="digits-mlp",
        settings={"steps": STEPS, "batch_size": 128, "hidden": 64},
        protocol=d90.ListProtocol(
            dims=[int(d) for d in (dims or "10,20,40,80,160,320,640,1280").split(",")],
            learning_rates=(0.03, 0.1),
            baseline_learning_rates=(0.003, 0.01),
        ),
        metric="accuracy",
        floor=digits()[3].bincount().max().item() / 450,
        floor_name="majority class",
        D=sum(parameter.numel() for parameter in network().parameters()),
        evaluation_size=450,
        store=store,
        executor="serial" if workers == 1 else "processes",
        workers=workers,
    )
    write_report(summary, Path(output))
    print(f"d90 = {summary.d90}, {summary.interval}: {summary.status} {summary.reason}")
    return summary


if __name__ == "__main__":  # Worker processes import this file.
    typer.run(main)
