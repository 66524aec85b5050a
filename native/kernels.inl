// The four projections over a range of units, for one instruction set.
// Included with D90_ISA defined; the reference in src/d90/projections/ is the specification.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <new>

#include "d90.h"
#include "isa.h"
#include "random.h"

namespace {

// Memory aligned to the vector, for `count` entries, with room for a vector behind them.
template <class T> struct Buffer {
    T *data;
    explicit Buffer(int64_t count) {
        const size_t bytes = ((size_t)count * sizeof(T) + 127) / 64 * 64;
        data = (T *)std::aligned_alloc(64, bytes);
        if (!data) throw std::bad_alloc();
        std::memset((void *)data, 0, bytes);
    }
    Buffer(const Buffer &) = delete;
    ~Buffer() { std::free(data); }
    operator T *() { return data; }
};

// ---- theta_0, theta and gradients, in float32 or bfloat16 ----

struct bfloat16 {
    uint16_t bits;
};
typedef uint16_t u16v __attribute__((vector_size(32)));

D90_INLINE f32v load_floats(const float *p) { return load<f32v>(p); }
D90_INLINE f32v load_floats(const bfloat16 *p) {
    return (f32v)(__builtin_convertvector(load<u16v>(p), u32v) << 16);
}
D90_INLINE void store_floats(float *p, f32v x) { store(p, x); }
// To the nearest, ties to even; what is not a number stays so.
D90_INLINE void store_floats(bfloat16 *p, f32v x) {
    const u32v bits = (u32v)x, size = bits & 0x7FFFFFFFu;
    u32v rounded = bits + 0x7FFF + ((bits >> 16) & 1);
    rounded = size > 0x7F800000u ? bits | 0x400000u : rounded;
    store(p, __builtin_convertvector(rounded >> 16, u16v));
}

// The first `count` lanes of a vector in memory; the others are zero.
template <class T> D90_INLINE f32v load_some(const T *p, int64_t count) {
    T all[LANES] = {};
    std::memcpy(all, p, count * sizeof(T));
    return load_floats(all);
}
template <class T> D90_INLINE void store_some(T *p, f32v x, int64_t count) {
    T all[LANES];
    store_floats(all, x);
    std::memcpy(p, all, count * sizeof(T));
}

template <class T>
D90_INLINE void add_rows(const float *rows, int64_t count, float scale, const T *in, T *out,
                         bool streams) {
    auto sum = [&](int64_t i) __attribute__((always_inline)) {
        f32v move = splat(scale) * load<f32v>(rows + i);
        return in ? load_floats(in + i) + move : move;
    };
    auto some = [&](int64_t i, int64_t take) {
        f32v move = splat(scale) * load_some(rows + i, take);
        store_some(out + i, in ? load_some(in + i, take) + move : move, take);
    };
    int64_t i = 0;
    if (streams && sizeof(T) == 4) {
        const int64_t ahead = -(int64_t)((uintptr_t)out / 4) & (LANES - 1);
        if (ahead && ahead <= count) some(0, ahead), i = ahead;
        if (((uintptr_t)(out + i) & 63) == 0)
            for (; i + LANES <= count; i += LANES) stream((float *)(out + i), sum(i));
    }
    for (; i + LANES <= count; i += LANES) store_floats(out + i, sum(i));
    if (i < count) some(i, count - i);
}

// Rows of P from `low` to `high` in a buffer, added to theta_0 tensor by tensor.
D90_INLINE void emit(const d90_job &job, const float *rows, int64_t low, int64_t high, float norm,
                     const d90_segment *segment, const d90_segment *end) {
    for (; segment != end && segment->start < high; ++segment) {
        const int64_t from = segment->start > low ? segment->start : low;
        const int64_t to = segment->stop < high ? segment->stop : high;
        if (from >= to) continue;
        const float scale = segment->scale * norm;
        const int64_t at = from - segment->start;
        if (segment->type) {
            const bfloat16 *in = (const bfloat16 *)segment->in;
            add_rows(rows + (from - low), to - from, scale, in ? in + at : in,
                     (bfloat16 *)segment->out + at, job.streams);
        } else {
            const float *in = (const float *)segment->in;
            add_rows(rows + (from - low), to - from, scale, in ? in + at : in,
                     (float *)segment->out + at, job.streams);
        }
    }
}

template <class T>
D90_INLINE u32v take_rows(float *rows, int64_t count, float scale, const T *in) {
    u32v bits = {};
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        f32v value = splat(scale) * load_floats(in + i);
        bits |= (u32v)value << 1;
        store(rows + i, value);
    }
    if (i < count) {
        f32v value = splat(scale) * load_some(in + i, count - i);
        bits |= (u32v)value << 1;
        std::memcpy(rows + i, &value, (count - i) * 4);
    }
    return bits;
}

