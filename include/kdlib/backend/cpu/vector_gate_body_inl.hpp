// SPDX-License-Identifier: Apache-2.0
// Activations of gated feed-forward parts, and soft caps. Part of vector_body_inl.hpp, included once for each
// instruction set, hence no include guard.
#ifdef KDLIB_VECTOR_SPACE

template <class T>
KDLIB_LOOP void swiglu(const T* gate, const T* up, std::int64_t n, T* y) {
  KDLIB_FOR_PACKS(T, i, n) {
    const V<T> g = take(gate, i, n);
    put<T>(y, i, n, g / (T{1} + exponential(-g)) * take(up, i, n));
  }
}
template <class T>
KDLIB_LOOP void swiglu_backward(const T* gate, const T* up, const T* gradient, std::int64_t n, T* dgate, T* dup) {
  KDLIB_FOR_PACKS(T, i, n) {
    const V<T> g = take(gate, i, n), u = take(up, i, n), d = take(gradient, i, n);
    const V<T> sigmoid = T{1} / (T{1} + exponential(-g));
    put<T>(dup, i, n, d * (g * sigmoid));
    put<T>(dgate, i, n, d * u * (sigmoid * (T{1} + g * (T{1} - sigmoid))));
  }
}

/// sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3). x sigmoid(2 u) = x (1 + tanh u) / 2 is GELU by tanh (Hendrycks and
/// Gimpel, 2016). `inner` is the derivative of 2 u. |x| is taken as at most 30, where the factor is 0 or 1 already.
template <class T>
KDLIB_LANE V<T> gelu_factor(const V<T>& x, V<T>& inner) {
  V<T> t = x < splat(T{-30}) ? splat(T{-30}) : x;
  t = t > splat(T{30}) ? splat(T{30}) : t;
  const V<T> square = t * t;
  constexpr T slope = static_cast<T>(1.5957691216057308), cubic = static_cast<T>(0.044715);
  inner = slope + (T{3} * slope * cubic) * square;
  return T{1} / (T{1} + exponential(-t * (slope + (slope * cubic) * square)));
}
/// y = gelu(gate) * up.
template <class T>
KDLIB_LOOP void geglu(const T* gate, const T* up, std::int64_t n, T* y) {
  KDLIB_FOR_PACKS(T, i, n) {
    V<T> inner;
    const V<T> g = take(gate, i, n);
    put<T>(y, i, n, g * gelu_factor<T>(g, inner) * take(up, i, n));
  }
}
template <class T>
KDLIB_LOOP void geglu_backward(const T* gate, const T* up, const T* gradient, std::int64_t n, T* dgate, T* dup) {
  KDLIB_FOR_PACKS(T, i, n) {
    V<T> inner;
    const V<T> g = take(gate, i, n), u = take(up, i, n), d = take(gradient, i, n);
    const V<T> factor = gelu_factor<T>(g, inner);
    put<T>(dup, i, n, d * (g * factor));
    put<T>(dgate, i, n, d * u * (factor + g * (factor * (T{1} - factor)) * inner));
  }
}

KDLIB_LANE V<double> hyperbolic_tangent(V<double> x) {
  for (std::int64_t i = 0; i < Pack<double>::lanes; ++i) x[i] = std::tanh(x[i]);
  return x;
}
/// tanh to about 2 ulp: x + x^3 P(x^2) for |x| < 0.625, P fitted so that the relative error is at most 5e-9 before
/// rounding; else 1 - 2 / (e^(2|x|) + 1) with the sign of x.
KDLIB_LANE V<float> hyperbolic_tangent(V<float> x) {
  const V<float> size = x < V<float>{} ? -x : x, square = x * x;
  V<float> p = splat(-5.704987040e-3f);
  p = p * square + 2.063908727e-2f;
  p = p * square + -5.373971508e-2f;
  p = p * square + 1.333144220e-1f;
  p = p * square + -3.333328194e-1f;
  const V<float> small = x + x * square * p;
  const V<float> large = 1.0f - 2.0f / (exponential(size + size) + 1.0f);
  return size < splat(0.625f) ? small : (x < V<float>{} ? -large : large);
}
/// y = cap tanh(inner x); y may be x.
template <class T>
KDLIB_LOOP void softcap(const T* x, std::int64_t n, T inner, T cap, T* y) {
  KDLIB_FOR_PACKS(T, i, n) put<T>(y, i, n, cap * hyperbolic_tangent(take(x, i, n) * inner));
}
/// gradient *= factor (1 - (y / cap)^2), y as softcap() gave them; inverse = 1 / cap.
template <class T>
KDLIB_LOOP void softcap_backward(const T* y, std::int64_t n, T inverse, T factor, T* gradient) {
  KDLIB_FOR_PACKS(T, i, n) {
    const V<T> t = take(y, i, n) * inverse;
    put<T>(gradient, i, n, take(gradient, i, n) * (factor * (T{1} - t * t)));
  }
}
#endif
