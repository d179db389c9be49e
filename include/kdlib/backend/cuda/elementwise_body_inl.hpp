// SPDX-License-Identifier: Apache-2.0
// Functors of the elementwise kernels: at<W>(i) does W neighbouring elements (each_inl.hpp). Storage is T, arithmetic
// is in C = accumulate_t<T>, each result is rounded once.
#ifndef KDLIB_BACKEND_CUDA_ELEMENTWISE_BODY_INL_HPP
#define KDLIB_BACKEND_CUDA_ELEMENTWISE_BODY_INL_HPP

#include "kdlib/backend/cuda/each_inl.hpp"
#include "kdlib/core/math.hpp"
#include "kdlib/core/normal.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// out[i] = table[ids[row], column].
template <class T>
struct EmbeddingElements {
  const std::int32_t* ids;
  const T* table;
  T* out;
  std::int64_t width;

  template <int W>
  KDLIB_HOST_DEVICE void at(std::int64_t i) const {
    const std::int64_t row = ids[i / width];
    accumulate_t<T> x[W];
    load_pack<W>(table + row * width + i % width, x);
    store_pack<W>(out + i, x);
  }
};

/// A block for each n: the first token of an id adds the rows of all later ones, in order. The others leave.
template <class T>
struct EmbeddingGradient {
  using C = accumulate_t<T>;
  static constexpr int threads = 256;
  const std::int32_t* ids;
  std::int64_t n, width;
  const T* gradient;
  C* table_gradient;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const std::int64_t me = block.block(), size = block.size(), thread = block.thread(), warps = size / warp_threads;
    const std::int32_t id = ids[me];
    std::int32_t earlier = 0;
    for (std::int64_t m = thread; m < me; m += size) earlier |= ids[m] == id ? 1 : 0;
    earlier = reduce_block(block, earlier, 0, [](std::int32_t& a, const std::int32_t& b) { a |= b; });
    if (earlier != 0) return;
    const auto matches = block.template shared<std::uint32_t>(0, warps);
    C* const to = table_gradient + std::int64_t{id} * width;
    for (std::int64_t base = me; base < n; base += size) {
      const std::int64_t m = base + thread;
      const std::uint32_t found = block.ballot(m < n && ids[m] == id);
      if (thread % warp_threads == 0) matches[thread / warp_threads] = found;
      block.barrier();
      for (std::int64_t w = 0; w < warps; ++w)
        for (std::uint32_t bits = matches[w]; bits != 0; bits &= bits - 1) {
          const T* const row = gradient + (base + w * warp_threads + lowest_bit(bits)) * width;
          for (std::int64_t c = thread; c < width; c += size) to[c] += static_cast<C>(row[c]);
        }
      block.barrier();
    }
  }

 private:
  KDLIB_HOST_DEVICE static int lowest_bit(std::uint32_t bits) {
    int at = 0;
    for (; (bits >> at & 1u) == 0; ++at) {
    }
    return at;
  }
};

/// Half-split rotation of the pair (i, i + half) of a head.
template <class T>
struct RopePairs {
  using C = accumulate_t<T>;
  T* x;
  const std::int32_t* positions;
  std::int64_t heads, half;
  const C* cosine;
  const C* sine;
  C sign;  // -1: the inverse rotation

  KDLIB_HOST_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t pair = i % half, head = i / half, p = positions[head / heads];
    const C c = cosine[p * half + pair], s = sign * sine[p * half + pair];
    T* const low = x + head * 2 * half + pair;
    T* const high = low + half;
    const C a = static_cast<C>(*low), b = static_cast<C>(*high);
    *low = T(a * c - b * s);
    *high = T(b * c + a * s);
  }
};

/// sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3). x sigmoid(2 u) is GELU by tanh (Hendrycks and Gimpel, 2016).
/// `inner` is the derivative of 2 u. |x| is taken as at most 30, where the factor is 0 or 1 already; NaN stays.
template <class C>
KDLIB_HOST_DEVICE C gelu_factor(C x, C& inner) {
  constexpr C slope = static_cast<C>(1.5957691216057308), cubic = static_cast<C>(0.044715);
  const C low = x < C(-30) ? C(-30) : x, t = low > C(30) ? C(30) : low, square = t * t;
  inner = slope + (3 * slope * cubic) * square;
  return 1 / (1 + exp(-t * (slope + (slope * cubic) * square)));
}

/// Gates: the activation of `g`, and the same with what its gradient needs: factor * g is the activation, `slope` its
/// derivative.
struct SwigluGate {
  template <class C>
  KDLIB_HOST_DEVICE static C value(C g) {
    return g / (1 + exp(-g));
  }
  template <class C>
  KDLIB_HOST_DEVICE static C factor(C g, C& slope) {
    const C sigmoid = 1 / (1 + exp(-g));
    slope = sigmoid * (1 + g * (1 - sigmoid));
    return sigmoid;
  }
};
struct GegluGate {
  template <class C>
  KDLIB_HOST_DEVICE static C value(C g) {
    C inner;
    return g * gelu_factor(g, inner);
  }
  template <class C>
  KDLIB_HOST_DEVICE static C factor(C g, C& slope) {
    C inner;
    const C s = gelu_factor(g, inner);
    slope = s + g * (s * (1 - s)) * inner;
    return s;
  }
};

/// Gate(gate) * up.
template <class T, class Gate>
struct GateElements {
  using C = accumulate_t<T>;
  const T* gate;
  const T* up;
  T* y;

  template <int W>
  KDLIB_HOST_DEVICE void at(std::int64_t i) const {
    C g[W], u[W];
    load_pack<W>(gate + i, g), load_pack<W>(up + i, u);
    KDLIB_UNROLL
    for (int j = 0; j < W; ++j) u[j] *= Gate::value(g[j]);
    store_pack<W>(y + i, u);
  }
};

/// Either output may be the memory of `gradient`: a thread reads all it needs before it writes.
template <class T, class Gate>
struct GateGradient {
  using C = accumulate_t<T>;
  const T* gate;
  const T* up;
  const T* gradient;
  T* gate_gradient;
  T* up_gradient;

  template <int W>
  KDLIB_HOST_DEVICE void at(std::int64_t i) const {
    C g[W], u[W], d[W];
    load_pack<W>(gate + i, g), load_pack<W>(up + i, u), load_pack<W>(gradient + i, d);
    KDLIB_UNROLL
    for (int j = 0; j < W; ++j) {
      C slope;
      const C factor = Gate::factor(g[j], slope);
      g[j] *= factor * d[j];
      u[j] *= d[j] * slope;
    }
    store_pack<W>(up_gradient + i, g), store_pack<W>(gate_gradient + i, u);
  }
};

template <class T>
struct AddElements {
  const T* a;
  const T* b;
  T* y;

  template <int W>
  KDLIB_HOST_DEVICE void at(std::int64_t i) const {
    accumulate_t<T> p[W], q[W];
    load_pack<W>(a + i, p), load_pack<W>(b + i, q);
    KDLIB_UNROLL
    for (int j = 0; j < W; ++j) p[j] += q[j];
    store_pack<W>(y + i, p);
  }
};

template <class T>
struct NormalElements {
  Rng rng;
  double deviation;
  T* x;

  KDLIB_HOST_DEVICE void operator()(std::int64_t i) const {
    x[i] = static_cast<T>(normal_number(rng, static_cast<std::uint32_t>(i), deviation));
  }
};

/// y = x in another type.
template <class From, class To>
struct ConvertElements {
  const From* x;
  To* y;

  template <int W>
  KDLIB_HOST_DEVICE void at(std::int64_t i) const {
    accumulate_t<From> p[W];
    load_pack<W>(x + i, p);
    store_pack<W>(y + i, p);
  }
};

/// y += alpha x.
template <class T>
struct AxpyElements {
  accumulate_t<T> alpha;
  const T* x;
  T* y;

