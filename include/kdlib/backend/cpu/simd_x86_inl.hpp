// SPDX-License-Identifier: Apache-2.0
// Sixteen floats in an AVX-512 register and eight in an AVX2 register.
#ifndef KDLIB_BACKEND_CPU_SIMD_X86_INL_HPP
#define KDLIB_BACKEND_CPU_SIMD_X86_INL_HPP

#include <immintrin.h>

#include "kdlib/backend/cpu/simd_inl.hpp"

#define KDLIB_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define KDLIB_AVX2 __attribute__((target("avx2,fma")))

KDLIB_NAMESPACE_BEGIN
namespace detail {

// The maskz forms with a full mask compile to the plain instructions; g++ 12 warns about the undefined operand inside
// the plain forms.
struct Avx512Pack : PackMath<Avx512Pack> {
  using scalar = float;
  static constexpr bool is_pack = true;
  static constexpr std::int64_t width = 16;
  __m512 v;

  KDLIB_AVX512 Avx512Pack() {}
  KDLIB_AVX512 Avx512Pack(const Avx512Pack& o) : PackMath(), v(o.v) {}
  KDLIB_AVX512 Avx512Pack& operator=(const Avx512Pack& o) {
    v = o.v;
    return *this;
  }
  KDLIB_AVX512 explicit Avx512Pack(float x) : v(_mm512_set1_ps(x)) {}
  KDLIB_AVX512 explicit Avx512Pack(double x) : v(_mm512_set1_ps(static_cast<float>(x))) {}
  KDLIB_AVX512 explicit Avx512Pack(int x) : v(_mm512_set1_ps(static_cast<float>(x))) {}

