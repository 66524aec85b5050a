// What one compiled instruction set offers to the dispatcher.
#pragma once
#include <atomic>

#include "d90.h"

// Constants of philox-v1, filled once.
struct d90_tables {
    uint16_t lines[4][64];      // intercepts and falls, then those of the tail
    int16_t sizes[1 << 16];     // the normal of each half of a word, in units of 2^-12
    alignas(64) uint8_t orders[240][16], inverse_orders[240][16];
};

struct d90_job {
    uint64_t seed;
    int64_t d, D, unit;  // unit: rows that are computed together
    const d90_tables &tables;
    const d90_segment *segments;
    int64_t count;
    bool streams;  // whether theta is too large for the caches
    const std::atomic<bool> &stop;
    // Called by the calling thread after each unit; it may set `stop`.
    void (*poll)(void *);
    void *poll_data;
};

struct d90_kernels {
    void (*apply[4])(const d90_job &, const float *z, int64_t from, int64_t to, bool polls);
    void (*adjoint[4])(const d90_job &, float *total, int64_t from, int64_t to, bool polls);
    void (*words)(uint64_t seed, uint32_t stream, uint64_t block, int64_t start, int64_t stop,
                  uint32_t *out);
    void (*normals)(const d90_tables &, const uint32_t *words, int64_t count, float *out);
};
