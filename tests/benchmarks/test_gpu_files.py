"""The folder `.gpu/`: what a machine with a GPU loads from it is what was put into it."""

import os
import subprocess

import pytest
import torch
from benchmarks.gpu_files import check_size, write_model, write_task
from benchmarks.machine import ROOT
from safetensors.torch import load_file, save_file
from tests.helpers.tiny import toy_task, write_tiny_model

from benchmarks import gpu_files
from d90.errors import D90Error
from d90.models import loading
from d90.tasks import load_task


def test_a_model_is_written_as_float16_and_loads_as_float32(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    write_tiny_model(source)
    write_model(source, target)
    stored = load_file(target / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    model, tokenizer = loading.load(str(target), num_labels=2)
    original, _ = loading.load(str(source), num_labels=2)
    assert len(tokenizer) == original.config.vocab_size
    for (name, weight), (_, exact) in zip(
        model.named_parameters(), original.named_parameters(), strict=True
    ):
        assert weight.dtype == torch.float32
        is_stored = name.removeprefix("bert.") in stored
        assert torch.equal(weight, exact.half().float() if is_stored else exact), name


def test_a_weight_beyond_float16_is_refused(tmp_path):
    write_tiny_model(tmp_path / "source")
    file = tmp_path / "source" / "model.safetensors"
    save_file({"large": torch.tensor([1e6])}, file)
    with pytest.raises(D90Error, match="large has values too large"):
        write_model(tmp_path / "source", tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_task_reads_back_as_the_same_task(tmp_path):
    task = load_task("wordnet-hypernym", max_train_samples=50, max_eval_samples=20)
    write_task(task, tmp_path / "task")
    again = load_task(tmp_path / "task")
    # Class indices travel, names of classes do not.
    assert (again.train, again.evaluation) == (task.train, task.evaluation)
    first = (tmp_path / "task" / "train.jsonl.gz").read_bytes()
    write_task(task, tmp_path / "again")
    assert (tmp_path / "again" / "train.jsonl.gz").read_bytes() == first


def test_a_folder_that_is_too_large_is_refused(tmp_path, monkeypatch):
    write_task(toy_task(), tmp_path / "toy")
    (tmp_path / "large").write_bytes(bytes(3000))
    assert dict(check_size(tmp_path))["large"] == 3000
    monkeypatch.setattr(gpu_files, "LIMIT", 3000)
    with pytest.raises(D90Error, match="large is"):
        check_size(tmp_path)


def test_a_checkout_with_a_space_in_its_name_is_prepared(tmp_path):
    """The script calls its Python with the data it was given, in the checkout's folder."""
    checkout, log = tmp_path / "a checkout", tmp_path / "log"
    (checkout / "scripts").mkdir(parents=True)
    script = ROOT / "scripts" / "prepare_gpu.sh"
    (checkout / "scripts" / "prepare_gpu.sh").write_text(script.read_text())
    python = tmp_path / "a python"
    python.write_text(
        '#!/bin/sh\necho "$PWD: $*" >>"$LOG"\n'
        'case "$*" in *--build*) touch build/gpu/libd90.so ;; '
        "*-S*) mkdir -p build/gpu ;; esac\n"
    )
    python.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(python), "DATA": "my data", "LOG": str(log)}
    subprocess.run(
        ["sh", checkout / "scripts" / "prepare_gpu.sh"], env=environment, check=True, cwd=tmp_path
    )
    *_, last = log.read_text().splitlines()
    assert last == f"{checkout}: -m benchmarks.gpu_files --data my data"
    assert (checkout / ".gpu" / "libd90.so").exists()
