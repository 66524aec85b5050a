// The four projections over a range of units, for one instruction set.
// Included with D90_ISA defined; the reference in src/d90/projections/ is the specification.
#include <cmath>
#include <vector>

#include "d90.h"
#include "isa.h"
#include "random.h"

namespace {

// Rows of P from `low` to `high` in a buffer, added to theta_0 tensor by tensor.
D90_INLINE void emit(const float *rows, int64_t low, int64_t high, float norm,
                     const d90_segment *segment, const d90_segment *end) {
    for (; segment != end && segment->start < high; ++segment) {
        int64_t from = segment->start > low ? segment->start : low;
        int64_t to = segment->stop < high ? segment->stop : high;
        if (from >= to) continue;
        const float scale = segment->scale * norm;
        const float *row = rows + (from - low);
        float *out = segment->out + (from - segment->start);
        if (segment->in) {
            const float *in = segment->in + (from - segment->start);
            for (int64_t i = 0; i < to - from; ++i) out[i] = in[i] + scale * row[i];
        } else {
            for (int64_t i = 0; i < to - from; ++i) out[i] = scale * row[i];
        }
    }
}

// The inverse: gradients of rows low..high, zero where no tensor is. False when all are zero, as
// those of the embeddings of words that a batch lacks: such rows add nothing and cost no projection.
D90_INLINE bool collect(float *rows, int64_t low, int64_t high, float norm,
                        const d90_segment *segment, const d90_segment *end) {
    int64_t done = low;
    uint32_t bits = 0;
    for (; segment != end && segment->start < high; ++segment) {
        int64_t from = segment->start > low ? segment->start : low;
        int64_t to = segment->stop < high ? segment->stop : high;
        if (from >= to) continue;
        for (int64_t i = done; i < from; ++i) rows[i - low] = 0;
        const float scale = segment->scale * norm;
        const float *in = segment->in + (from - segment->start);
        for (int64_t i = 0; i < to - from; ++i) {
            float value = scale * in[i];
            uint32_t word;
            std::memcpy(&word, &value, 4);
            bits |= word << 1;
            rows[from - low + i] = value;
        }
        done = to;
    }
    for (int64_t i = done; i < high; ++i) rows[i - low] = 0;
    return bits != 0;
}

D90_INLINE bool touched(int64_t low, int64_t high, const d90_segment *&first,
                        const d90_segment *end) {
    while (first != end && first->stop <= low) ++first;
    return first != end && first->start < high;
}

// ---- Walsh-Hadamard, in place, not normalised ----

// VECTORS vectors in registers.
template <int VECTORS> D90_INLINE void transform_registers(float *x) {
    f32v v[VECTORS];
    for (int i = 0; i < VECTORS; ++i) v[i] = transform_within(load<f32v>(x + LANES * i));
    for (int step = 1; step < VECTORS; step *= 2)
        for (int i = 0; i < VECTORS; ++i)
            if (!(i & step)) {
                f32v a = v[i], b = v[i + step];
                v[i] = a + b, v[i + step] = a - b;
            }
    for (int i = 0; i < VECTORS; ++i) store(x + LANES * i, v[i]);
}

template <int RADIX> D90_INLINE void transform_across(float *x, int64_t stride) {
    for (int64_t at = 0; at < stride; at += LANES) {
        f32v v[RADIX];
        for (int i = 0; i < RADIX; ++i) v[i] = load<f32v>(x + at + i * stride);
        for (int step = 1; step < RADIX; step *= 2)
            for (int i = 0; i < RADIX; ++i)
                if (!(i & step)) {
                    f32v a = v[i], b = v[i + step];
                    v[i] = a + b, v[i + step] = a - b;
                }
        for (int i = 0; i < RADIX; ++i) store(x + at + i * stride, v[i]);
    }
}

void transform_scalar(float *x, int64_t n) {
    for (int64_t width = 1; width < n; width *= 2)
        for (int64_t i = 0; i < n; i += 2 * width)
            for (int64_t j = i; j < i + width; ++j) {
                float a = x[j], b = x[j + width];
                x[j] = a + b, x[j + width] = a - b;
            }
}

// Widest strides first, then each part alone: a long transform passes log8(n / cache) times over
// memory and does the rest in cache.
void transform(float *x, int64_t n) {
    if (n < LANES) return transform_scalar(x, n);
    if (n == 16) return transform_registers<1>(x);
    if (n == 32) return transform_registers<2>(x);
    if (n == 64) return transform_registers<4>(x);
    if (n == 128) return transform_registers<8>(x);
    if (n == 256) return transform_registers<16>(x);
    int radix = n >= 2048 ? 8 : n == 1024 ? 4 : 2;
    if (radix == 8) transform_across<8>(x, n / 8);
    if (radix == 4) transform_across<4>(x, n / 4);
    if (radix == 2) transform_across<2>(x, n / 2);
    for (int part = 0; part < radix; ++part) transform(x + part * (n / radix), n / radix);
}

// ---- Fastfood: a unit is a block of n rows, or 64 rows of smaller blocks ----

struct Fastfood {
    uint64_t seed;
    int64_t d, n, unit;
    int bits;
    const uint32_t *lines;
    float norm;
    std::vector<float> x, y;
    std::vector<uint32_t> words, keys;