// The inverse: gradients of rows low..high, zero where no tensor is. False when all are zero, as
// those of the embeddings of words that a batch lacks: such rows add nothing and cost no projection.
D90_INLINE bool collect(float *rows, int64_t low, int64_t high, float norm,
                        const d90_segment *segment, const d90_segment *end) {
    int64_t done = low;
    u32v bits = {};
    for (; segment != end && segment->start < high; ++segment) {
        const int64_t from = segment->start > low ? segment->start : low;
        const int64_t to = segment->stop < high ? segment->stop : high;
        if (from >= to) continue;
        if (from > done) std::memset(rows + (done - low), 0, (from - done) * 4);
        const float scale = segment->scale * norm;
        const int64_t at = from - segment->start;
        float *row = rows + (from - low);
        bits |= segment->type
                    ? take_rows(row, to - from, scale, (const bfloat16 *)segment->in + at)
                    : take_rows(row, to - from, scale, (const float *)segment->in + at);
        done = to;
    }
    if (high > done) std::memset(rows + (done - low), 0, (high - done) * 4);
    return any(bits);
}

// Asks for what `emit` or `collect` will read: the processor's own prefetching stops at every page,
// and between two bursts of reading it has long forgotten the stream.
D90_INLINE void prefetch(int64_t low, int64_t high, const d90_segment *segment,
                         const d90_segment *end) {
    for (; segment != end && segment->start < high; ++segment) {
        const int64_t from = segment->start > low ? segment->start : low;
        const int64_t to = segment->stop < high ? segment->stop : high;
        const int64_t size = segment->type ? 2 : 4;
        const char *in = (const char *)segment->in;
        if (!in) continue;
        for (int64_t at = (from - segment->start) * size; at < (to - segment->start) * size; at += 64)
            __builtin_prefetch(in + at);
    }
}

D90_INLINE bool touched(int64_t low, int64_t high, const d90_segment *&first,
                        const d90_segment *end) {
    while (first != end && first->stop <= low) ++first;
    return first != end && first->start < high;
}

// ---- Walsh-Hadamard, in place, not normalized ----

template <int STEP, int COUNT> D90_INLINE void level(f32v v[COUNT]) {
#pragma GCC unroll 16
    for (int pair = 0; pair < COUNT / 2; ++pair) {
        const int i = pair / STEP * 2 * STEP + pair % STEP;
        butterfly(v[i], v[i + STEP]);
    }
}

// Between COUNT vectors, lane by lane.
template <int COUNT> D90_INLINE void transform_vectors(f32v v[COUNT]) {
    level<1, COUNT>(v);
    if constexpr (COUNT > 2) level<2, COUNT>(v);
    if constexpr (COUNT > 4) level<4, COUNT>(v);
    if constexpr (COUNT > 8) level<8, COUNT>(v);
}

// The transform of 256 places, transposed as a square.
D90_INLINE void transform_square(f32v v[LANES]) {
    transform_vectors<LANES>(v);
    transpose(v);
    transform_vectors<LANES>(v);
}