  KDLIB_AVX512 static Avx512Pack load(const float* p) {
    Avx512Pack r;
    r.v = _mm512_loadu_ps(p);
    return r;
  }
  KDLIB_AVX512 static Avx512Pack load_part(const float* p, std::int64_t count, float fill) {
    Avx512Pack r;
    r.v = _mm512_mask_loadu_ps(_mm512_set1_ps(fill), mask(count), p);
    return r;
  }
  KDLIB_AVX512 static Avx512Pack load(const bf16* p) {
    Avx512Pack r;
    r.v = _mm512_castsi512_ps(_mm512_maskz_slli_epi32(
        0xFFFF, _mm512_maskz_cvtepu16_epi32(0xFFFF, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16));
    return r;
  }
  KDLIB_AVX512 static Avx512Pack load_part(const bf16* p, std::int64_t count, float fill) {
    Avx512Pack r;
    const __m512i x = _mm512_maskz_slli_epi32(
        0xFFFF, _mm512_maskz_cvtepu16_epi32(0xFFFF, _mm256_maskz_loadu_epi16(mask(count), p)), 16);
    r.v = _mm512_mask_mov_ps(_mm512_set1_ps(fill), mask(count), _mm512_castsi512_ps(x));
    return r;
  }
  KDLIB_AVX512 void store(float* p) const { _mm512_storeu_ps(p, v); }
  KDLIB_AVX512 void store_part(float* p, std::int64_t count) const { _mm512_mask_storeu_ps(p, mask(count), v); }
  KDLIB_AVX512 void store(bf16* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), rounded()); }
  KDLIB_AVX512 void store_part(bf16* p, std::int64_t count) const {
    _mm256_mask_storeu_epi16(p, mask(count), rounded());
  }
  /// 1 in the first `count` lanes, else 0.
  KDLIB_AVX512 static Avx512Pack first(std::int64_t count) {
    Avx512Pack r;
    r.v = _mm512_maskz_mov_ps(mask(count), _mm512_set1_ps(1.0f));
    return r;
  }
  KDLIB_AVX512 double sum() const {
    const __m512d low = _mm512_maskz_cvtps_pd(0xFF, _mm512_maskz_extractf32x8_ps(0xFF, v, 0)),
                  high = _mm512_maskz_cvtps_pd(0xFF, _mm512_maskz_extractf32x8_ps(0xFF, v, 1));
    const __m512d all = _mm512_add_pd(low, high);
    const __m256d four =
        _mm256_add_pd(_mm512_maskz_extractf64x4_pd(0xF, all, 0), _mm512_maskz_extractf64x4_pd(0xF, all, 1));
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
  }
  KDLIB_AVX512 float largest() const {
    const __m256 m = _mm256_max_ps(_mm512_maskz_extractf32x8_ps(0xFF, v, 0), _mm512_maskz_extractf32x8_ps(0xFF, v, 1));
    __m128 n = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
    n = _mm_max_ps(n, _mm_movehl_ps(n, n));
    return _mm_cvtss_f32(_mm_max_ss(n, _mm_shuffle_ps(n, n, 1)));
  }
  KDLIB_AVX512 bool any_at_least(float bound) const {
    return _mm512_cmp_ps_mask(v, _mm512_set1_ps(bound), _CMP_GE_OQ) != 0;
  }

#define KDLIB_PACK_BINARY(name, intrinsic)                                        \
  KDLIB_AVX512 friend Avx512Pack name(const Avx512Pack& a, const Avx512Pack& b) { \
    Avx512Pack r;                                                                 \
    r.v = intrinsic(a.v, b.v);                                                    \
    return r;                                                                     \
  }
  KDLIB_PACK_BINARY(operator+, _mm512_add_ps)
  KDLIB_PACK_BINARY(operator-, _mm512_sub_ps)
  KDLIB_PACK_BINARY(operator*, _mm512_mul_ps)
  KDLIB_PACK_BINARY(operator/, _mm512_div_ps)
#undef KDLIB_PACK_BINARY
  KDLIB_AVX512 friend Avx512Pack operator-(const Avx512Pack& a) {
    Avx512Pack r;
    r.v = _mm512_xor_ps(a.v, _mm512_set1_ps(-0.0f));
    return r;
  }
  KDLIB_AVX512 static Avx512Pack fma(const Avx512Pack& a, const Avx512Pack& b, const Avx512Pack& c) {
    Avx512Pack r;
    r.v = _mm512_fmadd_ps(a.v, b.v, c.v);
    return r;
  }
  KDLIB_AVX512 static Avx512Pack max(const Avx512Pack& a, const Avx512Pack& b) {  // NaN in b is kept
    Avx512Pack r;
    r.v = _mm512_maskz_max_ps(0xFFFF, a.v, b.v);
    return r;
  }
  KDLIB_AVX512 static Avx512Pack min(const Avx512Pack& a, const Avx512Pack& b) {
    Avx512Pack r;
    r.v = _mm512_maskz_min_ps(0xFFFF, a.v, b.v);
    return r;
  }
  KDLIB_AVX512 static Avx512Pack abs(const Avx512Pack& a) {
    Avx512Pack r;
    r.v = _mm512_maskz_andnot_ps(0xFFFF, _mm512_set1_ps(-0.0f), a.v);
    return r;
  }
  KDLIB_AVX512 static Avx512Pack sqrt(const Avx512Pack& a) {
    Avx512Pack r;
    r.v = _mm512_maskz_sqrt_ps(0xFFFF, a.v);
    return r;
  }
  KDLIB_AVX512 static Avx512Pack where_not_negative(const Avx512Pack& x, const Avx512Pack& a, const Avx512Pack& b) {
    Avx512Pack r;
    r.v = _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x.v, _mm512_setzero_ps(), _CMP_LT_OQ), a.v, b.v);
    return r;
  }
  KDLIB_AVX512 static Avx512Pack sign(const Avx512Pack& x) {
    Avx512Pack r;
    const __m512 one = _mm512_set1_ps(1.0f), zero = _mm512_setzero_ps();
    r.v = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.v, zero, _CMP_GT_OQ), one);
    r.v = _mm512_mask_mov_ps(r.v, _mm512_cmp_ps_mask(x.v, zero, _CMP_LT_OQ), _mm512_set1_ps(-1.0f));
    return r;
  }
  KDLIB_AVX512 static Avx512Pack round(const Avx512Pack& x) {
    Avx512Pack r;
    r.v = _mm512_maskz_roundscale_ps(0xFFFF, x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return r;
  }
  KDLIB_AVX512 static Avx512Pack scale2(const Avx512Pack& p, const Avx512Pack& n) {
    Avx512Pack r;
    r.v = _mm512_maskz_scalef_ps(0xFFFF, p.v, n.v);
    return r;
  }
  KDLIB_AVX512 static Avx512Pack split(const Avx512Pack& y, const Avx512Pack& near_one, Avx512Pack& exponent) {
    const __m512i bits = _mm512_castps_si512(y.v);
    const __m512i e = _mm512_maskz_srai_epi32(0xFFFF, _mm512_sub_epi32(bits, _mm512_set1_epi32(0x3F3504F3)), 23);
    exponent.v = _mm512_maskz_cvtepi32_ps(0xFFFF, e);
    Avx512Pack r;
    r.v = _mm512_sub_ps(_mm512_castsi512_ps(_mm512_sub_epi32(bits, _mm512_maskz_slli_epi32(0xFFFF, e, 23))),
                        _mm512_set1_ps(1.0f));
    r.v = _mm512_mask_mov_ps(r.v, _mm512_testn_epi32_mask(e, e), near_one.v);
    return r;
  }

 private:
  KDLIB_AVX512 static __mmask16 mask(std::int64_t count) { return static_cast<__mmask16>((1u << count) - 1u); }
  KDLIB_AVX512 __m256i rounded() const {  // to bf16, nearest even, NaN stays NaN
    const __m512i u = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_maskz_srli_epi32(0xFFFF, u, 16), _mm512_set1_epi32(1));
    const __m512i up =
        _mm512_maskz_srli_epi32(0xFFFF, _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF))), 16);
    const __m512i quiet = _mm512_or_si512(_mm512_maskz_srli_epi32(0xFFFF, u, 16), _mm512_set1_epi32(0x40));
    return _mm512_maskz_cvtepi32_epi16(0xFFFF,
                                       _mm512_mask_mov_epi32(up, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), quiet));
  }
};

