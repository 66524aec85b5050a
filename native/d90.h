// C interface of the native kernels: what src/d90/projections/kernels/native.py calls.
#pragma once
#include <cstdint>

extern "C" {

// A run of consecutive rows of P that belong to one tensor.
//   apply:   out[i] = theta_0[i] + scale * (P z)[start + i]      (theta_0 may be null: zero)
//   adjoint: g[i] = scale * in[i] is the gradient of row start + i
struct d90_segment {
    int64_t start, stop;
    const void *in;
    void *out;
    float scale;
    int32_t type;  // of `in` and `out`: 0 float32, 1 bfloat16
};

// Called periodically on the calling thread: a nonzero result stops the computation.
typedef int (*d90_check)(void);

enum d90_projection { D90_DENSE = 0, D90_SPARSE = 1, D90_FASTFOOD = 2, D90_ONEHOT = 3 };

// 1 <= d <= D <= 2^53. Segments are sorted, do not overlap, and rows between them are skipped. At
// least one thread; the bits do not depend on their number.
// Returns 0, or 1 when memory ran out, 2 for an invalid argument, 3 where `check`
// (which may be null) stopped it, 4 after any other C++ exception, as of `check`.
int d90_apply(int projection, uint64_t seed, int64_t d, int64_t D, const float *z,
              const d90_segment *segments, int64_t count, int threads, d90_check check);
int d90_adjoint(int projection, uint64_t seed, int64_t d, int64_t D, float *gradient,
                const d90_segment *segments, int64_t count, int threads, d90_check check);

// The frozen tables of philox-v1: four times 64 lines (intercepts, falls, and those of the tail), and
// 240 orders of sixteen lanes. Call it once, before all other functions.
void d90_set_tables(const uint16_t *lines, const uint8_t *orders);
// Entries start..stop of a stream, for tests.
void d90_words(uint64_t seed, uint32_t stream, uint64_t block, int64_t start, int64_t stop,
               uint32_t *out);
// The 2 * count normals of these words.
void d90_normals(const uint32_t *words, int64_t count, float *out);
const char *d90_isa(void);
}