template <int RADIX> D90_INLINE void transform_across(float *x, int64_t stride) {
    for (int64_t at = 0; at < stride; at += LANES) {
        f32v v[RADIX];
#pragma GCC unroll 8
        for (int i = 0; i < RADIX; ++i) v[i] = load<f32v>(x + at + i * stride);
        transform_vectors<RADIX>(v);
#pragma GCC unroll 8
        for (int i = 0; i < RADIX; ++i) store(x + at + i * stride, v[i]);
    }
}

D90_INLINE int radix(int64_t n) { return n >= 2048 ? 8 : n == 1024 ? 4 : 2; }

D90_INLINE void transform_across(float *x, int64_t n, int radix) {
    if (radix == 8) transform_across<8>(x, n / 8);
    if (radix == 4) transform_across<4>(x, n / 4);
    if (radix == 2) transform_across<2>(x, n / 2);
}

// Depth first, so that each part is done while it is in the cache: a long transform passes
// log8(n / cache) times over memory. `square(at)` does the 256 places from `at` on.
template <class Square>
void transform_after(float *x, int64_t at, int64_t n, const Square &square) {
    if (n == SQUARE) return square(at);
    const int parts = radix(n);
    for (int part = 0; part < parts; ++part)
        transform_after(x, at + part * (n / parts), n / parts, square);
    transform_across(x + at, n, parts);
}

// The same in the other order: the squares last.
template <class Square>
void transform_before(float *x, int64_t at, int64_t n, const Square &square) {
    if (n == SQUARE) return square(at);
    const int parts = radix(n);
    transform_across(x + at, n, parts);
    for (int part = 0; part < parts; ++part)
        transform_before(x, at + part * (n / parts), n / parts, square);
}

// Blocks of n < 256 places: those of a square at once.
D90_INLINE void transform_blocks(f32v v[LANES], int64_t n) {
    if (n > LANES) level<1, LANES>(v);
    if (n > 2 * LANES) level<2, LANES>(v);
    if (n > 4 * LANES) level<4, LANES>(v);
    if (n == 1) return;
    transpose(v);
    level<1, LANES>(v);
    if (n > 2) level<2, LANES>(v);
    if (n > 4) level<4, LANES>(v);
    if (n > 8) level<8, LANES>(v);
    transpose(v);
}

// ---- Fastfood: a unit is a block of n rows, or 4096 rows of smaller blocks ----

struct Fastfood {
    const d90_job &job;
    const Words words;
    const Normals normals;
    int64_t n, unit, copies = 1, stride;  // stride: of a copy of the gradient, in entries
    int bits;
    float norm;
    Buffer<float> x, y;
    Buffer<uint32_t> rows;     // two words for each row of sixteen
    Buffer<uint32_t> keys;
    Buffer<uint32_t> from[2];  // where each row comes from, in the first and the second stage
    Buffer<uint32_t> order[2];

    static int log2_of_block(int64_t d) {
        int bits = 0;
        while (((int64_t)1 << bits) < d) ++bits;
        return bits;
    }

    explicit Fastfood(const d90_job &job)
        : job(job), words(job.seed), normals(job.tables), n((int64_t)1 << log2_of_block(job.d)),
          unit(job.unit), stride(n), bits(log2_of_block(job.d)), x(unit), y(is_short() ? unit : n), rows(unit / 8),
          keys(unit / n * KEYS), from{Buffer<uint32_t>(unit / 16), Buffer<uint32_t>(unit / 16)},
          order{Buffer<uint32_t>(unit / 16), Buffer<uint32_t>(unit / 16)} {
        norm = (float)(1 / std::sqrt((double)n * (double)job.D)) * NORMAL_UNIT;
    }

    D90_METHOD bool is_short() const { return n < SQUARE; }
    // Whether what is asked for stays in the cache until it is needed.
    D90_METHOD bool prefetches() const { return n <= 1 << 15; }

