// philox-v1: the same bits as src/d90/rng/philox.py, which is the specification.
#pragma once
#include "isa.h"
#include "vec.h"

namespace {

enum Stream : uint32_t {
    FASTFOOD = 3,
    PERMUTATION = 4,
    ONEHOT = 5,
    SPARSE = 6,
    DENSE = 7,
    FASTFOOD_ROWS = 8
};
constexpr int KEYS = 8;        // words of a permutation
constexpr int SQUARE = 256;    // places of a permutation by rows
constexpr int ORDERS = 240;    // orders of sixteen lanes

// Philox4x32-10 with one seed.
struct Words {
    uint64_t key[20];

    explicit Words(uint64_t seed) {
        uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
        for (int round = 0; round < 10; ++round) {
            key[2 * round] = k0, key[2 * round + 1] = k1;
            k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
        }
    }

    // The 64 entries of each of GROUPS groups: entry 16 w + lane is word w of counter
    // 16 group + lane. Two groups at once hide the latency of the multiplications.
    template <int GROUPS>
    D90_METHOD void groups(uint32_t stream, uint64_t block, uint64_t group, u32v *out) const {
        const uint64_t low = 0xFFFFFFFFull, tag = stream | (block >> 32) << 16;
        u64v c[2 * GROUPS][4];
#pragma GCC unroll 4
        for (int half = 0; half < 2 * GROUPS; ++half) {
            u64v lane = u64v{0, 1, 2, 3, 4, 5, 6, 7} + splat64(group * 16 + 8 * half);
            c[half][0] = lane & splat64(low);
            c[half][1] = lane >> 32;
            c[half][2] = splat64(block & low);
            c[half][3] = splat64(tag);
        }
        // multiply_low ignores the upper halves of the lanes.
#pragma GCC unroll 10
        for (int round = 0; round < 10; ++round) {
            const u64v k0 = splat64(key[2 * round]), k1 = splat64(key[2 * round + 1]);
#pragma GCC unroll 4
            for (auto &x : c) {
                u64v p0 = multiply_low(x[0], 0xD2511F53u), p1 = multiply_low(x[2], 0xCD9E8D57u);
                u64v y0 = (p1 >> 32) ^ x[1] ^ k0, y2 = (p0 >> 32) ^ x[3] ^ k1;
                x[0] = y0, x[1] = p1, x[2] = y2, x[3] = p0;
            }
        }
#pragma GCC unroll 2
        for (int g = 0; g < GROUPS; ++g)
#pragma GCC unroll 4
            for (int w = 0; w < 4; ++w)
                out[4 * g + w] = low_halves(c[2 * g][w], c[2 * g + 1][w]);
    }

    // Entries start..start + count, whole groups where the ends allow it.
    D90_METHOD void fill(uint32_t stream, uint64_t block, uint64_t start, uint64_t count,
                         uint32_t *out) const {
        u32v words[4];
        for (uint64_t done = 0; done < count;) {
            uint64_t group = (start + done) / 64, skip = (start + done) % 64;
            uint64_t take = 64 - skip < count - done ? 64 - skip : count - done;
            groups<1>(stream, block, group, words);
            std::memcpy(out + done, (const uint32_t *)words + skip, take * 4);
            done += take;
        }
    }
};

D90_INLINE u32v sign_bits(u32v word) { return word << 31; }

// Two normals per word, in units of 2^-12.
struct Normals {
    const d90_tables &tables;
#if defined(__AVX512BW__)
    __m512i line[4][2];  // the 64 entries of each table, in registers

    D90_METHOD explicit Normals(const d90_tables &tables) : tables(tables) {
        for (int i = 0; i < 4; ++i)
            for (int j = 0; j < 2; ++j) line[i][j] = _mm512_loadu_si512(tables.lines[i] + 32 * j);
    }

    // Both lines are tried for every number: the tail is no branch.
    D90_METHOD __m512i sizes(u32v word) const {
        const __m512i w = (__m512i)word;
        const __mmask32 tail = _mm512_testn_epi16_mask(w, _mm512_set1_epi16(0x7800));
        const __m512i center = _mm512_srli_epi16(w, 9), fine = _mm512_srli_epi16(w, 5);
        __m512i intercept = _mm512_permutex2var_epi16(line[0][0], center, line[0][1]);
        __m512i fall = _mm512_permutex2var_epi16(line[1][0], center, line[1][1]);
        __m512i intercept_2 = _mm512_permutex2var_epi16(line[2][0], fine, line[2][1]);
        __m512i fall_2 = _mm512_permutex2var_epi16(line[3][0], fine, line[3][1]);
        intercept = _mm512_mask_mov_epi16(intercept, tail, intercept_2);
        fall = _mm512_mask_mov_epi16(fall, tail, fall_2);
        __m512i step = _mm512_mask_slli_epi16(_mm512_slli_epi16(w, 7), tail, w, 11);
        __m512i size = _mm512_sub_epi16(intercept, _mm512_mulhi_epu16(fall, step));
        return _mm512_mask_sub_epi16(size, _mm512_movepi16_mask(w), _mm512_setzero_si512(), size);
    }

    D90_METHOD void operator()(u32v word, int16_t out[2 * LANES]) const {
        _mm512_storeu_si512(out, sizes(word));
    }
#else
    D90_METHOD explicit Normals(const d90_tables &tables) : tables(tables) {}

    D90_METHOD void operator()(u32v word, int16_t out[2 * LANES]) const {
        uint32_t from[LANES];
        store(from, word);
        for (int i = 0; i < LANES; ++i) {
            out[2 * i] = tables.sizes[from[i] & 0xFFFF];
            out[2 * i + 1] = tables.sizes[from[i] >> 16];
        }
    }
#endif
};

constexpr float NORMAL_UNIT = 0x1p-12f;

D90_INLINE f32v widen(const int16_t from[LANES]) {
#if defined(__AVX512F__)
    __m256i packed = _mm256_loadu_si256((const __m256i *)from);
    return (f32v)_mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(packed));
#elif defined(__AVX2__)
    __m256 half[2];
    for (int i = 0; i < 2; ++i) {
        __m128i packed = _mm_loadu_si128((const __m128i *)(from + 8 * i));
        half[i] = _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(packed));
    }
    f32v out;
    std::memcpy(&out, half, 64);
    return out;
#else
    f32v out;
    for (int i = 0; i < LANES; ++i) out[i] = from[i];
    return out;
#endif
}

// The index of the order of the lanes of a row.
D90_INLINE u32v order_of(u32v word) { return (word >> 16) * (uint32_t)ORDERS >> 16; }

// The image of each place under a keyed bijection of `bits` bits, in ROUNDS rounds.
template <int ROUNDS> struct Bijection {
    u32v first[ROUNDS], second[ROUNDS], mask;
    int even, odd;

    // key(r): the key of round r, one for each lane.
    template <class Key>
    D90_METHOD Bijection(int bits, Key key) : even((bits + 1) / 2), odd(bits / 2 + 1) {
        mask = splat((1u << bits) - 1);
        for (int r = 0; r < ROUNDS; ++r) {
            u32v k = key(r);
            first[r] = k >> 16, second[r] = k | 1;
        }
    }

    D90_METHOD u32v operator()(u32v place) const {
        for (int r = 0; r < ROUNDS; ++r) {
            place = ((place ^ first[r]) * second[r]) & mask;
            place ^= place >> (r % 2 ? odd : even);
        }
        return place;
    }
};

}  // namespace
