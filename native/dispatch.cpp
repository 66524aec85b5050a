// Chooses the instruction set once, cuts the work into parts and runs them on threads.
#include <algorithm>
#include <atomic>
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

d90_tables tables;

int64_t block_length(int64_t d) {
    int64_t n = 1;
    while (n < d) n *= 2;
    return n;
}

int64_t rows_together(int projection, int64_t d, int64_t D) {
    switch (projection) {
        case D90_DENSE: return 128;
        case D90_SPARSE: return std::max<int64_t>(1, std::llrint(std::sqrt((double)D)));
        case D90_FASTFOOD: return std::max<int64_t>(4096, block_length(d));
        default: return 4096;
    }
}

// Up to here every number of rows is exact in a double, and the arithmetic on rows has room.
constexpr int64_t LARGEST = (int64_t)1 << 53;
// Units times threads fit into 63 bits.
constexpr int MOST_THREADS = 1 << 12;

// What body() returns, or the status of what it throws: no exception leaves the library, nor a
// thread.
template <class Body> int status_of(Body body) {
    try {
        return body();
    } catch (const std::bad_alloc &) {
        return 1;
    } catch (...) {
        return 4;
    }
}

// Runs part(i, is_calling_thread) for i in 0..parts on at most `threads` threads. Threads are
// created per call, so that none is lost in a fork. Returns the status of a part that threw, or 0.
template <class Part> int run(int64_t parts, int threads, Part part) {
    int64_t count = std::max<int64_t>(1, std::min<int64_t>(threads, parts));
    std::vector<int> failed(count, 0);
    auto work = [&](int64_t thread, bool caller) {
        failed[thread] = status_of([&] {
            for (int64_t i = thread; i < parts; i += count) part(i, caller);
            return 0;
        });
    };
    std::vector<std::thread> others;
    int64_t started = 1;
    for (; started < count; ++started) {
        try {
            others.emplace_back(work, started, false);
        } catch (...) {
            break;  // no thread available: its parts run below
        }
    }
    work(0, true);
    for (int64_t thread = started; thread < count; ++thread) work(thread, true);
    for (auto &thread : others) thread.join();
    return *std::max_element(failed.begin(), failed.end());
}

bool sensible(int projection, int64_t d, int64_t D, const d90_segment *segments, int64_t count,
              int threads) {
    if (projection < 0 || projection > 3 || d < 1 || d > D || D > LARGEST) return false;
    if (count < 0 || threads < 1) return false;
    for (int64_t i = 0; i < count; ++i) {
        if (segments[i].start < 0 || segments[i].stop > D) return false;
        if (segments[i].start > segments[i].stop) return false;
        if (i && segments[i].start < segments[i - 1].stop) return false;
    }
    return true;
}

// One call: its job, and how it is stopped early.
struct Call {
    std::atomic<bool> stop{false};
    d90_check check;
    d90_job job;
    int64_t first, units;

    Call(int projection, uint64_t seed, int64_t d, int64_t D, const d90_segment *segments,
         int64_t count, d90_check check)
        : check(check),
          job{seed, d, D, rows_together(projection, d, D), tables, segments, count,
              length(segments, count) > LONG, stop, poll, this} {
        first = segments[0].start / job.unit;
        units = (segments[count - 1].stop + job.unit - 1) / job.unit - first;
    }

    static constexpr int64_t LONG = 1 << 22;  // weights: 16 MB

    static int64_t length(const d90_segment *segments, int64_t count) {
        int64_t total = 0;
        for (int64_t i = 0; i < count; ++i) total += segments[i].stop - segments[i].start;
        return total;
    }

    static void poll(void *self) {
        Call *call = (Call *)self;
        if (call->check && call->check()) call->stop = true;
    }

    int64_t cut(int64_t i, int64_t parts) const { return first + units * i / parts; }

    int status(int failed) const { return failed ? failed : stop ? 3 : 0; }
};

}  // namespace

extern "C" {

int d90_apply(int projection, uint64_t seed, int64_t d, int64_t D, const float *z,
              const d90_segment *segments, int64_t count, int threads, d90_check check) {
    if (!sensible(projection, d, D, segments, count, threads)) return 2;
    if (!count) return 0;
    return status_of([&] {
        Call call(projection, seed, d, D, segments, count, check);
        // A vector can be read from any place of it: zeros follow up to a whole block, or, for
        // onehot, z again.
        std::vector<float> padded(std::max<int64_t>(64, block_length(d)) + 16, 0.0f);
        std::copy(z, z + d, padded.begin());
        if (projection == D90_ONEHOT)
            for (int64_t i = 0; i < 16; ++i) padded[d + i] = z[i % d];
        const int64_t parts = std::min<int64_t>(call.units, std::min(threads, MOST_THREADS));
        return call.status(run(parts, threads, [&](int64_t i, bool polls) {
            chosen().kernels->apply[projection](call.job, padded.data(), call.cut(i, parts),
                                                call.cut(i + 1, parts), polls);
        }));
    });
}

int d90_adjoint(int projection, uint64_t seed, int64_t d, int64_t D, float *gradient,
                const d90_segment *segments, int64_t count, int threads, d90_check check) {
    if (!sensible(projection, d, D, segments, count, threads)) return 2;
    std::fill(gradient, gradient + d, 0.0f);
    if (!count) return 0;
    return status_of([&] {
        Call call(projection, seed, d, D, segments, count, check);
        const int64_t length = std::max<int64_t>(64, block_length(d));
        // The number of partial sums depends on the sizes alone, and they are added in order: the
        // same bits for any number of threads, in at most 16 MB + 64 bytes x d.
        const int64_t room = (int64_t)1 << 21;  // floats in 8 MB
        const int64_t parts =
            std::min(call.units, std::max<int64_t>(4, std::min<int64_t>(64, room / length)));
        std::vector<float> partial(parts * length, 0.0f);
        int status = run(parts, threads, [&](int64_t i, bool polls) {
            chosen().kernels->adjoint[projection](call.job, &partial[i * length],
                                                  call.cut(i, parts), call.cut(i + 1, parts),
                                                  polls);
        });
        for (int64_t i = 0; i < parts; ++i)
            for (int64_t j = 0; j < d; ++j) gradient[j] += partial[i * length + j];
        return call.status(status);
    });
}

void d90_set_tables(const uint16_t *lines, const uint8_t *orders) {
    std::copy(lines, lines + 4 * 64, tables.lines[0]);
    for (int level = 0; level < 1 << 15; ++level) {
        const bool tail = level < 1 << 11;
        const int bits = tail ? 5 : 9, line = level >> bits, step = level & ((1 << bits) - 1);
        const uint16_t *intercepts = tables.lines[tail ? 2 : 0], *falls = tables.lines[tail ? 3 : 1];
        const int size = intercepts[line] - (falls[line] * step >> bits);
        tables.sizes[level] = (int16_t)size;
        tables.sizes[level + (1 << 15)] = (int16_t)-size;
    }
    for (int order = 0; order < 240; ++order)
        for (int lane = 0; lane < 16; ++lane) {
            const uint8_t from = orders[16 * order + lane];
            tables.orders[order][lane] = from;
            tables.inverse_orders[order][from] = (uint8_t)lane;
        }
}

void d90_words(uint64_t seed, uint32_t stream, uint64_t block, int64_t start, int64_t stop,
               uint32_t *out) {
    chosen().kernels->words(seed, stream, block, start, stop, out);
}

void d90_normals(const uint32_t *words, int64_t count, float *out) {
    chosen().kernels->normals(tables, words, count, out);
}

const char *d90_isa(void) { return chosen().name; }
}