    void generate(int64_t index) {
        words.fill(FASTFOOD_ROWS, 0, index * (unit / 8), unit / 8, rows);
        words.fill(PERMUTATION, 0, index * (unit / n) * KEYS, unit / n * KEYS, keys);
        if (is_short()) return;
        const int64_t height = n / LANES;
        for (int64_t block = 0; block < unit / n; ++block)
            for (int stage = 0; stage < 2; ++stage) {
                const uint32_t *key = keys + block * KEYS + stage * (KEYS / 2);
                const Bijection<KEYS / 2> image(bits - 4, [&](int r) { return splat(key[r]); });
                for (int64_t i = 0; i < height; i += LANES)
                    store(from[stage] + block * height + i, image(iota() + (uint32_t)i) * LANES);
            }
        for (int64_t i = 0; i < unit / LANES; i += LANES)
            for (int stage = 0; stage < 2; ++stage)
                store(order[stage] + i,
                      order_of(load<u32v>(rows + 2 * i + LANES * stage)) * LANES);
    }

    D90_METHOD uint32_t signs(int64_t row) const {
        return rows.data[row / LANES * 2 * LANES + row % LANES];
    }

    // The 256 normals of a square.
    D90_METHOD void square_of_normals(int64_t start, int16_t out[SQUARE]) const {
        u32v word[8];
        words.groups<2>(FASTFOOD, 0, start / 128, word);
#pragma GCC unroll 8
        for (int w = 0; w < 8; ++w) normals(word[w], out + 32 * w);
    }

    // Below, `block` is where a block starts in the unit and `at` a square in the block.

