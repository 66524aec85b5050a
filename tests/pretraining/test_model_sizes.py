"""Sizes: their numbers of weights against the formula and against transformers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import RobertaConfig, RobertaForMaskedLM

from d90.errors import D90Error
from d90.pretraining.config import PretrainConfig, checkpoint_steps
from d90.pretraining.model import complete
from d90.pretraining.model_sizes import SIZES, get_model_size, num_parameters, read_fields

MILLIONS = {"nano": 0.48, "micro": 1.36, "mini": 4.31, "small": 12.4, "medium": 51.3}


@pytest.mark.parametrize("name", SIZES)
def test_parameters(name: str) -> None:
    fields = complete(get_model_size(name).fields(128), 128)
    with torch.device("meta"):
        model = RobertaForMaskedLM(RobertaConfig(**fields))
    assert num_parameters(fields) == sum(p.numel() for p in model.parameters())
    if name in MILLIONS:
        assert num_parameters(fields) / 1e6 == pytest.approx(MILLIONS[name], rel=0.01)


def test_base_and_large_are_the_published_ones() -> None:
    published = {"base": 124_697_433, "large": 355_412_057}
    assert {name: num_parameters(SIZES[name].fields(512)) for name in published} == published


def test_positions_follow_the_length() -> None:
    rows = [SIZES["nano"].fields(n)["max_position_embeddings"] for n in (16, 128, 256)]
    assert rows == [130, 130, 258]


@pytest.mark.parametrize("name", ["model.json", "model.toml"])
def test_a_file_of_fields(tmp_path: Path, name: str) -> None:
    expected = {"hidden_size": 32, "num_attention_heads": 4, "hidden_act": "relu"}
    file = tmp_path / name
    lines = [f"{key} = {json.dumps(value)}" for key, value in expected.items()]
    file.write_text(json.dumps(expected) if name.endswith("json") else "\n".join(lines))
    fields = complete(read_fields(file), 128)
    assert {key: fields[key] for key in expected} == expected
    assert (fields["type_vocab_size"], fields["num_hidden_layers"]) == (1, 12)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden": 32}, "unknown field of RobertaConfig 'hidden': did you mean 'hidden_"),
        ({"hidden_size": "wide"}, "model config: .*hidden_size"),
        ({"hidden_size": 30, "num_attention_heads": 4}, "4 does not divide hidden_size 30"),
        ({"max_position_embeddings": 64}, "max_length 128 needs max_position_embeddings of 130"),
    ],
)
def test_bad_fields(fields: dict, message: str) -> None:
    with pytest.raises(D90Error, match=message):
        complete(fields, 128)


def test_files_that_are_no_fields(tmp_path: Path) -> None:
    file = tmp_path / "model.json"
    with pytest.raises(D90Error, match="cannot be read"):
        read_fields(file)
    for text, message in (("[1]", "expected fields"), ("{", "not valid JSON")):
        file.write_text(text)
        with pytest.raises(D90Error, match=message):
            read_fields(file)


def test_checkpoint_steps() -> None:
    assert checkpoint_steps(25) == (0, 3, 6, 9, 12, 15, 18, 21, 24, 25)
    assert checkpoint_steps(10, every=5) == (0, 5, 10)
    with pytest.raises(D90Error, match="give one of them"):
        checkpoint_steps(10, every=5, listed=(1,))
    with pytest.raises(D90Error, match="checkpoint_every 0"):
        checkpoint_steps(10, every=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_steps": 0}, "max_steps 0"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"learning_rate": 0.0}, "learning_rate 0.0"),
        ({"precision": "fp16"}, "unknown precision 'fp16'"),
        ({"max_length": 8}, "max_length 8: from 16"),
        (
            {"sequence_length_schedule": ((5, 1),)},
            "sequence_length_schedule: length 5: a number from 2 on that divides",
        ),
        ({"sequence_length_schedule": ((1, 1),)}, "sequence_length_schedule: length 1"),
        (
            {"sequence_length_schedule": ((8, 4), (16, 4))},
            "sequence_length_schedule: step 4: ascending numbers from 1 to 10",
        ),
        (
            {"sequence_length_schedule": ((8, 11),)},
            "sequence_length_schedule: step 11",
        ),
        ({"seed": -1}, "seed -1"),
        ({"evaluate_every": 0}, "evaluate_every 0"),
        ({"checkpoints": (0, 20)}, "checkpoints has 20: from 0 to 10"),
        ({"log_with": "tensorbord"}, "unknown log_with 'tensorbord'"),
    ],
)
def test_bad_settings(change: dict, message: str) -> None:
    good: dict = {"max_steps": 10, "learning_rate": 0.001, "checkpoints": (0,), "evaluate_every": 1}
    with pytest.raises(D90Error, match=message):
        PretrainConfig(**{**good, **change})


def test_sequence_lengths() -> None:
    settings = PretrainConfig(10, 0.001, (0,), 1, sequence_length_schedule=((8, 2), (32, 5)))
    assert [settings.sequence_length_at(step) for step in range(7)] == [8, 8, 32, 32, 32, 128, 128]
    assert settings.to_dict()["sequence_length_schedule"] == [[8, 2], [32, 5]]
    whole = replace(settings, sequence_length_schedule=())
    assert (whole.sequence_length_at(0), whole.to_dict()["sequence_length_schedule"]) == (128, None)
