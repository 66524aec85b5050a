// What one compiled instruction set offers to the dispatcher.
#pragma once
#include "d90.h"

struct d90_job {
    uint64_t seed;
    int64_t d, D, unit;  // unit: rows that are made together
    const uint32_t *lines;
    const d90_segment *segments;
    int64_t count;
};

struct d90_kernels {
    void (*apply[4])(const d90_job &, const float *z, int64_t from, int64_t to);
    void (*adjoint[4])(const d90_job &, float *total, int64_t from, int64_t to);
    void (*words)(uint64_t seed, uint32_t stream, uint64_t block, int64_t start, int64_t stop,
                  uint32_t *out);
    void (*normals)(const uint32_t *lines, const uint32_t *words, int64_t count, float *out);
};