    // z with random signs, then H, transposed square by square.
    D90_METHOD void spread(const float *z, int64_t block, int64_t at) {
        f32v v[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i)
            v[i] = flip_signs(load<f32v>(z + at + LANES * i), signs((block + at) / LANES + i));
        transform_square(v);
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i) store(x + at + LANES * i, v[i]);
    }

    // A row of a block as a stage takes it.
    D90_METHOD f32v taken(int stage, const float *source, int64_t row) {
        return permute(load<f32v>(source + from[stage][row]),
                       job.tables.orders[0] + order[stage][row]);
    }

    D90_METHOD void give_back(int stage, float *target, int64_t row, f32v v) {
        store(target + from[stage][row],
              permute(v, job.tables.inverse_orders[0] + order[stage][row]));
    }

    // Rows come from all over a block: where it is longer than the caches, those of the next
    // square are asked for while this one is done.
    D90_METHOD void prefetch_next(int stage, const float *rows, int64_t row) {
        if (n <= 1 << 15) return;
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i) __builtin_prefetch(rows + from[stage][row + LANES + i]);
    }

    D90_METHOD void first_stage(int64_t block, int64_t at) {
        prefetch_next(0, x, (block + at) / LANES);
        f32v v[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i) v[i] = taken(0, x, (block + at) / LANES + i);
        transpose(v);
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i) store(y + at + LANES * i, v[i]);
    }

    D90_METHOD void second_stage(int64_t start, int64_t block, int64_t at) {
        alignas(64) int16_t normal[SQUARE];
        prefetch_next(1, y, (block + at) / LANES);
        square_of_normals(start + block + at, normal);
        f32v v[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i)
            v[i] = taken(1, y, (block + at) / LANES + i) * widen(normal + LANES * i);
        transform_square(v);
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i) store(x + at + LANES * i, v[i]);
    }

    D90_METHOD void apply(const float *z, int64_t index, const d90_segment *first,
                          const d90_segment *end) {
        generate(index);
        const int64_t start = index * unit;
        if (is_short()) {
            apply_short(z, start);
            emit(job, y, start, start + unit, norm, first, end);
            return;
        }
        for (int64_t block = 0; block < unit; block += n) {
            transform_after(x, 0, n, [&](int64_t at) {
                if (prefetches()) prefetch(start + block + at, start + block + at + SQUARE, first, end);
                spread(z, block, at);
            });
            for (int64_t at = 0; at < n; at += SQUARE) first_stage(block, at);
            transform_after(x, 0, n, [&](int64_t at) { second_stage(start, block, at); });
            emit(job, x, start + block, start + block + n, norm, first, end);
        }
    }

    D90_METHOD void second_stage_back(int64_t start, int64_t block, int64_t at) {
        alignas(64) int16_t normal[SQUARE];
        prefetch_next(1, y, (block + at) / LANES);
        square_of_normals(start + block + at, normal);
        f32v v[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i) v[i] = load<f32v>(x + block + at + LANES * i);
        transform_square(v);
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i)
            give_back(1, y, (block + at) / LANES + i, v[i] * widen(normal + LANES * i));
    }

    D90_METHOD void first_stage_back(int64_t block, int64_t at) {
        prefetch_next(0, x + block, (block + at) / LANES);
        f32v v[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i) v[i] = load<f32v>(y + at + LANES * i);
        transpose(v);
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i) give_back(0, x + block, (block + at) / LANES + i, v[i]);
    }

    D90_METHOD void sum_up(float *total, int64_t block, int64_t at) {
        f32v v[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i) v[i] = load<f32v>(x + block + at + LANES * i);
        transform_square(v);
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i) {
            float *to = total + at + LANES * i;
            store(to, load<f32v>(to) + flip_signs(v[i], signs((block + at) / LANES + i)));
        }
    }

    D90_METHOD void adjoint(float *total, int64_t index, const d90_segment *first,
                            const d90_segment *end) {
        const int64_t start = index * unit;
        if (!collect(x, start, start + unit, norm, first, end)) return;
        generate(index);
        if (is_short()) {
            adjoint_short(total, start);
            return;
        }
        for (int64_t block = 0; block < unit; block += n) {
            float *rows = x + block;
            transform_before(rows, 0, n, [&](int64_t at) {
                const int64_t next = start + unit + block + at;
                if (prefetches()) prefetch(next, next + SQUARE, first, end);
                second_stage_back(start, block, at);
            });
            for (int64_t at = 0; at < n; at += SQUARE) first_stage_back(block, at);
            transform_before(rows, 0, n, [&](int64_t at) { sum_up(total, block, at); });
        }
    }

    // ---- blocks of 1 to 128 places: permutations number by number ----

    D90_METHOD static void load_square(const float *x, f32v v[LANES]) {
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i) v[i] = load<f32v>(x + LANES * i);
    }
    D90_METHOD static void store_square(float *x, const f32v v[LANES]) {
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i) store(x + LANES * i, v[i]);
    }

    // Where each of the 16 entries from i on comes from, in the unit.
    D90_METHOD void places_short(int64_t i, uint32_t place[LANES]) const {
        const u32v row = iota() + splat((uint32_t)i);
        if (n >= LANES) {  // one block, one key
            const uint32_t *key = keys.data + (i >> bits) * KEYS;
            const Bijection<KEYS> image(bits, [&](int r) { return splat(key[r]); });
            store(place, image(row & splat((uint32_t)n - 1)) + splat((uint32_t)(i & -n)));
        } else {
            const u32v block = row >> bits;
            const Bijection<KEYS> image(bits, [&](int r) {
                return gather(keys.data, block * splat((uint32_t)KEYS) + splat((uint32_t)r));
            });
            store(place, image(row & splat((uint32_t)n - 1)) + (block << bits));
        }
    }

    void apply_short(const float *z, int64_t start) {
        float tiled[SQUARE + LANES] = {};  // z, zeros up to n, and so on
        for (int64_t i = 0; i < SQUARE; ++i) tiled[i] = (i & (n - 1)) < job.d ? z[i & (n - 1)] : 0;
        alignas(64) int16_t normal[SQUARE];
        uint32_t place[LANES];
        f32v v[LANES];
        for (int64_t at = 0; at < unit; at += SQUARE) {
            for (int i = 0; i < LANES; ++i)
                v[i] = flip_signs(load<f32v>(tiled + LANES * i), signs(at / LANES + i));
            transform_blocks(v, n);
            store_square(x + at, v);
            square_of_normals(start + at, normal);
            for (int i = 0; i < LANES; ++i) {
                places_short(at + LANES * i, place);
                float taken[LANES];
                for (int lane = 0; lane < LANES; ++lane) taken[lane] = x[place[lane]];
                v[i] = load<f32v>(taken) * widen(normal + LANES * i);
            }
            transform_blocks(v, n);
            store_square(y + at, v);
        }
    }

    void adjoint_short(float *total, int64_t start) {
        alignas(64) int16_t normal[SQUARE];
        uint32_t place[LANES];
        f32v v[LANES], sum[LANES] = {};
        for (int64_t at = 0; at < unit; at += SQUARE) {
            load_square(x + at, v);
            transform_blocks(v, n);
            square_of_normals(start + at, normal);
            for (int i = 0; i < LANES; ++i) {
                places_short(at + LANES * i, place);
                float given[LANES];
                store(given, v[i] * widen(normal + LANES * i));
                for (int lane = 0; lane < LANES; ++lane) y[place[lane]] = given[lane];
            }
            load_square(y + at, v);
            transform_blocks(v, n);
            for (int i = 0; i < LANES; ++i) sum[i] += flip_signs(v[i], signs(at / LANES + i));
        }
        // Entries n apart belong to one coordinate.
        float all[SQUARE];
        store_square(all, sum);
        for (int64_t half = SQUARE / 2; half >= n; half /= 2)
            for (int64_t i = 0; i < half; ++i) all[i] += all[i + half];
        for (int64_t i = 0; i < job.d; ++i) total[i] += all[i];
    }

    void finish(float *) {}
};

