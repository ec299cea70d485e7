/*
 * lora_vector.h - vectors of floats in the instruction set that a file is compiled for, and what
 * the kernels load into them.
 *
 * Arithmetic is that of the compiler's vector extension (+, *); only what it does badly is written
 * in intrinsics. HS_LORA_PORTABLE leaves them out.
 *
 * Threads: no state.
 */
#ifndef RUNTIME_LORA_VECTOR_H
#define RUNTIME_LORA_VECTOR_H

#include <stdint.h>
#include <string.h>

#include "base/lora.h"

/* VEC_LEN: floats in a vector. ROW_TILE, STRIP_TILE: rows that dense and strip kernels compute at
 * once, a power of two that keeps their sums in registers. */
#if !defined(HS_LORA_PORTABLE) && defined(__AVX512F__)
#include <immintrin.h>
#define VEC_LEN 16
#define ROW_TILE 4
#define STRIP_TILE 8
#elif !defined(HS_LORA_PORTABLE) && defined(__AVX2__)
#include <immintrin.h>
#define VEC_LEN 8
#define ROW_TILE 2
#define STRIP_TILE 4
#elif !defined(HS_LORA_PORTABLE) && defined(__ARM_NEON)
#include <arm_neon.h>
#define VEC_LEN 4
#define ROW_TILE 4
#define STRIP_TILE 4
#else
#define VEC_LEN 4
#define ROW_TILE 2
#define STRIP_TILE 2
#endif

#define ALWAYS_INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(VEC_LEN * 4)));
typedef uint32_t vec_u32 __attribute__((vector_size(VEC_LEN * 4)));
typedef int32_t vec_i32 __attribute__((vector_size(VEC_LEN * 4)));
typedef uint16_t vec_u16 __attribute__((vector_size(VEC_LEN * 2)));
typedef int8_t vec_i8 __attribute__((vector_size(VEC_LEN)));

ALWAYS_INLINE vec vec_load(const float *from)
{
    vec v;
    memcpy(&v, from, sizeof v);
    return v;
}

ALWAYS_INLINE void vec_store(float *to, vec v)
{
    memcpy(to, &v, sizeof v);
}

#if VEC_LEN == 16
ALWAYS_INLINE vec vec_load_f16(const uint16_t *from)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i_u *)from));
}

ALWAYS_INLINE vec vec_load_bf16(const uint16_t *from)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i_u *)from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

ALWAYS_INLINE vec vec_load_i8(const int8_t *from)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i_u *)from)));
}

ALWAYS_INLINE float vec_sum(vec v)
{
    return _mm512_reduce_add_ps(v);
}
#elif VEC_LEN == 8
ALWAYS_INLINE vec vec_load_f16(const uint16_t *from)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i_u *)from));
}

ALWAYS_INLINE vec vec_load_bf16(const uint16_t *from)
{
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i_u *)from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

ALWAYS_INLINE vec vec_load_i8(const int8_t *from)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i_u *)from)));
}

ALWAYS_INLINE float vec_sum(vec v)
{
    __m128 half = _mm256_castps256_ps128(v) + _mm256_extractf128_ps(v, 1);
    half += _mm_movehl_ps(half, half);
    return half[0] + half[1];
}
#else
ALWAYS_INLINE vec vec_load_f16(const uint16_t *from)
{
#if !defined(HS_LORA_PORTABLE) && defined(__ARM_NEON)
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from)));
#else
    vec_u16 halves;
    memcpy(&halves, from, sizeof halves);
    vec_u32 wide = __builtin_convertvector(halves, vec_u32);
    vec_u32 magnitude = wide & 0x7fff;
    /* The product moves the exponent's bias from 15 to 127, of subnormal numbers too */
    vec_u32 bits = (vec_u32)((vec)(magnitude << 13) * 0x1p112f);
    vec_u32 endless = (vec_u32)(magnitude >= 0x7c00) & 0x7f800000;
    return (vec)(bits | endless | (wide & 0x8000) << 16);
#endif
}

ALWAYS_INLINE vec vec_load_bf16(const uint16_t *from)
{
    vec_u16 halves;
    memcpy(&halves, from, sizeof halves);
    return (vec)(__builtin_convertvector(halves, vec_u32) << 16);
}

ALWAYS_INLINE vec vec_load_i8(const int8_t *from)
{
    vec_i8 bytes;
    memcpy(&bytes, from, sizeof bytes);
    return __builtin_convertvector(__builtin_convertvector(bytes, vec_i32), vec);
}

ALWAYS_INLINE float vec_sum(vec v)
{
    return (v[0] + v[1]) + (v[2] + v[3]);
}
#endif

/* Values [at, at + VEC_LEN) of data. `type` is a constant where this is inlined. */
ALWAYS_INLINE vec vec_values(enum hs_lora_type type, const void *data, int64_t at)
{
    switch (type) {
    case HS_LORA_F32:
        return vec_load((const float *)data + at);
    case HS_LORA_F16:
        return vec_load_f16((const uint16_t *)data + at);
    case HS_LORA_BF16:
        return vec_load_bf16((const uint16_t *)data + at);
    default:
        return vec_load_i8((const int8_t *)data + at);
    }
}

#endif
