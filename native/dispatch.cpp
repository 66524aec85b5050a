// Chooses the instruction set once, cuts the work into parts and runs them on threads.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>
#include <vector>

#include "isa.h"

extern const d90_kernels d90_baseline;
#if defined(__x86_64__)
extern const d90_kernels d90_avx2, d90_avx512;
#endif

namespace {

struct Choice {
    const d90_kernels *kernels;
    const char *name;
};

Choice choose() {
    const char *wanted = std::getenv("D90_ISA");
    auto allowed = [&](const char *name) { return !wanted || !std::strcmp(wanted, name); };
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (allowed("avx512") && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        return {&d90_avx512, "avx512"};
    if (allowed("avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return {&d90_avx2, "avx2"};
#endif
    return {&d90_baseline, "baseline"};
}

const Choice &chosen() {
    static const Choice choice = choose();
    return choice;
}

uint32_t normal_lines[192];

int64_t block_length(int64_t d) {
    int64_t n = 1;
    while (n < d) n *= 2;
    return n;
}

int64_t rows_together(int projection, int64_t d, int64_t D) {
    switch (projection) {
        case D90_DENSE: return 64;
        case D90_SPARSE: return std::max<int64_t>(1, std::llrint(std::sqrt((double)D)));
        case D90_FASTFOOD: return std::max<int64_t>(64, block_length(d));
        default: return 4096;
    }
}

// Runs part(i) for i in 0..parts on at most `threads` threads. Threads are made for the call: none
// is left over for a fork to lose. A part that runs out of memory is reported, not thrown.
template <class Part> int run(int64_t parts, int threads, Part part) {
    int64_t count = std::max<int64_t>(1, std::min<int64_t>(threads, parts));
    std::vector<int> failed(count, 0);
    auto work = [&](int64_t thread) {
        try {
            for (int64_t i = thread; i < parts; i += count) part(i);
        } catch (const std::bad_alloc &) {
            failed[thread] = 1;
        }
    };
    std::vector<std::thread> others;
    int64_t started = 1;
    for (; started < count; ++started) {
        try {
            others.emplace_back(work, started);
        } catch (...) {
            break;  // no thread to be had: its share is done below
        }
    }
    work(0);
    for (int64_t thread = started; thread < count; ++thread) work(thread);
    for (auto &thread : others) thread.join();
    return *std::max_element(failed.begin(), failed.end());
}

bool sensible(int projection, int64_t d, int64_t D, const d90_segment *segments, int64_t count) {
    if (projection < 0 || projection > 3 || d < 1 || d > D || count < 0) return false;
    for (int64_t i = 0; i < count; ++i) {
        if (segments[i].start < 0 || segments[i].stop > D) return false;
        if (segments[i].start > segments[i].stop) return false;
        if (i && segments[i].start < segments[i - 1].stop) return false;
    }
    return true;
}

}  // namespace

extern "C" {

int d90_apply(int projection, uint64_t seed, int64_t d, int64_t D, const float *z,
              const d90_segment *segments, int64_t count, int threads) {
    if (!sensible(projection, d, D, segments, count)) return 2;
    if (!count) return 0;
    const int64_t unit = rows_together(projection, d, D);
    const d90_job job = {seed, d, D, unit, normal_lines, segments, count};
    const int64_t first = segments[0].start / unit;
    const int64_t units = (segments[count - 1].stop + unit - 1) / unit - first;
    try {
        // Padded so that a vector of z can always be read whole.
        std::vector<float> padded(std::max<int64_t>(64, block_length(d)), 0.0f);
        std::copy(z, z + d, padded.begin());
        const int64_t parts = std::min<int64_t>(units, threads);
        return run(parts, threads, [&](int64_t i) {
            chosen().kernels->apply[projection](job, padded.data(), first + units * i / parts,
                                                first + units * (i + 1) / parts);
        });
    } catch (const std::bad_alloc &) {
        return 1;
    }
}

int d90_adjoint(int projection, uint64_t seed, int64_t d, int64_t D, float *gradient,
                const d90_segment *segments, int64_t count, int threads) {
    if (!sensible(projection, d, D, segments, count)) return 2;
    std::fill(gradient, gradient + d, 0.0f);
    if (!count) return 0;
    const int64_t unit = rows_together(projection, d, D);
    const d90_job job = {seed, d, D, unit, normal_lines, segments, count};
    const int64_t first = segments[0].start / unit;
    const int64_t units = (segments[count - 1].stop + unit - 1) / unit - first;
    const int64_t length = std::max<int64_t>(64, block_length(d));
    // The number of partial sums depends on the sizes alone, and they are added in order: the
    // same bits for any number of threads, in at most 16 MB + 64 bytes x d.
    const int64_t room = (int64_t)1 << 22;  // floats in 16 MB
    const int64_t parts = std::min(units, std::max<int64_t>(8, std::min<int64_t>(64, room / length)));
    try {
        std::vector<float> partial(parts * length, 0.0f);
        int status = run(parts, threads, [&](int64_t i) {
            chosen().kernels->adjoint[projection](job, &partial[i * length],
                                                  first + units * i / parts,
                                                  first + units * (i + 1) / parts);
        });
        for (int64_t i = 0; i < parts; ++i)
            for (int64_t j = 0; j < d; ++j) gradient[j] += partial[i * length + j];
        return status;
    } catch (const std::bad_alloc &) {
        return 1;
    }
}

void d90_set_normal_table(const uint32_t *lines) { std::copy(lines, lines + 192, normal_lines); }

void d90_words(uint64_t seed, uint32_t stream, uint64_t block, int64_t start, int64_t stop,
               uint32_t *out) {
    chosen().kernels->words(seed, stream, block, start, stop, out);
}

void d90_normals(const uint32_t *words, int64_t count, float *out) {
    chosen().kernels->normals(normal_lines, words, count, out);
}

const char *d90_isa(void) { return chosen().name; }
}