// ---- One-hot: a unit is 4096 rows ----

struct OneHot {
    const d90_job &job;
    const Words words;
    int64_t unit;
    float norm;
    Buffer<float> rows;
    Buffer<uint32_t> shape, base;
    // Sums of rows that follow one another go to different copies of the gradient: a processor
    // stalls where it reads what it has just written at another alignment.
    int64_t copies, stride;

    explicit OneHot(const d90_job &job)
        : job(job), words(job.seed), unit(job.unit), rows(unit), shape(unit / 16), base(unit / 16),
          copies(job.d <= 512 ? 8 : job.d <= 2048 ? 4 : 1),
          stride((job.d + 2 * LANES - 1) / LANES * LANES) {
        norm = (float)std::sqrt((double)job.d / (double)job.D);
    }

    void generate(int64_t index) {
        u32v word[4];
        for (int64_t i = 0; i < unit / LANES; i += 2 * LANES) {
            words.groups<1>(ONEHOT, 0, (index * (unit / 8) + 2 * i) / 64, word);
            for (int half = 0; half < 2; ++half) {
                store(shape + i + LANES * half, word[2 * half]);
                store(base + i + LANES * half, scale_down(word[2 * half + 1] >> 1, (uint32_t)job.d));
            }
        }
    }

    D90_METHOD static uint32_t order(uint32_t shape) { return (shape >> 16) * ORDERS >> 16; }

    D90_METHOD void apply(const float *z, int64_t index, const d90_segment *first,
                          const d90_segment *end) {
        generate(index);
        for (int64_t row = 0; row < unit / LANES; ++row) {
            f32v v = permute(load<f32v>(z + base[row]), job.tables.orders[order(shape[row])]);
            store(rows + LANES * row, flip_signs(v, shape[row]));
        }
        emit(job, rows, index * unit, (index + 1) * unit, norm, first, end);
    }

    D90_METHOD void adjoint(float *total, int64_t index, const d90_segment *first,
                            const d90_segment *end) {
        if (!collect(rows, index * unit, (index + 1) * unit, norm, first, end)) return;
        generate(index);
        for (int64_t row = 0; row < unit / LANES; ++row) {
            f32v v = flip_signs(load<f32v>(rows + LANES * row), shape[row]);
            float *to = total + (row & (copies - 1)) * stride + base[row];
            store(to, load<f32v>(to) +
                          permute(v, job.tables.inverse_orders[order(shape[row])]));
        }
    }

