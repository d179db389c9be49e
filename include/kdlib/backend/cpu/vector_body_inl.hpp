// SPDX-License-Identifier: Apache-2.0
// Vector loops, included once for each instruction set (isa_inl.hpp), hence no include guard. Each function works on
// one thread's range; no vector type crosses a function that is not inlined.
#ifdef KDLIB_VECTOR_SPACE
#define KDLIB_LANE KDLIB_VECTOR_TARGET __attribute__((always_inline)) inline
#define KDLIB_LOOP KDLIB_VECTOR_TARGET __attribute__((noinline)) inline

KDLIB_NAMESPACE_BEGIN
namespace detail {
namespace KDLIB_VECTOR_SPACE {

template <class T>
struct Pack {
  typedef T type __attribute__((vector_size(KDLIB_VECTOR_BYTES)));
  typedef T loose __attribute__((vector_size(KDLIB_VECTOR_BYTES), aligned(sizeof(T)), may_alias));
  static constexpr std::int64_t lanes = KDLIB_VECTOR_BYTES / static_cast<std::int64_t>(sizeof(T));
};
template <class T>
using V = typename Pack<T>::type;

template <class T>
KDLIB_LANE V<T> load(const T* p) {
  return *reinterpret_cast<const typename Pack<T>::loose*>(p);
}
template <class T>
KDLIB_LANE void store(T* p, const V<T>& v) {
  *reinterpret_cast<typename Pack<T>::loose*>(p) = v;
}
template <class T>
KDLIB_LANE V<T> splat(T x) {
  return x - V<T>{};  // not 0 + x, which would keep an addition for the sake of -0
}
#if KDLIB_VECTOR_BYTES == 64
KDLIB_LANE V<float> masked_load(const float* p, std::int64_t count) {
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1u), p);
}
KDLIB_LANE void masked_store(float* p, const V<float>& v, std::int64_t count) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << count) - 1u), v);
}
#elif KDLIB_VECTOR_BYTES == 32
KDLIB_LANE __m256i first_lanes(std::int64_t count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
KDLIB_LANE V<float> masked_load(const float* p, std::int64_t count) {
  return _mm256_maskload_ps(p, first_lanes(count));
}
KDLIB_LANE void masked_store(float* p, const V<float>& v, std::int64_t count) {
  _mm256_maskstore_ps(p, first_lanes(count), v);
}
#endif

/// The first `count` elements, the rest 0; 0 <= count <= lanes. Lanes past the end are never read.
template <class T>
KDLIB_LANE V<T> load_part(const T* p, std::int64_t count) {
  if constexpr (std::is_same_v<T, float> && KDLIB_VECTOR_BYTES >= 32) {
    return masked_load(p, count);
  } else {
    V<T> v{};
    __builtin_memcpy(&v, p, static_cast<std::size_t>(count) * sizeof(T));
    return v;
  }
}
template <class T>
KDLIB_LANE void store_part(T* p, const V<T>& v, std::int64_t count) {
  if constexpr (std::is_same_v<T, float> && KDLIB_VECTOR_BYTES >= 32) masked_store(p, v, count);
  else __builtin_memcpy(p, &v, static_cast<std::size_t>(count) * sizeof(T));
}
/// The first `count` lanes of v, the rest 0.
template <class T>
KDLIB_LANE V<T> first_of(const V<T>& v, std::int64_t count) {
  using Int = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  typedef Int I __attribute__((vector_size(KDLIB_VECTOR_BYTES)));
  I lane;
  for (std::int64_t i = 0; i < Pack<T>::lanes; ++i) lane[i] = static_cast<Int>(i);
  return lane < static_cast<Int>(count) - I{} ? v : V<T>{};
}
template <int First, class Vector, int... I>
KDLIB_LANE auto lanes_from(const Vector& v, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(v, v, (First + I)...);
}
/// Sum of the lanes by halves: the same tree for every length of n that is padded with zeros.
template <class T, int Lanes = static_cast<int>(Pack<T>::lanes), class Vector>
KDLIB_LANE T sum(const Vector& v) {
  if constexpr (Lanes == 2) {
    return v[0] + v[1];
  } else {
    using Half = std::make_integer_sequence<int, Lanes / 2>;
    return sum<T, Lanes / 2>(lanes_from<0>(v, Half{}) + lanes_from<Lanes / 2>(v, Half{}));
  }
}
template <class T, int Lanes = static_cast<int>(Pack<T>::lanes), class Vector>
KDLIB_LANE T largest_lane(const Vector& v) {
  if constexpr (Lanes == 2) {
    return v[0] > v[1] ? v[0] : v[1];
  } else {
    using Half = std::make_integer_sequence<int, Lanes / 2>;
    const auto low = lanes_from<0>(v, Half{}), high = lanes_from<Lanes / 2>(v, Half{});
    return largest_lane<T, Lanes / 2>(low > high ? low : high);
  }
}

KDLIB_LANE V<double> exponential(V<double> x) {
  for (std::int64_t i = 0; i < Pack<double>::lanes; ++i) x[i] = std::exp(x[i]);
  return x;
}
/// exp to about 1 ulp: x = n ln2 + r, |r| <= ln2/2, polynomial of degree 6 in r. Below -87.33 it gives 0, above 88.37
/// infinity.
KDLIB_LANE V<float> exponential(V<float> x) {
  typedef std::int32_t I __attribute__((vector_size(KDLIB_VECTOR_BYTES)));
  V<float> y = x < splat(-87.33f) ? splat(-87.33f) : x;
  y = y > splat(88.37f) ? splat(88.37f) : y;
  const V<float> shifted =
      y * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: the low mantissa bits hold the rounded integer
  const V<float> n = shifted - 12582912.0f;
  V<float> r = y - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  V<float> p = splat(1.3888889e-3f);
  p = p * r + 8.3333333e-3f;
  p = p * r + 4.1666667e-2f;
  p = p * r + 1.6666667e-1f;
  p = p * r + 0.5f;
  p = (p * r) * r + (r + 1.0f);
  I bits, exponent;
  __builtin_memcpy(&bits, &p, sizeof bits);
  __builtin_memcpy(&exponent, &shifted, sizeof exponent);
  bits += (exponent - 0x4B400000) << 23;
  V<float> result;
  __builtin_memcpy(&result, &bits, sizeof result);
  result = x < splat(-87.33f) ? splat(0.0f) : result;
  result = x > splat(88.37f) ? splat(std::numeric_limits<float>::infinity()) : result;
  return x != x ? x : result;  // NOLINT(misc-redundant-expression): NaN
}

/// Calls body(offset, count) for whole packs; count < lanes only at the end.
#define KDLIB_FOR_PACKS(T, i, n) for (std::int64_t i = 0; i < (n); i += Pack<T>::lanes)

template <class T>
KDLIB_LANE V<T> take(const T* p, std::int64_t i, std::int64_t n) {
  return n - i >= Pack<T>::lanes ? load(p + i) : load_part(p + i, n - i);
}
template <class T>
KDLIB_LANE void put(T* p, std::int64_t i, std::int64_t n, const V<T>& v) {
  if (n - i >= Pack<T>::lanes) store(p + i, v);
  else store_part(p + i, v, n - i);
}

template <class T>
KDLIB_LANE T dot_lanes(const T* a, const T* b, std::int64_t n) {
  V<T> s0{}, s1{};
  constexpr std::int64_t w = Pack<T>::lanes;
  std::int64_t i = 0;
  for (; i + 2 * w <= n; i += 2 * w) {
    s0 += load(a + i) * load(b + i);
    s1 += load(a + i + w) * load(b + i + w);
  }
  for (; i < n; i += w) s0 += take(a, i, n) * take(b, i, n);
  return sum<T>(s0 + s1);
}

/// Keeps a product from being fused with the sum that follows, where bits are documented: decoded values, the
/// optimiser's step. Elsewhere compilers may fuse. The one of core/math.hpp cannot take vectors of these sizes.
template <class X>
KDLIB_LANE void rounded(X& x) {
#if defined(__x86_64__)
  asm("" : "+x"(x));
#else
  asm("" : "+m"(x));
#endif
}

template <class T>
KDLIB_LOOP void dot(const T* a, const T* b, std::int64_t n, T* out) {
  *out = dot_lanes(a, b, n);
}
/// y += alpha x, the product rounded.
template <class T>
KDLIB_LOOP void axpy(std::int64_t n, T alpha, const T* x, T* y) {
  KDLIB_FOR_PACKS(T, i, n) {
    V<T> product = alpha * take(x, i, n);
    rounded(product);
    put<T>(y, i, n, take(y, i, n) + product);
  }
}
template <class T>
KDLIB_LOOP void scale(std::int64_t n, T alpha, T* x) {
  KDLIB_FOR_PACKS(T, i, n) put<T>(x, i, n, alpha * take(x, i, n));
}
template <class T>
KDLIB_LOOP void add(std::int64_t n, const T* a, const T* b, T* y) {
  KDLIB_FOR_PACKS(T, i, n) put<T>(y, i, n, take(a, i, n) + take(b, i, n));
}
/// Sum of squares of up to some thousand elements.
template <class T>
KDLIB_LOOP void sum_squares(const T* x, std::int64_t n, double* out) {
  *out = static_cast<double>(dot_lanes(x, x, n));
}

template <class T>
KDLIB_LOOP void rms_norm(const T* x, const T* weight, std::int64_t rows, std::int64_t width, double epsilon, T* y,
                         T* inverse_rms) {
  for (std::int64_t r = 0; r < rows; ++r, x += width, y += width) {
    const T mean = dot_lanes(x, x, width) / static_cast<T>(width);
    const T inverse = T{1} / std::sqrt(mean + static_cast<T>(epsilon));
    if (inverse_rms != nullptr) inverse_rms[r] = inverse;
    KDLIB_FOR_PACKS(T, i, width) put<T>(y, i, width, take(x, i, width) * inverse * take(weight, i, width));
  }
}

/// dx = r (g w) - x r^3 / width * sum(g w x); dw += g x r.
template <class T>
KDLIB_LOOP void rms_norm_backward(const T* x, const T* weight, const T* inverse_rms, const T* g, std::int64_t rows,
                                  std::int64_t width, T* dx, bool accumulate, T* dw) {
  for (std::int64_t r = 0; r < rows; ++r, x += width, g += width) {
    const T inverse = inverse_rms[r];
    if (dw != nullptr) {
      KDLIB_FOR_PACKS(T, i, width)
      put<T>(dw, i, width, take(dw, i, width) + take(g, i, width) * take(x, i, width) * inverse);
    }
    if (dx == nullptr) continue;
    V<T> s{};
    KDLIB_FOR_PACKS(T, i, width) s += take(g, i, width) * take(weight, i, width) * take(x, i, width);
    const T factor = sum<T>(s) * inverse * inverse * inverse / static_cast<T>(width);
    KDLIB_FOR_PACKS(T, i, width) {
      V<T> d = take(g, i, width) * take(weight, i, width) * inverse - take(x, i, width) * factor;
      if (accumulate) d += take(dx, i, width);
      put<T>(dx, i, width, d);
    }
    dx += width;
  }
}

/// `half` is a multiple of Lanes.
template <int Lanes, class T>
KDLIB_LANE void rope_heads(T* x, std::int64_t heads, std::int64_t half, const T* cosine, const T* sine, T sign) {
  typedef T N __attribute__((vector_size(Lanes * sizeof(T)), aligned(sizeof(T)), may_alias));
  for (std::int64_t i = 0; i < half; i += Lanes) {
    const N c = *reinterpret_cast<const N*>(cosine + i), s = sign * *reinterpret_cast<const N*>(sine + i);
    for (std::int64_t h = 0; h < heads; ++h) {
      T *low = x + 2 * half * h + i, *high = low + half;
      const N a = *reinterpret_cast<const N*>(low), b = *reinterpret_cast<const N*>(high);
      *reinterpret_cast<N*>(low) = a * c - b * s;
      *reinterpret_cast<N*>(high) = b * c + a * s;
    }
  }
}

/// One row of heads; sign = -1 for the transposed rotation. Halves of less than a whole vector (heads of 8 or 16) get a
/// vector of their size.
template <class T>
KDLIB_LOOP void rope_row(T* x, std::int64_t heads, std::int64_t half, const T* cosine, const T* sine, T sign) {
  constexpr int w = static_cast<int>(Pack<T>::lanes);
  if (half % w == 0) return rope_heads<w>(x, heads, half, cosine, sine, sign);
  if constexpr (w > 4)
    if (half % (w / 2) == 0) return rope_heads<w / 2>(x, heads, half, cosine, sine, sign);
  if constexpr (w > 8)
    if (half % (w / 4) == 0) return rope_heads<w / 4>(x, heads, half, cosine, sine, sign);
  for (std::int64_t h = 0; h < heads; ++h, x += 2 * half) {
    KDLIB_FOR_PACKS(T, i, half) {
      const V<T> a = take(x, i, half), b = take(x + half, i, half), c = take(cosine, i, half),
                 s = sign * take(sine, i, half);
      put<T>(x, i, half, a * c - b * s);
      put<T>(x + half, i, half, b * c + a * s);
    }
  }
}

/// Turns n scores into probabilities of softmax(scale * s) and gives the log-sum-exp of the scaled scores.
template <class T>
KDLIB_LOOP void softmax_row(T* s, std::int64_t n, T factor, T* log_sum) {
  constexpr std::int64_t w = Pack<T>::lanes;
  const std::int64_t whole = n - n % w, rest = n - whole;
  V<T> m = splat(s[0]);
  for (std::int64_t k = 0; k < whole; k += w) {
    const V<T> x = load(s + k);
    m = x > m ? x : m;
  }
  T largest = largest_lane<T>(m);
  for (std::int64_t k = whole; k < n; ++k) largest = s[k] > largest ? s[k] : largest;
  V<T> total{};
  for (std::int64_t i = 0; i < whole; i += w) {
    const V<T> e = exponential((load(s + i) - largest) * factor);
    store<T>(s + i, e);
    total += e;
  }
  T all = sum<T>(total);
  if (rest > 0) {
    const V<T> e = exponential((load_part(s + whole, rest) - largest) * factor);
    store_part<T>(s + whole, e, rest);
    all += sum<T>(first_of<T>(e, rest));
  }
  const T inverse = T{1} / all;
  KDLIB_FOR_PACKS(T, j, n) put<T>(s, j, n, take(s, j, n) * inverse);
  *log_sum = largest * factor + std::log(all);
}
/// s = exp(scale * s - log_sum).
template <class T>
KDLIB_LOOP void softmax_again(T* s, std::int64_t n, T factor, T log_sum) {
  KDLIB_FOR_PACKS(T, i, n) put<T>(s, i, n, exponential(take(s, i, n) * factor - log_sum));
}
/// dp = p * (dp - delta) * scale.
template <class T>
KDLIB_LOOP void softmax_backward(const T* p, std::int64_t n, T delta, T factor, T* dp) {
  KDLIB_FOR_PACKS(T, i, n) put<T>(dp, i, n, take(p, i, n) * (take(dp, i, n) - delta) * factor);
}

template <class T>
KDLIB_LANE V<T> magnitude(const V<T>& x) {
  return x < V<T>{} ? -x : x;
}
/// *out = the largest |x| of n; NaN where one is not finite.
template <class T>
KDLIB_LOOP void largest_magnitude(std::int64_t n, const T* x, T* out) {
  V<T> most{}, unknown{};
  KDLIB_FOR_PACKS(T, i, n) {
    const V<T> v = take(x, i, n), size = magnitude<T>(v);
    most = size > most ? size : most;
    unknown += v - v;  // NOLINT(misc-redundant-expression): NaN
  }
  *out = largest_lane<T>(most) + sum<T>(unknown);
}
/// peaks = max(peaks, factor |x|).
template <class T>
KDLIB_LOOP void raise_peaks(std::int64_t n, const T* x, T factor, T* peaks) {
  KDLIB_FOR_PACKS(T, i, n) {
    const V<T> size = magnitude<T>(take(x, i, n)) * factor, old = take<T>(peaks, i, n);
    put<T>(peaks, i, n, size > old ? size : old);
  }
}

#include "kdlib/backend/cpu/vector_convert_body_inl.hpp"
#include "kdlib/backend/cpu/vector_gate_body_inl.hpp"

#include "kdlib/backend/cpu/vector_coded_body_inl.hpp"
#include "kdlib/backend/cpu/vector_coded_product_body_inl.hpp"
#include "kdlib/backend/cpu/vector_few_rows_body_inl.hpp"
#include "kdlib/backend/cpu/vector_panel_body_inl.hpp"
#include "kdlib/backend/cpu/vector_stored_formats_body_inl.hpp"

#include "kdlib/backend/cpu/vector_stored_body_inl.hpp"  // with those

#include "kdlib/backend/cpu/vector_attention_body_inl.hpp"  // after what it calls

template <class T>
KDLIB_LOOP void adamw(const AdamWStep& step, std::int64_t n, const T* gradient, T* first, T* second, T* value) {
  const T b1 = static_cast<T>(step.beta1), b2 = static_cast<T>(step.beta2),
          scaled = static_cast<T>(step.gradient_scale);
  const T rest1 = static_cast<T>(1.0 - step.beta1),
          rest2 = static_cast<T>(1.0 - step.beta2);  // 1 - float(0.999) is off by 1e-5
  double decay = step.rate * step.weight_decay;
  rounded(decay);
  const T keep = static_cast<T>(1.0 - decay), rate = static_cast<T>(step.rate / step.correction1);
  const T root = static_cast<T>(1.0 / std::sqrt(step.correction2)), epsilon = static_cast<T>(step.epsilon);
  KDLIB_FOR_PACKS(T, i, n) {
    const V<T> g = take(gradient, i, n) * scaled;
    V<T> m = b1 * take(first, i, n), m_new = rest1 * g;
    rounded(m), rounded(m_new);
    m += m_new;
    V<T> v = b2 * take(second, i, n), v_new = rest2 * (g * g);
    rounded(v), rounded(v_new);
    v += v_new;
    V<T> denominator = v;
    for (std::int64_t j = 0; j < Pack<T>::lanes; ++j) denominator[j] = std::sqrt(denominator[j]);
    denominator *= root;
    rounded(denominator);
    V<T> kept = take(value, i, n) * keep;
    rounded(kept);
    put<T>(first, i, n, m);
    put<T>(second, i, n, v);
    put<T>(value, i, n, kept - rate * m / (denominator + epsilon));
  }
}

}  // namespace KDLIB_VECTOR_SPACE
}  // namespace detail
KDLIB_NAMESPACE_END

#undef KDLIB_FOR_PACKS
#undef KDLIB_LANE
#undef KDLIB_LOOP
#endif