  template <int W>
  KDLIB_HOST_DEVICE void at(std::int64_t i) const {
    accumulate_t<T> p[W], q[W];
    load_pack<W>(x + i, p), load_pack<W>(y + i, q);
    KDLIB_UNROLL
    for (int j = 0; j < W; ++j) q[j] += alpha * p[j];
    store_pack<W>(y + i, q);
  }
};

template <class T>
struct ScaleElements {
  accumulate_t<T> alpha;
  T* x;

  template <int W>
  KDLIB_HOST_DEVICE void at(std::int64_t i) const {
    accumulate_t<T> p[W];
    load_pack<W>(x + i, p);
    KDLIB_UNROLL
    for (int j = 0; j < W; ++j) p[j] *= alpha;
    store_pack<W>(x + i, p);
  }
};

/// y[row, :] += bias.
template <class T>
struct AddBiasElements {
  const T* bias;
  std::int64_t width;
  T* y;

  template <int W>
  KDLIB_HOST_DEVICE void at(std::int64_t i) const {
    accumulate_t<T> p[W], q[W];
    load_pack<W>(bias + i % width, p), load_pack<W>(y + i, q);
    KDLIB_UNROLL
    for (int j = 0; j < W; ++j) q[j] += p[j];
    store_pack<W>(y + i, q);
  }
};

/// x[row, :] *= factors[row].
template <class T>
struct ScaleRowElements {
  const T* factors;
  std::int64_t width;
  T* x;

  template <int W>
  KDLIB_HOST_DEVICE void at(std::int64_t i) const {
    const auto f = static_cast<accumulate_t<T>>(factors[i / width]);
    accumulate_t<T> p[W];
    load_pack<W>(x + i, p);
    KDLIB_UNROLL
    for (int j = 0; j < W; ++j) p[j] *= f;
    store_pack<W>(x + i, p);
  }
};

/// y[row, :] += sigmoid(gate[row]) x[row, :].
template <class T>
struct AddGatedElements {
  using C = accumulate_t<T>;
  const T* gate;
  const T* x;
  std::int64_t width;
  T* y;

  template <int W>
  KDLIB_HOST_DEVICE void at(std::int64_t i) const {
    const C sigmoid = 1 / (1 + exp(-static_cast<C>(gate[i / width])));
    C p[W], q[W];
    load_pack<W>(x + i, p), load_pack<W>(y + i, q);
    KDLIB_UNROLL
    for (int j = 0; j < W; ++j) q[j] += sigmoid * p[j];
    store_pack<W>(y + i, q);
  }
};

/// AdamW with bias corrections in `rate` and `root` (Loshchilov and Hutter, 2019), as the CPU's loop forms it.
template <class T>
struct AdamWElements {
  using C = accumulate_t<T>;
  C b1, b2, rest1, rest2, scale, keep, rate, root, epsilon;
  const C* gradient;
  C* first;
  C* second;
  T* value;
  const GradientFactor* there;  // nullptr: `scale`

  KDLIB_HOST_DEVICE void operator()(std::int64_t i) const {
    if (there != nullptr && there->finite == 0) return;
    const C g = gradient[i] * (there != nullptr ? static_cast<C>(there->factor) : scale), m = b1 * first[i] + rest1 * g,
            v = b2 * second[i] + rest2 * (g * g);
    first[i] = m, second[i] = v;
    value[i] = T(static_cast<C>(value[i]) * keep - rate * m / (sqrt(v) * root + epsilon));
  }
};

/// One thread: numbers of a few arrays.
struct FormGradientFactor {
  std::int64_t count;
  const double* sums;
  double limit;
  GradientFactor* out;

  KDLIB_HOST_DEVICE void operator()(std::int64_t) const {
    double sum = 0;
    for (std::int64_t i = 0; i < count; ++i) sum += sums[i];
    const double norm = sqrt(sum);
    const double factor = limit > 0 ? limit / (norm + 1e-6) : 1.0;
    *out = {norm, factor < 1 ? factor : 1.0, norm - norm == 0 ? 1 : 0};
  }
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