    // What went over the end of each copy belongs to its beginning.
    void finish(float *total) {
        for (int64_t copy = 0; copy < copies; ++copy)
            for (int64_t j = job.d; j < job.d + LANES; ++j) {
                total[copy * stride + j % job.d] += total[copy * stride + j];
                total[copy * stride + j] = 0;
            }
    }
};

// ---- Sparse: a unit is a stratum, with one nonzero in each column ----

struct Sparse {
    const d90_job &job;
    const Words words;
    int64_t unit, copies = 1, stride;
    float norm;
    Buffer<float> rows;
    Buffer<uint32_t> drawn;

    explicit Sparse(const d90_job &job)
        : job(job), words(job.seed), unit(job.unit), stride(job.d), rows(unit), drawn(job.d) {
        norm = (float)std::sqrt((double)unit / (double)job.D);
    }

    template <class Visit> D90_METHOD void each(int64_t index, const Visit &visit) {
        words.fill(SPARSE, 0, index * job.d, job.d, drawn);
        for (int64_t j = 0; j < job.d; ++j)
            visit(j, ((uint64_t)(drawn[j] >> 1) * (uint64_t)unit) >> 31, drawn[j] & 1);
    }

    D90_METHOD void apply(const float *z, int64_t index, const d90_segment *first,
                          const d90_segment *end) {
        std::memset(rows.data, 0, unit * sizeof(float));
        each(index, [&](int64_t j, uint64_t row, bool minus) { rows[row] += minus ? -z[j] : z[j]; });
        emit(job, rows, index * unit, (index + 1) * unit, norm, first, end);
    }

    D90_METHOD void adjoint(float *total, int64_t index, const d90_segment *first,
                            const d90_segment *end) {
        if (!collect(rows, index * unit, (index + 1) * unit, norm, first, end)) return;
        each(index, [&](int64_t j, uint64_t row, bool minus) {
            total[j] += minus ? -rows[row] : rows[row];
        });
    }

    void finish(float *) {}
};

// ---- Dense: a unit is 128 rows ----

struct Dense {
    const d90_job &job;
    const Words words;
    const Normals normals;
    int64_t copies = 1, stride;
    float norm;
    alignas(64) float rows[128];

    explicit Dense(const d90_job &job)
        : job(job), words(job.seed), normals(job.tables), stride(job.d) {
        norm = (float)(1 / std::sqrt((double)job.D)) * NORMAL_UNIT;
    }

    D90_METHOD void entries(int64_t index, int64_t column, f32v out[8]) const {
        u32v word[4];
        alignas(64) int16_t normal[128];
        words.groups<1>(DENSE, column, index, word);
#pragma GCC unroll 4
        for (int w = 0; w < 4; ++w) normals(word[w], normal + 32 * w);
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) out[i] = widen(normal + LANES * i);
    }

    D90_METHOD void apply(const float *z, int64_t index, const d90_segment *first,
                          const d90_segment *end) {
        f32v sum[8] = {}, entry[8];
        // Sums of 64 products, then the sum of those: the rounding error grows with d / 64.
        for (int64_t start = 0; start < job.d; start += 64) {
            f32v part[8] = {};
            for (int64_t j = start; j < (start + 64 < job.d ? start + 64 : job.d); ++j) {
                entries(index, j, entry);
#pragma GCC unroll 8
                for (int i = 0; i < 8; ++i) part[i] += entry[i] * splat(z[j]);
            }
            for (int i = 0; i < 8; ++i) sum[i] += part[i];
        }
        for (int i = 0; i < 8; ++i) store(rows + LANES * i, sum[i]);
        emit(job, rows, index * 128, (index + 1) * 128, norm, first, end);
    }

    D90_METHOD void adjoint(float *total, int64_t index, const d90_segment *first,
                            const d90_segment *end) {
        if (!collect(rows, index * 128, (index + 1) * 128, norm, first, end)) return;
        f32v entry[8];
        for (int64_t j = 0; j < job.d; ++j) {
            entries(index, j, entry);
            f32v sum = {};
#pragma GCC unroll 8
            for (int i = 0; i < 8; ++i) sum += entry[i] * load<f32v>(rows + LANES * i);
            float dot = 0;
            for (int lane = 0; lane < LANES; ++lane) dot += sum[lane];
            total[j] += dot;
        }
    }

    void finish(float *) {}
};

