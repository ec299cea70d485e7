/*
 * half.h - 16-bit floating point numbers, and the f32 numbers that they stand for.
 *
 * To f32 is exact. From f32 is rounded to the nearest, ties to even; what is too large becomes
 * infinite, NaN stays NaN.
 *
 * Threads: no state.
 * Source:  f16 is binary16 of IEEE 754; bf16 is the upper half of its binary32.
 */
#ifndef BASE_HALF_H
#define BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t hs_f32_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float hs_f32_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float hs_f32_from_bf16(uint16_t half)
{
    return hs_f32_from_bits((uint32_t)half << 16);
}

static inline uint16_t hs_bf16_from_f32(float value)
{
    uint32_t bits = hs_f32_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)((bits >> 16) | 0x40u);
    }
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static inline float hs_f32_from_f16(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t magnitude = half & 0x7fffu;
    uint32_t bits;
    if (magnitude < 0x400u) {
        bits = hs_f32_bits((float)magnitude * 0x1p-24f);
    } else if (magnitude < 0x7c00u) {
        bits = (magnitude << 13) + (112u << 23); /* the biases of the exponents are 15 and 127 */
    } else {
        bits = (magnitude << 13) | 0x7f800000u;
    }
    return hs_f32_from_bits(sign | bits);
}

static inline uint16_t hs_f16_from_f32(float value)
{
    uint32_t sign = (hs_f32_bits(value) >> 16) & 0x8000u;
    uint32_t magnitude = hs_f32_bits(value) & 0x7fffffffu;
    uint32_t half;
    if (magnitude > 0x7f800000u) {
        half = 0x7e00u;
    } else if (magnitude >= hs_f32_bits(65520.0f)) { /* half-way to what would be 65536 */
        half = 0x7c00u;
    } else if (magnitude < hs_f32_bits(0x1p-14f)) {
        /* The last bit of numbers from 0.5 on is 2^-24, as that of subnormal f16: the sum rounds */
        half = hs_f32_bits(hs_f32_from_bits(magnitude) + 0.5f) - hs_f32_bits(0.5f);
    } else {
        half = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    }
    return (uint16_t)(sign | half);
}

#endif
