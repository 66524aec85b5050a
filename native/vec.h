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

// The same number in every lane. Left to itself, GCC writes such a vector to memory piece by piece
// where registers are half as long.
D90_INLINE u32v splat(uint32_t x) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    const __m256i half[2] = {_mm256_set1_epi32((int)x), _mm256_set1_epi32((int)x)};
    return load<u32v>(half);
#else
    return u32v{} + x;
#endif
}
D90_INLINE u64v splat64(uint64_t x) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    const __m256i half[2] = {_mm256_set1_epi64x((int64_t)x), _mm256_set1_epi64x((int64_t)x)};
    return load<u64v>(half);
#else
    return u64v{} + x;
#endif
}
D90_INLINE f32v splat(float x) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    const __m256 half[2] = {_mm256_set1_ps(x), _mm256_set1_ps(x)};
    return load<f32v>(half);
#else
    return x - f32v{};  // not 0 + x, which loses the sign of zero
#endif
}
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

// The low 32 bits of the lanes of a, then of b.
D90_INLINE u32v low_halves(u64v a, u64v b) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    __m256 half[2], out[2];
    const u64v *from[2] = {&a, &b};
    for (int i = 0; i < 2; ++i) {
        std::memcpy(half, from[i], 64);
        __m256d mixed = _mm256_castps_pd(_mm256_shuffle_ps(half[0], half[1], 0x88));
        out[i] = _mm256_castpd_ps(_mm256_permute4x64_pd(mixed, 0xD8));
    }
    u32v x;
    std::memcpy(&x, out, 64);
    return x;
#else
    const i32v even = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
    return __builtin_shuffle((u32v)a, (u32v)b, even);
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

// x[lane[i]] for each i: the lanes of one vector in another order, lane[i] < 16.
D90_INLINE f32v permute(f32v x, const uint8_t lane[LANES]) {
#if defined(__AVX512F__)
    __m512i to = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)lane));
    return (f32v)_mm512_permutexvar_ps(to, (__m512)x);
#elif defined(__AVX2__)
    __m256 half[2], out[2];
    std::memcpy(half, &x, 64);
    for (int i = 0; i < 2; ++i) {
        __m256i to = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(lane + 8 * i)));
        __m256 low = _mm256_permutevar8x32_ps(half[0], to);
        __m256 high = _mm256_permutevar8x32_ps(half[1], to);
        out[i] = _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(to, 28)));
    }
    std::memcpy(&x, out, 64);
    return x;
#else
    f32v out;
    for (int i = 0; i < LANES; ++i) out[i] = x[lane[i]];
    return out;
#endif
}

// Negates lane i where bit i is set.
D90_INLINE f32v flip_signs(f32v x, uint32_t bits) {
    const u32v shift = 31 - u32v{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return (f32v)((u32v)x ^ ((splat(bits) << shift) & splat(0x80000000u)));
}

#if defined(__AVX2__) && !defined(__AVX512F__)
D90_INLINE void transpose8(__m256 x[8]) {
    __m256 a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
        b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xEE);
        b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xEE);
    }
    for (int i = 0; i < 4; ++i) {
        x[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
        x[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
}
#endif

// Exchanges lanes and vectors.
D90_INLINE void transpose(f32v x[LANES]) {
#if defined(__AVX512F__)
    __m512 a[16], b[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_ps((__m512)x[i], (__m512)x[i + 1]);
        a[i + 1] = _mm512_unpackhi_ps((__m512)x[i], (__m512)x[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        b[i] = _mm512_shuffle_ps(a[i], a[i + 2], 0x44);
        b[i + 1] = _mm512_shuffle_ps(a[i], a[i + 2], 0xEE);
        b[i + 2] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        b[i + 3] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0xEE);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        __m512 even = _mm512_shuffle_f32x4(b[i], b[4 + i], 0x88);
        __m512 odd = _mm512_shuffle_f32x4(b[i], b[4 + i], 0xDD);
        __m512 even_high = _mm512_shuffle_f32x4(b[8 + i], b[12 + i], 0x88);
        __m512 odd_high = _mm512_shuffle_f32x4(b[8 + i], b[12 + i], 0xDD);
        x[i] = (f32v)_mm512_shuffle_f32x4(even, even_high, 0x88);
        x[4 + i] = (f32v)_mm512_shuffle_f32x4(odd, odd_high, 0x88);
        x[8 + i] = (f32v)_mm512_shuffle_f32x4(even, even_high, 0xDD);
        x[12 + i] = (f32v)_mm512_shuffle_f32x4(odd, odd_high, 0xDD);
    }
#elif defined(__AVX2__)
    __m256 block[2][2][8];
    for (int i = 0; i < 16; ++i)
        for (int half = 0; half < 2; ++half)
            std::memcpy(&block[i / 8][half][i % 8], (const char *)&x[i] + 32 * half, 32);
    for (auto &row : block)
        for (auto &square : row) transpose8(square);
    for (int i = 0; i < 16; ++i)
        for (int half = 0; half < 2; ++half)
            std::memcpy((char *)&x[i] + 32 * half, &block[half][i / 8][i % 8], 32);
#else
    float from[LANES][LANES], to[LANES][LANES];
    std::memcpy(from, x, sizeof from);
    for (int i = 0; i < LANES; ++i)
        for (int j = 0; j < LANES; ++j) to[j][i] = from[i][j];
    std::memcpy(x, to, sizeof to);
#endif
}

// a, b := a + b, a - b. The difference is a fused multiply-add where that is another unit of the
// processor than addition; it rounds once, as a subtraction does.
D90_INLINE void butterfly(f32v &a, f32v &b) {
    f32v sum = a + b;
#if defined(__AVX512F__)
    __m512 one = _mm512_set1_ps(1);
    asm("" : "+v"(one));
    b = (f32v)_mm512_fnmadd_ps((__m512)b, one, (__m512)a);
#else
    b = a - b;
#endif
    a = sum;
}

// Past the caches: for what is not read again soon. p is aligned to the vector.
D90_INLINE void stream(float *p, f32v v) {
#if defined(__AVX512F__)
    _mm512_stream_ps(p, (__m512)v);
#elif defined(__AVX2__)
    __m256 half[2];
    std::memcpy(half, &v, 64);
    _mm256_stream_ps(p, half[0]);
    _mm256_stream_ps(p + 8, half[1]);
#else
    store(p, v);
#endif
}

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

}  // namespace
