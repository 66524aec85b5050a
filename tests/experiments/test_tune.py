"""From training to the smallest file: what is kept, what is tried, what goes on after a kill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.helpers.tuned import tuning

from d90.adapters import UniformCodec
from d90.adapters.codecs import CODECS
from d90.adapters.quantize import candidates, departures, encode_at_bits, kmeans_codebook
from d90.errors import D90Error
from d90.experiments.tune import AUTO, AdapterTuner, FakeQuantize, check_choice
from d90.training import Progress


@pytest.fixture(scope="module")
def trained(ready_folder: Path, toy_folder: Path) -> AdapterTuner:
    run = tuning(ready_folder, toy_folder, method="said")
    run.train()
    return run


def test_the_adapter_is_of_the_best_epoch(trained: AdapterTuner) -> None:
    result = trained.result
    assert result is not None and result.metric is not None
    file = trained.train()
    assert file.task.metric_value == pytest.approx(result.metric)
    assert file.task.labels == ("0", "1")
    assert (file.d, file.m) == (50, len(file.lam))
    assert len(file.z) + len(file.lam) == 50
    assert trained.metric_of(file.parameters) == file.task.metric_value


def test_auto_takes_the_smallest_file_within_the_tolerance(
    ready_folder: Path, toy_folder: Path
) -> None:
    run = tuning(ready_folder, toy_folder)
    file = run.train()
    choice = run.choose_codec(file, AUTO, tolerance=0.02)
    assert [tried.kept for tried in choice.tried] == [*[False] * (len(choice.tried) - 1), True]
    sizes = [tried.size for tried in choice.tried]
    assert sizes == sorted(sizes)
    assert choice.metric >= file.task.metric_value - 0.02
    assert len(choice.file.to_bytes()) == sizes[-1]
    assert choice.file.task.metric_value == choice.metric == run.metric_of(choice.file.parameters)
    everything = run.choose_codec(file, AUTO, tolerance=1.0)
    assert len(everything.tried) == 1
    assert everything.tried[0].size <= sizes[-1]
    for bits, code in (("32", "float32"), ("16", "float16"), ("3", "levels")):
        assert run.choose_codec(file, bits).file.codec == code


def test_candidates_cover_every_codec_by_size(trained: AdapterTuner) -> None:
    file = trained.train()
    found = candidates(file)
    assert {candidate.adapter.codec for candidate in found} == set(CODECS)
    assert [candidate.name for candidate in found[-2:]] == ["float16", "float32"]
    sizes = [candidate.size for candidate in found]
    assert sizes == sorted(sizes)
    with pytest.raises(D90Error, match="bits 9: expected auto, 32, 16, or from 1 to 7"):
        encode_at_bits(file, 9)


@pytest.mark.parametrize("wrong", [("9", 0.1, 0), ("two", 0.1, 0), ("16", -1, 0), ("16", 0, -1)])
def test_bad_arguments(wrong: tuple[str, float, int]) -> None:
    with pytest.raises(D90Error, match="expected"):
        check_choice(*wrong)


def test_levels_are_the_best_of_a_hand_computed_case() -> None:
    values = np.array([-1.0, -0.9, -1.1, 0.0, 0.1, 2.0, 2.2], dtype=np.float32)
    assert kmeans_codebook(values, 3) == (-1.0, 0.05, 2.1)
    assert kmeans_codebook(np.zeros(5, dtype=np.float32), 4) == (0.0,)


def test_rounding_is_straight_through() -> None:
    levels = FakeQuantize(torch.tensor([-1.0, 0.0, 2.0]), shift=1.0)
    x = torch.tensor([0.1, 0.6, 1.9, 2.1, 9.0], requires_grad=True)
    assert levels(x).tolist() == [0.0, 1.0, 1.0, 3.0, 3.0]
    levels(x).square().sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 2.0, 2.0, 6.0, 6.0]  # 2 q(x): that of the identity at q(x).
    steps = FakeQuantize(torch.tensor([0.5]), shift=0.0)
    assert steps(torch.tensor([0.2, 0.3, -0.8])).tolist() == [0.0, 0.5, -1.0]


def test_quantization_aware_training(ready_folder: Path, toy_folder: Path) -> None:
    run = tuning(ready_folder, toy_folder, method="said", qat_epochs=2)
    file = run.train()
    plain = file.with_codec(encode_at_bits(file, 1).codec)
    before = run.metric_of(plain.parameters)
    choice = run.choose_codec(file, "1")
    assert choice.metric >= before
    assert len(np.unique(departures(choice.file))) <= 2
    # The parameters are as they were: z and lam, and exactly d parameters.
    names = {name: p.numel() for name, p in run.model.named_parameters() if p.requires_grad}
    assert sum(names.values()) == 50 and "subspace.z" in names


def test_a_uniform_codec_rounds_as_in_training(trained: AdapterTuner) -> None:
    values = np.array([0.1, -0.26, 0.049], dtype=np.float32)
    decoded = UniformCodec.decode(UniformCodec(0.1).encode(values), 3)
    assert decoded.tolist() == pytest.approx([0.1, -0.3, 0.0])
    found = FakeQuantize(torch.tensor([0.1]), 0.0)(torch.from_numpy(values))
    np.testing.assert_allclose(found.numpy(), decoded, atol=1e-7)


class Stop(Exception):
    pass


def test_a_stopped_run_resumes_to_the_same_adapter(
    ready_folder: Path, toy_folder: Path, tmp_path: Path
) -> None:
    whole = tuning(ready_folder, toy_folder).train()
    run = tuning(ready_folder, toy_folder)
    folder = run.checkpoint_folder(tmp_path / "x.safetensors")

    def stop(progress: Progress) -> None:
        if progress.step == 15:  # In the second of two epochs of 12 steps.
            raise Stop

    with pytest.raises(Stop):
        run.train(folder=folder, on_progress=stop)
    again = tuning(ready_folder, toy_folder)
    assert again.checkpoint_folder(tmp_path / "x.safetensors") == folder
    steps: list[int] = []
    file = again.train(folder=folder, on_progress=lambda progress: steps.append(progress.step))
    assert steps[0] == 13
    assert file.to_bytes() == whole.to_bytes()
    other = tuning(ready_folder, toy_folder, seed=1)
    assert other.checkpoint_folder(tmp_path / "x.safetensors") != folder


def test_a_hopeless_run_is_one_line(tiny_folder: Path, toy_folder: Path) -> None:
    """It ends before the first epoch does: there is nothing to write."""
    run = tuning(tiny_folder, toy_folder)
    run.config = replace(run.config, max_steps=12, stop_hopeless=True)
    with pytest.raises(D90Error, match=r"^training stopped after 6 of 12 .* another learning rate"):
        run.train()


def test_divergence_is_one_line(ready_folder: Path, toy_folder: Path) -> None:
    with pytest.raises(D90Error, match=r"training diverged .* lower learning rate"):
        tuning(ready_folder, toy_folder, rate=1e25).train()