    Fastfood(const d90_job &job)
        : seed(job.seed), d(job.d), n(1), unit(job.unit), bits(0), lines(job.lines) {
        while (n < d) n *= 2, ++bits;
        norm = (float)(1 / std::sqrt((double)n * (double)job.D));
        x.resize(unit), y.resize(unit), words.resize(unit);
        keys.resize(unit / n * PERMUTATION_ROUNDS);
    }

    void generate(int64_t index) {
        fill_words(seed, FASTFOOD, 0, index * unit, unit, words.data());
        fill_words(seed, PERMUTATION, 0, index * (int64_t)keys.size(), keys.size(), keys.data());
    }

    // z with random signs, then H.
    void spread(const float *z) {
        if (n < LANES) {
            for (int64_t i = 0; i < unit; ++i) {
                float value = i % n < d ? z[i % n] : 0;
                x[i] = words[i] & 1 ? -value : value;
            }
        } else {
            for (int64_t i = 0; i < unit; i += LANES) {
                f32v value = load<f32v>(z + (i & (n - 1)));
                store(&x[i], flip_sign(value, sign_bits(load<u32v>(&words[i]))));
            }
        }
        for (int64_t b = 0; b < unit; b += n) transform(&x[b], n);
    }

    // visit(i, places): where the 16 entries from i on come from, whole blocks at a time.
    template <class Visit> D90_METHOD void permuted(Visit visit) {
        if (n < LANES) return permuted_short(visit);
        for (int64_t start = 0; start < unit; start += n) {
            const uint32_t *key = &keys[(start >> bits) * PERMUTATION_ROUNDS];
            const Permutation image(bits, [&](int r) { return splat(key[r]); });
            for (int64_t i = 0; i < n; i += LANES)
                visit(start + i, image(iota() + (uint32_t)i) + (uint32_t)start);
        }
    }

    // Where blocks are shorter than a vector, each lane has its own keys.
    template <class Visit> D90_METHOD void permuted_short(Visit visit) {
        for (int64_t i = 0; i < unit; i += LANES) {
            u32v row = iota() + (uint32_t)i, block = row >> bits;
            const Permutation image(bits, [&](int r) {
                return gather(keys.data(), block * PERMUTATION_ROUNDS + (uint32_t)r);
            });
            visit(i, image(row & (uint32_t)(n - 1)) + (block << bits));
        }
    }

    D90_METHOD void apply(const float *z, int64_t index, const d90_segment *first,
                          const d90_segment *end) {
        generate(index);
        spread(z);
        const Normals normals(lines);
        permuted([&](int64_t i, u32v place) {
            store(&y[i], gather(x.data(), place) * normals(load<u32v>(&words[i])));
        });
        for (int64_t b = 0; b < unit; b += n) transform(&y[b], n);
        emit(y.data(), index * unit, (index + 1) * unit, norm, first, end);
    }