// Units from..to that a tensor touches. The calling thread looks up every 50 ms: a long call can be
// interrupted.
template <class Visit>
D90_INLINE void each_unit(const d90_job &job, int64_t from, int64_t to, bool polls,
                          const Visit &visit) {
    using clock = std::chrono::steady_clock;
    const d90_segment *first = job.segments, *end = job.segments + job.count;
    auto next = clock::now() + std::chrono::milliseconds(50);
    for (int64_t index = from; index < to && !job.stop.load(std::memory_order_relaxed); ++index) {
        if (!touched(index * job.unit, (index + 1) * job.unit, first, end)) continue;
        visit(index, first, end);
        if (polls && clock::now() >= next) {
            job.poll(job.poll_data);
            next = clock::now() + std::chrono::milliseconds(50);
        }
    }
}

template <class Operator>
void apply_units(const d90_job &job, const float *z, int64_t from, int64_t to, bool polls) {
    Operator op(job);
    each_unit(job, from, to, polls,
              [&](int64_t index, const d90_segment *first, const d90_segment *end) {
                  op.apply(z, index, first, end);
              });
}

// Sums of at least 64 units at a time, then the sum of those: the rounding error grows slowly.
template <class Operator>
void adjoint_units(const d90_job &job, float *total, int64_t from, int64_t to, bool polls) {
    Operator op(job);
    const int64_t together = std::max<int64_t>(64, 16 * job.d / job.unit);
    Buffer<float> recent(op.copies * op.stride);
    int64_t units = 0;
    auto flush = [&] {
        for (int64_t copy = 0; copy < op.copies; ++copy)
            for (int64_t j = 0; j < job.d; ++j) total[j] += recent[copy * op.stride + j];
        std::memset(recent.data, 0, op.copies * op.stride * sizeof(float));
    };
    each_unit(job, from, to, polls,
              [&](int64_t index, const d90_segment *first, const d90_segment *end) {
                  op.adjoint(recent, index, first, end);
                  if (++units % together) return;
                  op.finish(recent);
                  flush();
              });
    op.finish(recent);
    flush();
}

void words(uint64_t seed, uint32_t stream, uint64_t block, int64_t start, int64_t stop,
           uint32_t *out) {
    Words(seed).fill(stream, block, start, stop - start, out);
}

void normal_numbers(const d90_tables &tables, const uint32_t *word, int64_t count, float *out) {
    const Normals normals(tables);
    for (int64_t i = 0; i < count; i += LANES) {
        uint32_t in[LANES] = {};
        int16_t size[2 * LANES];
        const int64_t take = count - i < LANES ? count - i : LANES;
        std::memcpy(in, word + i, take * 4);
        normals(load<u32v>(in), size);
        for (int64_t j = 0; j < 2 * take; ++j) out[2 * i + j] = size[j] * NORMAL_UNIT;
    }
}

}  // namespace

extern const d90_kernels D90_ISA;
const d90_kernels D90_ISA = {
    {apply_units<Dense>, apply_units<Sparse>, apply_units<Fastfood>, apply_units<OneHot>},
    {adjoint_units<Dense>, adjoint_units<Sparse>, adjoint_units<Fastfood>, adjoint_units<OneHot>},
    words,
    normal_numbers,
};