struct Avx2Pack : PackMath<Avx2Pack> {
  using scalar = float;
  static constexpr bool is_pack = true;
  static constexpr std::int64_t width = 8;
  __m256 v;

  KDLIB_AVX2 Avx2Pack() {}
  KDLIB_AVX2 Avx2Pack(const Avx2Pack& o) : PackMath(), v(o.v) {}
  KDLIB_AVX2 Avx2Pack& operator=(const Avx2Pack& o) {
    v = o.v;
    return *this;
  }
  KDLIB_AVX2 explicit Avx2Pack(float x) : v(_mm256_set1_ps(x)) {}
  KDLIB_AVX2 explicit Avx2Pack(double x) : v(_mm256_set1_ps(static_cast<float>(x))) {}
  KDLIB_AVX2 explicit Avx2Pack(int x) : v(_mm256_set1_ps(static_cast<float>(x))) {}

  KDLIB_AVX2 static Avx2Pack load(const float* p) {
    Avx2Pack r;
    r.v = _mm256_loadu_ps(p);
    return r;
  }
  KDLIB_AVX2 static Avx2Pack load_part(const float* p, std::int64_t count, float fill) {
    Avx2Pack r;
    r.v = _mm256_blendv_ps(_mm256_set1_ps(fill), _mm256_maskload_ps(p, mask(count)), _mm256_castsi256_ps(mask(count)));
    return r;
  }
  KDLIB_AVX2 static Avx2Pack load(const bf16* p) {
    Avx2Pack r;
    r.v = _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16));
    return r;
  }
  KDLIB_AVX2 static Avx2Pack load_part(const bf16* p, std::int64_t count, float fill) {
    float x[8];
    for (std::int64_t i = 0; i < 8; ++i) x[i] = i < count ? static_cast<float>(p[i]) : fill;
    return load(x);
  }
  KDLIB_AVX2 void store(float* p) const { _mm256_storeu_ps(p, v); }
  KDLIB_AVX2 void store_part(float* p, std::int64_t count) const { _mm256_maskstore_ps(p, mask(count), v); }
  KDLIB_AVX2 void store(bf16* p) const { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), rounded()); }
  KDLIB_AVX2 void store_part(bf16* p, std::int64_t count) const {
    bf16 x[8];
    store(x);
    std::memcpy(static_cast<void*>(p), x, static_cast<std::size_t>(count) * sizeof(bf16));
  }
  /// 1 in the first `count` lanes, else 0.
  KDLIB_AVX2 static Avx2Pack first(std::int64_t count) {
    Avx2Pack r;
    r.v = _mm256_and_ps(_mm256_castsi256_ps(mask(count)), _mm256_set1_ps(1.0f));
    return r;
  }
  KDLIB_AVX2 double sum() const {
    const __m256d pair =
        _mm256_add_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(v)), _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)));
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(pair), _mm256_extractf128_pd(pair, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
  }
  KDLIB_AVX2 float largest() const {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
  }
  KDLIB_AVX2 bool any_at_least(float bound) const {
    return _mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_set1_ps(bound), _CMP_GE_OQ)) != 0;
  }