    D90_METHOD void adjoint(float *total, int64_t index, const d90_segment *first,
                            const d90_segment *end) {
        if (!collect(y.data(), index * unit, (index + 1) * unit, norm, first, end)) return;
        generate(index);
        for (int64_t b = 0; b < unit; b += n) transform(&y[b], n);
        const Normals normals(lines);
        for (int64_t i = 0; i < unit; i += LANES)
            store(&y[i], load<f32v>(&y[i]) * normals(load<u32v>(&words[i])));
        permuted([&](int64_t i, u32v place) {
            uint32_t to[LANES];
            store(to, place);
            for (int lane = 0; lane < LANES; ++lane) x[to[lane]] = y[i + lane];
        });
        for (int64_t b = 0; b < unit; b += n) transform(&x[b], n);
        if (n < LANES) {
            for (int64_t i = 0; i < unit; ++i) total[i % n] += words[i] & 1 ? -x[i] : x[i];
        } else {
            for (int64_t i = 0; i < unit; i += LANES) {
                f32v value = flip_sign(load<f32v>(&x[i]), sign_bits(load<u32v>(&words[i])));
                store(total + (i & (n - 1)), load<f32v>(total + (i & (n - 1))) + value);
            }
        }
    }
};

// ---- One-hot: a unit is 64 rows times 64 ----

struct OneHot {
    uint64_t seed;
    int64_t d, unit;
    float norm;
    std::vector<float> rows;

    OneHot(const d90_job &job)
        : seed(job.seed), d(job.d), unit(job.unit), rows(job.unit) {
        norm = (float)std::sqrt((double)job.d / (double)job.D);
    }

    template <class Visit> D90_METHOD void each(int64_t index, Visit visit) {
        u32v words[4];
        for (int64_t i = 0; i < unit; i += 64) {
            group_words(seed, ONEHOT, 0, (index * unit + i) / 64, words);
            for (int w = 0; w < 4; ++w)
                visit(i + 16 * w, scale_down(words[w] >> 1, (uint32_t)d), sign_bits(words[w]));
        }
    }

    D90_METHOD void apply(const float *z, int64_t index, const d90_segment *first,
                          const d90_segment *end) {
        each(index, [&](int64_t i, u32v column, u32v sign) {
            store(&rows[i], flip_sign(gather(z, column), sign));
        });
        emit(rows.data(), index * unit, (index + 1) * unit, norm, first, end);
    }

    D90_METHOD void adjoint(float *total, int64_t index, const d90_segment *first,
                            const d90_segment *end) {
        if (!collect(rows.data(), index * unit, (index + 1) * unit, norm, first, end)) return;
        each(index, [&](int64_t i, u32v column, u32v sign) {
            f32v value = flip_sign(load<f32v>(&rows[i]), sign);
            for (int lane = 0; lane < LANES; ++lane) total[column[lane]] += value[lane];
        });
    }
};

// ---- Sparse: a unit is a stratum, with one nonzero in each column ----

struct Sparse {
    uint64_t seed;
    int64_t d, unit;
    float norm;
    std::vector<float> rows;
    std::vector<uint32_t> words;

    Sparse(const d90_job &job)
        : seed(job.seed), d(job.d), unit(job.unit), rows(job.unit), words(job.d) {
        norm = (float)std::sqrt((double)job.unit / (double)job.D);
    }

    template <class Visit> D90_METHOD void each(int64_t index, Visit visit) {
        fill_words(seed, SPARSE, 0, index * d, d, words.data());
        for (int64_t j = 0; j < d; ++j)
            visit(j, ((uint64_t)(words[j] >> 1) * (uint64_t)unit) >> 31, words[j] & 1);
    }

