// Sixteen lanes of 32 bits, written once with the compiler's vector extensions; intrinsics only
// where the compiler does not find the instruction itself. Included once an instruction set.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define D90_METHOD inline __attribute__((always_inline))
#define D90_INLINE static D90_METHOD

namespace {

constexpr int LANES = 16;
typedef uint32_t u32v __attribute__((vector_size(64)));
typedef int32_t i32v __attribute__((vector_size(64)));
typedef float f32v __attribute__((vector_size(64)));
typedef uint64_t u64v __attribute__((vector_size(64)));  // 8 lanes

template <class V, class T> D90_INLINE V load(const T *p) {
    V v;
    std::memcpy(&v, p, sizeof(V));
    return v;
}
template <class V, class T> D90_INLINE void store(T *p, V v) { std::memcpy(p, &v, sizeof(V)); }

D90_INLINE u32v splat(uint32_t x) { return u32v{} + x; }
D90_INLINE u32v iota() { return u32v{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}; }
D90_INLINE f32v to_float(u32v x) { return __builtin_convertvector((i32v)x, f32v); }
D90_INLINE f32v flip_sign(f32v x, u32v sign_bit) { return (f32v)((u32v)x ^ sign_bit); }

// Low 32 bits of each 64-bit lane times a constant: the full product.
D90_INLINE u64v multiply_low(u64v x, uint32_t m) {
#if defined(__AVX512F__)
    return (u64v)_mm512_mul_epu32((__m512i)x, _mm512_set1_epi64(m));
#elif defined(__AVX2__)
    __m256i half[2];
    std::memcpy(half, &x, 64);
    half[0] = _mm256_mul_epu32(half[0], _mm256_set1_epi64x(m));
    half[1] = _mm256_mul_epu32(half[1], _mm256_set1_epi64x(m));
    std::memcpy(&x, half, 64);
    return x;
#elif defined(__x86_64__)
    __m128i part[4];
    std::memcpy(part, &x, 64);
    for (auto &p : part) p = _mm_mul_epu32(p, _mm_set1_epi64x(m));
    std::memcpy(&x, part, 64);
    return x;
#else
    return (x & 0xFFFFFFFFull) * (uint64_t)m;
#endif
}

D90_INLINE f32v gather(const float *base, u32v index) {
#if defined(__AVX512F__)
    return (f32v)_mm512_i32gather_ps((__m512i)index, base, 4);
#elif defined(__AVX2__)
    __m256i i[2];
    __m256 r[2];
    std::memcpy(i, &index, 64);
    r[0] = _mm256_i32gather_ps(base, i[0], 4);
    r[1] = _mm256_i32gather_ps(base, i[1], 4);
    f32v out;
    std::memcpy(&out, r, 64);
    return out;
#else
    f32v out;
    for (int lane = 0; lane < LANES; ++lane) out[lane] = base[index[lane]];
    return out;
#endif
}
D90_INLINE u32v gather(const uint32_t *base, u32v index) {
    return (u32v)gather((const float *)base, index);
}

// table[index] for index < 64, in registers where the processor can.
struct Table64 {
#if defined(__AVX512F__)
    u32v part[4];
    D90_METHOD explicit Table64(const uint32_t *table) {
        for (int i = 0; i < 4; ++i) part[i] = load<u32v>(table + 16 * i);
    }
    D90_METHOD u32v operator[](u32v index) const {
        __m512i i = (__m512i)index;
        __m512i low = _mm512_permutex2var_epi32((__m512i)part[0], i, (__m512i)part[1]);
        __m512i high = _mm512_permutex2var_epi32((__m512i)part[2], i, (__m512i)part[3]);
        __mmask16 upper = _mm512_test_epi32_mask(i, _mm512_set1_epi32(32));
        return (u32v)_mm512_mask_blend_epi32(upper, low, high);
    }
#else
    const uint32_t *table;
    D90_METHOD explicit Table64(const uint32_t *table) : table(table) {}
    D90_METHOD u32v operator[](u32v index) const { return gather(table, index); }
#endif
};

D90_INLINE bool any(u32v x) {
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)x, (__m512i)x) != 0;
#else
    u64v y = (u64v)x;
    return (y[0] | y[1] | y[2] | y[3] | y[4] | y[5] | y[6] | y[7]) != 0;
#endif
}

// floor(a * bound / 2^31) for a < 2^31.
D90_INLINE u32v scale_down(u32v a, uint32_t bound) {
    u64v even = multiply_low((u64v)a, bound) >> 31;
    u64v odd = multiply_low((u64v)a >> 32, bound) >> 31;
    return (u32v)((even & 0xFFFFFFFFull) | odd << 32);
}

template <int STEP> D90_INLINE f32v butterfly_within(f32v x) {
    constexpr int S = STEP;
    const i32v other = {0 ^ S, 1 ^ S, 2 ^ S,  3 ^ S,  4 ^ S,  5 ^ S,  6 ^ S,  7 ^ S,
                        8 ^ S, 9 ^ S, 10 ^ S, 11 ^ S, 12 ^ S, 13 ^ S, 14 ^ S, 15 ^ S};
    const u32v upper = (iota() & splat(S)) != 0;
    return __builtin_shuffle(x, other) + flip_sign(x, upper & splat(0x80000000u));
}

D90_INLINE f32v transform_within(f32v x) {
    return butterfly_within<8>(butterfly_within<4>(butterfly_within<2>(butterfly_within<1>(x))));
}

}  // namespace