#define KDLIB_PACK_BINARY(name, intrinsic)                                \
  KDLIB_AVX2 friend Avx2Pack name(const Avx2Pack& a, const Avx2Pack& b) { \
    Avx2Pack r;                                                           \
    r.v = intrinsic(a.v, b.v);                                            \
    return r;                                                             \
  }
  KDLIB_PACK_BINARY(operator+, _mm256_add_ps)
  KDLIB_PACK_BINARY(operator-, _mm256_sub_ps)
  KDLIB_PACK_BINARY(operator*, _mm256_mul_ps)
  KDLIB_PACK_BINARY(operator/, _mm256_div_ps)
#undef KDLIB_PACK_BINARY
  KDLIB_AVX2 friend Avx2Pack operator-(const Avx2Pack& a) {
    Avx2Pack r;
    r.v = _mm256_xor_ps(a.v, _mm256_set1_ps(-0.0f));
    return r;
  }
  KDLIB_AVX2 static Avx2Pack fma(const Avx2Pack& a, const Avx2Pack& b, const Avx2Pack& c) {
    Avx2Pack r;
    r.v = _mm256_fmadd_ps(a.v, b.v, c.v);
    return r;
  }
  KDLIB_AVX2 static Avx2Pack max(const Avx2Pack& a, const Avx2Pack& b) {  // NaN in b is kept
    Avx2Pack r;
    r.v = _mm256_max_ps(a.v, b.v);
    return r;
  }
  KDLIB_AVX2 static Avx2Pack min(const Avx2Pack& a, const Avx2Pack& b) {
    Avx2Pack r;
    r.v = _mm256_min_ps(a.v, b.v);
    return r;
  }
  KDLIB_AVX2 static Avx2Pack abs(const Avx2Pack& a) {
    Avx2Pack r;
    r.v = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v);
    return r;
  }
  KDLIB_AVX2 static Avx2Pack sqrt(const Avx2Pack& a) {
    Avx2Pack r;
    r.v = _mm256_sqrt_ps(a.v);
    return r;
  }
  KDLIB_AVX2 static Avx2Pack where_not_negative(const Avx2Pack& x, const Avx2Pack& a, const Avx2Pack& b) {
    Avx2Pack r;
    r.v = _mm256_blendv_ps(a.v, b.v, _mm256_cmp_ps(x.v, _mm256_setzero_ps(), _CMP_LT_OQ));
    return r;
  }
  KDLIB_AVX2 static Avx2Pack sign(const Avx2Pack& x) {
    Avx2Pack r;
    const __m256 one = _mm256_set1_ps(1.0f), zero = _mm256_setzero_ps();
    r.v = _mm256_sub_ps(_mm256_and_ps(_mm256_cmp_ps(x.v, zero, _CMP_GT_OQ), one),
                        _mm256_and_ps(_mm256_cmp_ps(x.v, zero, _CMP_LT_OQ), one));
    return r;
  }
  KDLIB_AVX2 static Avx2Pack round(const Avx2Pack& x) {
    Avx2Pack r;
    r.v = _mm256_round_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return r;
  }
  KDLIB_AVX2 static Avx2Pack scale2(const Avx2Pack& p, const Avx2Pack& n) {
    Avx2Pack r;
    const __m256i e =
        _mm256_cvtps_epi32(_mm256_min_ps(_mm256_set1_ps(128.0f), _mm256_max_ps(_mm256_set1_ps(-127.0f), n.v)));
    r.v = _mm256_mul_ps(p.v, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(e, _mm256_set1_epi32(127)), 23)));
    return r;
  }
  KDLIB_AVX2 static Avx2Pack split(const Avx2Pack& y, const Avx2Pack& near_one, Avx2Pack& exponent) {
    const __m256i bits = _mm256_castps_si256(y.v);
    const __m256i e = _mm256_srai_epi32(_mm256_sub_epi32(bits, _mm256_set1_epi32(0x3F3504F3)), 23);
    exponent.v = _mm256_cvtepi32_ps(e);
    Avx2Pack r;
    const __m256 f =
        _mm256_sub_ps(_mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(e, 23))), _mm256_set1_ps(1.0f));
    r.v = _mm256_blendv_ps(f, near_one.v, _mm256_castsi256_ps(_mm256_cmpeq_epi32(e, _mm256_setzero_si256())));
    return r;
  }

 private:
  KDLIB_AVX2 static __m256i mask(std::int64_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  KDLIB_AVX2 __m128i rounded() const {
    const __m256i u = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF))), 16);
    const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(0x40));
    const __m256i all = _mm256_blendv_epi8(up, quiet, _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)));
    return _mm_packus_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
  }
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
