// philox-v1: the same bits as src/d90/random.py, which is the specification.
#pragma once
#include "vec.h"

namespace {

enum Stream : uint32_t { FASTFOOD = 3, PERMUTATION = 4, ONEHOT = 5, SPARSE = 6, DENSE = 7 };
constexpr int PERMUTATION_ROUNDS = 8;

// The 64 entries of one group: entry 16 w + lane is word w of counter 16 group + lane.
D90_INLINE void group_words(uint64_t seed, uint32_t stream, uint64_t block, uint64_t group,
                            u32v out[4]) {
    const uint64_t low = 0xFFFFFFFFull, tag = stream | (block >> 32) << 16;
    u64v c[2][4];
    for (int half = 0; half < 2; ++half) {
        u64v lane = u64v{0, 1, 2, 3, 4, 5, 6, 7} + (group * 16 + 8 * half);
        c[half][0] = lane & low;
        c[half][1] = lane >> 32;
        c[half][2] = u64v{} + (block & low);
        c[half][3] = u64v{} + tag;
    }
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    // Upper halves of the lanes hold rubbish that multiply_low does not look at.
    for (int round = 0; round < 10; ++round) {
        for (auto &x : c) {
            u64v p0 = multiply_low(x[0], 0xD2511F53u), p1 = multiply_low(x[2], 0xCD9E8D57u);
            u64v y0 = (p1 >> 32) ^ x[1] ^ (uint64_t)k0, y2 = (p0 >> 32) ^ x[3] ^ (uint64_t)k1;
            x[0] = y0, x[1] = p1, x[2] = y2, x[3] = p0;
        }
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    const i32v even = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
    for (int word = 0; word < 4; ++word)
        out[word] = __builtin_shuffle((u32v)c[0][word], (u32v)c[1][word], (u32v)even);
}

// Entries start..start + count, whole groups where the ends allow it.
D90_INLINE void fill_words(uint64_t seed, uint32_t stream, uint64_t block, uint64_t start,
                           uint64_t count, uint32_t *out) {
    u32v words[4];
    for (uint64_t done = 0; done < count;) {
        uint64_t group = (start + done) / 64, skip = (start + done) % 64;
        uint64_t take = 64 - skip < count - done ? 64 - skip : count - done;
        group_words(seed, stream, block, group, words);
        if (take == 64) {
            for (int w = 0; w < 4; ++w) store(out + done + 16 * w, words[w]);
        } else {
            uint32_t all[64];
            for (int w = 0; w < 4; ++w) store(all + 16 * w, words[w]);
            std::memcpy(out + done, all + skip, take * 4);
        }
        done += take;
    }
}

D90_INLINE u32v sign_bits(u32v word) { return word << 31; }

constexpr uint32_t LINES = 192, LIKELY_LINES = 64;

// The 64 lines of the eight widest octaves serve all lanes of fifteen vectors in sixteen.
struct Normals {
    const uint32_t *lines;
    Table64 likely;
    D90_METHOD explicit Normals(const uint32_t *lines)
        : lines(lines), likely(lines + LINES - LIKELY_LINES) {}

    D90_METHOD f32v operator()(u32v word) const {
        u32v bits = (u32v)to_float((word >> 8) | 1);
        u32v number = (bits >> 20) - (127u << 3);
        u32v from_end = number - (LINES - LIKELY_LINES);
        u32v line = likely[from_end & (LIKELY_LINES - 1)];
        if (any(from_end & ~(LIKELY_LINES - 1))) line = gather(lines, number);
        u32v size = (line >> 8) - (line & 255) * ((bits >> 10) & 1023);
        return flip_sign(to_float(size) * 0x1p-21f, (word & 2) << 30);
    }
};

// The image of each place under a keyed bijection of `bits` bits. `first` and `second` are the two
// halves of each round's key, one vector a round.
struct Permutation {
    u32v first[PERMUTATION_ROUNDS], second[PERMUTATION_ROUNDS], mask;
    int bits;

    template <class Key> D90_METHOD Permutation(int bits, Key key) : bits(bits) {
        mask = splat((1u << bits) - 1);
        for (int r = 0; r < PERMUTATION_ROUNDS; ++r) {
            u32v k = key(r);
            first[r] = k >> 16, second[r] = k | 1;
        }
    }

    D90_METHOD u32v operator()(u32v place) const {
        const int even = (bits + 1) / 2, odd = bits / 2 + 1;
        for (int r = 0; r < PERMUTATION_ROUNDS; ++r) {
            place = ((place ^ first[r]) * second[r]) & mask;
            place ^= place >> (r % 2 ? odd : even);
        }
        return place;
    }
};

}  // namespace
