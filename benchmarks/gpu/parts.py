"""All parts of the check, in the order in which they run."""

from __future__ import annotations

from benchmarks.gpu.part import Part

PARTS = (
    Part(0, "machine", 60, "benchmarks.gpu.machine:describe"),
    Part(1, "compilation", 150, "benchmarks.gpu.compilation:compile_kernels"),
    Part(2, "generator", 60, "benchmarks.gpu.generator:check_bits"),
    Part(3, "apply", 60, "benchmarks.gpu.apply:check_tensors"),
    Part(4, "far rows", 40, "benchmarks.gpu.apply:check_far_rows"),
    Part(5, "adjoint", 60, "benchmarks.gpu.adjoint:check_sums"),
    Part(6, "adjoint, twice", 40, "benchmarks.gpu.adjoint:check_identities"),
    Part(7, "long blocks and the reference", 60, "benchmarks.gpu.fallback:check_errors"),
    Part(8, "model", 60, "benchmarks.gpu.subspace:check_model"),
    Part(9, "runs", 90, "benchmarks.gpu.resuming:check_runs"),
    Part(10, "an optimizer step", 60, "benchmarks.gpu.steps:count"),
    Part(11, "kernels against the copy", 120, "benchmarks.gpu.speed:measure"),
    Part(12, "training", 120, "benchmarks.gpu.training:measure"),
    Part(13, "trials", 120, "benchmarks.gpu.trials:run"),
    Part(14, "profiler", 125, "benchmarks.gpu.tools:profile"),
    Part(15, "sanitizer", 155, "benchmarks.gpu.tools:sanitize"),
)