    D90_METHOD void apply(const float *z, int64_t index, const d90_segment *first,
                          const d90_segment *end) {
        for (auto &row : rows) row = 0;
        each(index, [&](int64_t j, uint64_t row, bool minus) { rows[row] += minus ? -z[j] : z[j]; });
        emit(rows.data(), index * unit, (index + 1) * unit, norm, first, end);
    }

    D90_METHOD void adjoint(float *total, int64_t index, const d90_segment *first,
                            const d90_segment *end) {
        if (!collect(rows.data(), index * unit, (index + 1) * unit, norm, first, end)) return;
        each(index, [&](int64_t j, uint64_t row, bool minus) {
            total[j] += minus ? -rows[row] : rows[row];
        });
    }
};

// ---- Dense: a unit is 64 rows ----

struct Dense {
    uint64_t seed;
    int64_t d, unit;
    const uint32_t *lines;
    float norm;
    float rows[64];

    Dense(const d90_job &job) : seed(job.seed), d(job.d), unit(job.unit), lines(job.lines) {
        norm = (float)(1 / std::sqrt((double)job.D));
    }

    D90_METHOD void apply(const float *z, int64_t index, const d90_segment *first,
                          const d90_segment *end) {
        const Normals normals(lines);
        f32v sum[4] = {};
        u32v words[4];
        // Sums of 64 products, then the sum of those: the rounding error grows with d / 64.
        for (int64_t from = 0; from < d; from += 64) {
            f32v part[4] = {};
            for (int64_t j = from; j < (from + 64 < d ? from + 64 : d); ++j) {
                group_words(seed, DENSE, j, index, words);
                for (int w = 0; w < 4; ++w) part[w] += normals(words[w]) * z[j];
            }
            for (int w = 0; w < 4; ++w) sum[w] += part[w];
        }
        for (int w = 0; w < 4; ++w) store(rows + 16 * w, sum[w]);
        emit(rows, index * unit, (index + 1) * unit, norm, first, end);
    }

    D90_METHOD void adjoint(float *total, int64_t index, const d90_segment *first,
                            const d90_segment *end) {
        if (!collect(rows, index * unit, (index + 1) * unit, norm, first, end)) return;
        const Normals normals(lines);
        u32v words[4];
        for (int64_t j = 0; j < d; ++j) {
            group_words(seed, DENSE, j, index, words);
            f32v sum = {};
            for (int w = 0; w < 4; ++w) sum += normals(words[w]) * load<f32v>(rows + 16 * w);
            float dot = 0;
            for (int lane = 0; lane < LANES; ++lane) dot += sum[lane];
            total[j] += dot;
        }
    }
};

template <class Operator>
void apply_units(const d90_job &job, const float *z, int64_t from, int64_t to) {
    Operator op(job);
    const d90_segment *first = job.segments, *end = job.segments + job.count;
    for (int64_t index = from; index < to; ++index)
        if (touched(index * job.unit, (index + 1) * job.unit, first, end))
            op.apply(z, index, first, end);
}

template <class Operator>
void adjoint_units(const d90_job &job, float *total, int64_t from, int64_t to) {
    Operator op(job);
    const d90_segment *first = job.segments, *end = job.segments + job.count;
    for (int64_t index = from; index < to; ++index)
        if (touched(index * job.unit, (index + 1) * job.unit, first, end))
            op.adjoint(total, index, first, end);
}

void words(uint64_t seed, uint32_t stream, uint64_t block, int64_t start, int64_t stop,
           uint32_t *out) {
    fill_words(seed, stream, block, start, stop - start, out);
}

void normal_numbers(const uint32_t *lines, const uint32_t *word, int64_t count, float *out) {
    const Normals normals(lines);
    for (int64_t i = 0; i < count; i += LANES) {
        uint32_t in[LANES] = {};
        float result[LANES];
        int64_t take = count - i < LANES ? count - i : LANES;
        std::memcpy(in, word + i, take * 4);
        store(result, normals(load<u32v>(in)));
        std::memcpy(out + i, result, take * 4);
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
