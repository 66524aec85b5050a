"""All parts of the check, in the order in which they run."""

from __future__ import annotations

from benchmarks.gpu.part import Part

PARTS = (Part(0, "machine", 60, "benchmarks.gpu.machine:describe"),)
