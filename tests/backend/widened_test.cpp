// SPDX-License-Identifier: Apache-2.0
// Kernels<Cpu, bf16> against Kernels<Cpu, double> on the same rounded inputs.
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/quant/coded_matrix.hpp"
#include "support/catch.hpp"
#include "support/instances.hpp"
#include "support/numbers.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;

static_assert(Backend<Cpu, bf16> && HasMixedMatmul<Cpu, bf16> && !HasMixedMatmul<Cpu, float>);

namespace {
using K = Kernels<Cpu, bf16>;
using Reference = Kernels<Cpu, double>;
constexpr double rounded_once = 4e-3, in_float = 1e-5;  // ||a - b|| / ||b||

/// n numbers about `mean`: in T and, rounded alike, in double.
template <class T>
struct Values {
  std::vector<T> real;
  std::vector<double> wide;

  Values(std::int64_t n, std::uint64_t seed, double spread = 1, double mean = 0) {
    for (const double x : spread_numbers(n, seed, spread, mean)) real.push_back(static_cast<T>(x));
    wide.assign(real.begin(), real.end());
  }
  T* r() { return real.data(); }
  double* d() { return wide.data(); }
  double error() const { return std::sqrt(normalised_square_error(real.data(), wide.data(), real.size())); }
  void adopt() {
    for (std::size_t i = 0; i < real.size(); ++i) wide[i] = static_cast<double>(real[i]);
  }
  bool same_bytes(const Values& other) const {
    return std::memcmp(real.data(), other.real.data(), real.size() * sizeof(T)) == 0;
  }
};
using Half = Values<bf16>;
using Float = Values<float>;

/// Calls f() with every level of instructions that this CPU has.
template <class F>
void at_every_level(F&& f) {
  const CpuLevel best = cpu_level();
  for (const CpuLevel level : {CpuLevel::portable, CpuLevel::avx2, CpuLevel::avx512}) {
    if (level > best) continue;
    set_cpu_level(level);
    CAPTURE(cpu_level_name(level));
    f();
  }
  set_cpu_level(best);
}
}  // namespace

TEST_CASE("widening is exact and narrowing rounds to the nearest, ties to even", "[backend][bf16]") {
  std::vector<bf16> all, back(1 << 16);
  for (std::uint32_t bits = 0; bits < 1 << 16; ++bits) all.push_back(bf16::from_bits(static_cast<std::uint16_t>(bits)));
  std::vector<float> wide(all.size()), odd;
  for (std::uint32_t u = 1; u < 0xFFFF0000u; u += 65521u * 3)
    for (const std::uint32_t low : {0u, 0x7FFFu, 0x8000u, 0x8001u})
      odd.push_back(detail::bits_float((u & ~0xFFFFu) | low));
  std::vector<bf16> rounded(odd.size());
  at_every_level([&] {
    K::widen(1 << 16, all.data(), wide.data());
    K::narrow(1 << 16, wide.data(), back.data());
    K::narrow(static_cast<std::int64_t>(odd.size()), odd.data(), rounded.data());
    bool exact = true, same = true, right = true;
    for (std::size_t i = 0; i < all.size(); ++i) {
      exact = exact && detail::float_bits(wide[i]) == std::uint32_t{all[i].bits} << 16;
      same = same && (back[i].bits == all[i].bits || std::isnan(wide[i]));
    }
    for (std::size_t i = 0; i < odd.size(); ++i) right = right && rounded[i].bits == bf16(odd[i]).bits;
    CHECK(exact);
    CHECK(same);
    CHECK(right);
  });
}

TEST_CASE("products in bf16 equal those in double, few rows, tiles and all transpositions", "[backend][bf16]") {
  struct Size {
    std::int64_t m, n, k;
  };
  at_every_level([&] {
    for (const Size s :
         {Size{1, 1, 1}, Size{5, 9, 0}, Size{1, 70, 64}, Size{3, 200, 96}, Size{7, 130, 33}, Size{20, 65, 128},
          Size{32, 300, 64}, Size{33, 40, 17}, Size{140, 530, 70}, Size{530, 20, 1600}})
      for (const int flags : {0, 1, 2, 3}) {
        const bool ta = (flags & 1) != 0, tb = (flags & 2) != 0;
        if (s.k > 1000 && (flags != 2 || cpu_level() == CpuLevel::portable)) continue;
        CAPTURE(s.m, s.n, s.k, ta, tb);
        Half a(s.m * s.k, 1), b(s.n * s.k, 2), c(s.m * s.n, 3), again(s.m * s.n, 3);
        Float sums(s.m * s.n, 4), wide_a(s.m * s.k, 5);
        Half from_float(s.m * s.n, 6);
        const std::int64_t lda = ta ? s.m : s.k, ldb = tb ? s.k : s.n;
        K::gemm(ta, tb, s.m, s.n, s.k, 0.5f, a.r(), lda, b.r(), ldb, 1, c.r(), s.n);
        K::gemm(ta, tb, s.m, s.n, s.k, 0.5f, a.r(), lda, b.r(), ldb, 1, again.r(), s.n);
        Reference::gemm(ta, tb, s.m, s.n, s.k, 0.5, a.d(), lda, b.d(), ldb, 1, c.d(), s.n);
        CHECK(c.error() <= rounded_once);
        CHECK(c.same_bytes(again));
        K::gemm(ta, tb, s.m, s.n, s.k, 1, a.r(), lda, b.r(), ldb, 1, sums.r(), s.n);
        Reference::gemm(ta, tb, s.m, s.n, s.k, 1, a.d(), lda, b.d(), ldb, 1, sums.d(), s.n);
        CHECK(sums.error() <= in_float);
        from_float.real.assign(from_float.real.size(), bf16(std::numeric_limits<float>::quiet_NaN()));  // never read
        K::gemm(ta, tb, s.m, s.n, s.k, 1, wide_a.r(), lda, b.r(), ldb, 0, from_float.r(), s.n);
        Reference::gemm(ta, tb, s.m, s.n, s.k, 1, wide_a.d(), lda, b.d(), ldb, 0, from_float.d(), s.n);
        CHECK((s.k == 0 || from_float.error() <= rounded_once));
      }
  });
}

TEST_CASE("elementwise kernels in bf16 equal those in double", "[backend][bf16]") {
  for (const std::int64_t n : {1, 7, 64, 3001}) {
    CAPTURE(n);
    Half a(n, 1), b(n, 2), gate(n, 3, 3), y(n, 4), dg(n, 5), du(n, 6);
    K::add(a.r(), b.r(), n, y.r()), Reference::add(a.d(), b.d(), n, y.d());
    CHECK(y.error() <= rounded_once);
    K::swiglu(gate.r(), b.r(), n, y.r()), Reference::swiglu(gate.d(), b.d(), n, y.d());
    CHECK(y.error() <= rounded_once);
    K::swiglu_backward(gate.r(), b.r(), a.r(), n, dg.r(), du.r());
    Reference::swiglu_backward(gate.d(), b.d(), a.d(), n, dg.d(), du.d());
    CHECK((dg.error() <= rounded_once && du.error() <= rounded_once));
    K::geglu(gate.r(), b.r(), n, y.r()), Reference::geglu(gate.d(), b.d(), n, y.d());
    CHECK(y.error() <= rounded_once);
    K::geglu_backward(gate.r(), b.r(), a.r(), n, dg.r(), du.r());
    Reference::geglu_backward(gate.d(), b.d(), a.d(), n, dg.d(), du.d());
    CHECK((dg.error() <= rounded_once && du.error() <= rounded_once));
    CHECK(std::abs(K::sum_squares(a.r(), n) / Reference::sum_squares(a.d(), n) - 1) <= in_float);
    K::axpy(n, 0.25f, a.r(), b.r()), Reference::axpy(n, 0.25, a.d(), b.d());
    CHECK(b.error() <= rounded_once);
    K::scale(n, -1.5f, a.r()), Reference::scale(n, -1.5, a.d());
    CHECK(a.error() <= rounded_once);
    K::fill_normal(n, 0.02, 7, 3, y.r()), Reference::fill_normal(n, 0.02, 7, 3, y.d());
    CHECK(y.error() <= rounded_once);
    Float g(n, 7), first(n, 8, 0.01), second(n, 9, 0.001, 0.01);
    AdamWStep step{.rate = 0.01, .weight_decay = 0.1};
    y.adopt();
    K::adamw(step, n, g.r(), first.r(), second.r(), y.r());
    Reference::adamw(step, n, g.d(), first.d(), second.d(), y.d());
    CHECK((first.error() <= in_float && second.error() <= in_float && y.error() <= rounded_once));
  }
}

TEST_CASE("rows in bf16: embedding, norms, rotation, sums and scattered rows equal those in double",
          "[backend][bf16]") {
  for (const std::int64_t width : {6, 64, 1030}) {
    CAPTURE(width);
    constexpr std::int64_t n = 9;
    const std::vector<std::int32_t> ids = {3, 0, 3, 4, 1, 3, 0, 2, 2}, positions = {0, 1, 2, 5, 4, 3, 7, 6, 8};
    const std::vector<std::int64_t> places = {8, 0, 3, 5, 1, 2, 7, 6, 4};
    Half table(5 * width, 1), x(n * width, 2), w(width, 3, 0.3, 1), g(n * width, 4), y(n * width, 5), dx(n * width, 6);
    Float sums(5 * width, 7), dw(width, 8), inverse(n, 9);
    K::embedding(ids.data(), n, width, table.r(), y.r());
    Reference::embedding(ids.data(), n, width, table.d(), y.d());
    CHECK(y.error() == 0);
    K::embedding_backward(ids.data(), n, width, g.r(), sums.r());
    Reference::embedding_backward(ids.data(), n, width, g.d(), sums.d());
    CHECK(sums.error() <= in_float);
    K::rms_norm(x.r(), w.r(), n, width, 1e-6, y.r(), inverse.r());
    Reference::rms_norm(x.d(), w.d(), n, width, 1e-6, y.d(), inverse.d());
    CHECK((y.error() <= rounded_once && inverse.error() <= in_float));
    inverse.adopt();
    for (const bool accumulate : {true, false}) {
      K::rms_norm_backward(x.r(), w.r(), inverse.r(), g.r(), n, width, dx.r(), accumulate, dw.r());
      Reference::rms_norm_backward(x.d(), w.d(), inverse.d(), g.d(), n, width, dx.d(), accumulate, dw.d());
      CHECK((dx.error() <= rounded_once && dw.error() <= in_float));
      dx.adopt();
    }
    K::add_column_sums(g.r(), n, width, dw.r()), Reference::add_column_sums(g.d(), n, width, dw.d());
    CHECK(dw.error() <= in_float);
    K::add_bias(w.r(), n, width, x.r()), Reference::add_bias(w.d(), n, width, x.d());
    CHECK(x.error() <= rounded_once);
    x.adopt();
    K::scatter_add_rows(g.r(), places.data(), n, width, x.r());
    Reference::scatter_add_rows(g.d(), places.data(), n, width, x.d());
    CHECK(x.error() <= rounded_once);
    K::gather_rows(g.r(), places.data(), n, width, y.r());
    Reference::gather_rows(g.d(), places.data(), n, width, y.d());
    CHECK(y.error() == 0);
    Float cosine(9 * width / 2, 10), sine(9 * width / 2, 11);
    K::rope(g.r(), positions.data(), n, 1, width, cosine.r(), sine.r(), false);
    Reference::rope(g.d(), positions.data(), n, 1, width, cosine.d(), sine.d(), false);
    CHECK(g.error() <= rounded_once);
  }
}

TEST_CASE("attention in bf16 equals that in double: windows, caps, sinks, gradients and caches", "[backend][bf16]") {
  const std::vector<std::int64_t> offsets = {0, 1, 1, 34, 100};
  const DocumentRanges documents{offsets.data(), 4, 100};
  for (const AttentionHeads h : {AttentionHeads{4, 2, 16, 0, 0.25, 0}, AttentionHeads{2, 1, 12, 17, 0.3, 0},
                                 AttentionHeads{2, 2, 64, 0, 0.125, 5}}) {
    CAPTURE(h.query_heads, h.window, h.softcap);
    const std::int64_t nq = 100 * h.query_heads * h.head_size, nk = 100 * h.kv_heads * h.head_size;
    Half q(nq, 1, 2), k(nk, 2, 2), v(nk, 3), out(nq, 4), g(nq, 5), dq(nq, 6), dk(nk, 7), dv(nk, 8);
    Float sums(100 * h.query_heads, 9), dsinks(h.query_heads, 11);
    Half sinks(h.query_heads, 10);
    K::attention(h, documents, q.r(), k.r(), v.r(), out.r(), sums.r());
    Reference::attention(h, documents, q.d(), k.d(), v.d(), out.d(), sums.d());
    CHECK((out.error() <= rounded_once && sums.error() <= in_float));
    out.adopt(), sums.adopt();
    K::attention_backward(h, documents, q.r(), k.r(), v.r(), out.r(), sums.r(), g.r(), dq.r(), dk.r(), dv.r());
    Reference::attention_backward(h, documents, q.d(), k.d(), v.d(), out.d(), sums.d(), g.d(), dq.d(), dk.d(), dv.d());
    CHECK((dq.error() <= rounded_once && dk.error() <= rounded_once && dv.error() <= rounded_once));
    // The last document again through a cache: 40 tokens, then 5, then 21.
    const std::int64_t qw = h.query_heads * h.head_size, kw = h.kv_heads * h.head_size;
    std::vector<bf16> keys(static_cast<std::size_t>(2 * 66 * kw)), values(keys.size());
    const std::int32_t slot = 1;
    std::int64_t past = 0;
    for (const std::int64_t count : {40, 5, 21}) {
      const std::vector<std::int64_t> piece = {0, count};
      const std::int64_t at = 34 + past;
      K::attention_decode(h, {piece.data(), 1, count}, {keys.data(), values.data(), 66, &slot, &past}, q.r() + at * qw,
                          k.r() + at * kw, v.r() + at * kw, dq.r() + at * qw, nullptr);
      past += count;
    }
    double worst = 0;
    for (std::int64_t i = 34 * qw; i < 100 * qw; ++i)
      worst = std::max(worst, std::abs(static_cast<double>(dq.real[static_cast<std::size_t>(i)]) -
                                       out.wide[static_cast<std::size_t>(i)]));
    CHECK(worst < 0.02);  // two roundings of values up to 2
    K::attention_sinks(100, h.query_heads, h.head_size, sinks.r(), out.r(), sums.r());
    Reference::attention_sinks(100, h.query_heads, h.head_size, sinks.d(), out.d(), sums.d());
    CHECK((out.error() <= rounded_once && sums.error() <= in_float));
    out.adopt(), sums.adopt();
    K::attention_sinks_backward(100, h.query_heads, h.head_size, sinks.r(), out.r(), sums.r(), g.r(), dsinks.r());
    Reference::attention_sinks_backward(100, h.query_heads, h.head_size, sinks.d(), out.d(), sums.d(), g.d(),
                                        dsinks.d());
    CHECK(dsinks.error() <= in_float);
  }
}

TEST_CASE("mixtures of experts in bf16 equal those in double", "[backend][bf16]") {
  constexpr std::int64_t n = 21, e = 5, k = 2, h = 48, inner = 24, rows = n * k;
  for (const bool over_chosen : {true, false}) {
    const RouterRule rule{e, k, over_chosen};
    Half logits(n * e, 1, 2), weights(n * k, 2), dw(n * k, 3), dz(n * e, 4);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(rows)), want(ids.size());
    std::vector<std::int64_t> offsets(e + 1), token(ids.size()), place(ids.size());
    std::vector<double> sums(2 * e + 1), sums_d(sums.size());
    K::route(rule, logits.r(), n, ids.data(), weights.r());
    Reference::route(rule, logits.d(), n, want.data(), weights.d());
    CHECK(ids == want);
    CHECK(weights.error() <= rounded_once);
    weights.adopt();
    K::route_backward(rule, logits.r(), ids.data(), weights.r(), dw.r(), n, dz.r());
    Reference::route_backward(rule, logits.d(), ids.data(), weights.d(), dw.d(), n, dz.d());
    CHECK(dz.error() <= rounded_once);
    K::router_sums(rule, logits.r(), ids.data(), n, sums.data());
    Reference::router_sums(rule, logits.d(), ids.data(), n, sums_d.data());
    CHECK(std::abs(sums.back() / sums_d.back() - 1) < in_float);
    K::router_sums_backward(rule, logits.r(), n, sums.data() + e, 1, 0.1, dz.r());
    Reference::router_sums_backward(rule, logits.d(), n, sums.data() + e, 1, 0.1, dz.d());
    CHECK(dz.error() <= 2 * rounded_once);  // the sum of two rounded gradients
    K::group_by_expert(rule, ids.data(), n, offsets.data(), token.data(), place.data());
    const ExpertRanges ranges{offsets.data(), e, rows};
    Half x(rows * h, 5), w(e * 2 * inner * h, 6), bias(e * 2 * inner, 7), u(rows * 2 * inner, 8), a(rows * inner, 9),
        du(rows * 2 * inner, 10), dx(rows * h, 11), y(n * h, 12), dots(rows, 13);
    Float dweight(e * 2 * inner * h, 14), dbias(e * 2 * inner, 15);
    K::expert_multiply(ranges, 2 * inner, h, x.r(), w.r(), bias.r(), u.r());
    Reference::expert_multiply(ranges, 2 * inner, h, x.d(), w.d(), bias.d(), u.d());
    CHECK(u.error() <= rounded_once);
    u.adopt();
    for (const ExpertActivation act : {ExpertActivation{}, ExpertActivation{true, 1.702, 2.0}}) {
      K::expert_activation(act, u.r(), rows, inner, a.r()),
          Reference::expert_activation(act, u.d(), rows, inner, a.d());
      CHECK(a.error() <= rounded_once);
      a.adopt();
      K::expert_activation_backward(act, u.r(), a.r(), rows, inner, du.r());
      Reference::expert_activation_backward(act, u.d(), a.d(), rows, inner, du.d());
      CHECK(du.error() <= rounded_once);
      du.adopt();
    }
    K::expert_multiply_back(ranges, 2 * inner, h, du.r(), w.r(), dx.r());
    Reference::expert_multiply_back(ranges, 2 * inner, h, du.d(), w.d(), dx.d());
    CHECK(dx.error() <= rounded_once);
    K::expert_weight_gradient(ranges, 2 * inner, h, du.r(), x.r(), dweight.r());
    Reference::expert_weight_gradient(ranges, 2 * inner, h, du.d(), x.d(), dweight.d());
    K::expert_bias_gradient(ranges, 2 * inner, du.r(), dbias.r());
    Reference::expert_bias_gradient(ranges, 2 * inner, du.d(), dbias.d());
    CHECK((dweight.error() <= in_float && dbias.error() <= in_float));
    K::combine_rows(x.r(), place.data(), weights.r(), n, k, h, y.r());
    Reference::combine_rows(x.d(), place.data(), weights.d(), n, k, h, y.d());
    CHECK(y.error() <= rounded_once);
    K::expert_row_dots(ranges, h, x.r(), x.r(), false, false, dots.r());
    Reference::expert_row_dots(ranges, h, x.d(), x.d(), false, false, dots.d());
    CHECK(dots.error() <= rounded_once);
  }
}

TEST_CASE("gated rows in bf16 equal those in double", "[backend][bf16]") {
  constexpr std::int64_t n = 21, h = 48;
  Half y(n * h, 12);
  Half gate(n, 16, 2), dgate(n, 17), dy(n * h, 18), dshared(n * h, 19), shared(n * h, 20);
  K::add_gated(gate.r(), shared.r(), n, h, y.r()), Reference::add_gated(gate.d(), shared.d(), n, h, y.d());
  CHECK(y.error() <= rounded_once);
  K::add_gated_backward(gate.r(), shared.r(), dy.r(), n, h, dgate.r(), dshared.r());
  Reference::add_gated_backward(gate.d(), shared.d(), dy.d(), n, h, dgate.d(), dshared.d());
  CHECK((dgate.error() <= rounded_once && dshared.error() <= rounded_once));
  K::scale_each_row(gate.r(), n, h, dy.r()), Reference::scale_each_row(gate.d(), n, h, dy.d());
  CHECK(dy.error() <= rounded_once);
}

TEST_CASE("codes and files under a model in bf16 give the float product, rounded once", "[backend][bf16]") {
  constexpr std::int64_t out = 40, in = 96;
  const Float w(out * in, 1);
  const CodedData data = encode_weights(w.real.data(), out, in, {.kind = PackedKind::int4, .group_size = 32});
  const CodedMatrix<bf16, Cpu> half(data);
  const CodedMatrix<float, Cpu> full(data);
  const Tensor<bf16, Cpu> decoded = half.decode_all();
  const Tensor<float, Cpu> exact = full.decode_all();
  bool equal = true;
  for (std::int64_t i = 0; i < out * in; ++i) equal = equal && decoded.data()[i].bits == bf16(exact.data()[i]).bits;
  CHECK(equal);
  for (const std::int64_t m : {1, 6, 24}) {
    Half x(m * in, 2), y(m * out, 3);
    Float wide(m * in, 2), sums(m * out, 3);
    K::widen(m * in, x.r(), wide.r());
    half.multiply(0, out, m, x.r(), 0, y.r(), out);
    full.multiply(0, out, m, wide.r(), 0, sums.r(), out);
    for (std::size_t i = 0; i < y.wide.size(); ++i) y.wide[i] = static_cast<double>(sums.real[i]);
    CHECK(y.error() <= rounded_once);
    Half dx(m * in, 4);
    Float dwide(m * in, 4), dsums(m * out, 5);
    K::widen(m * out, y.r(), dsums.r());
    half.multiply_back(0, out, m, y.r(), out, 0, dx.r());
    full.multiply_back(0, out, m, dsums.r(), out, 0, dwide.r());
    for (std::size_t i = 0; i < dx.wide.size(); ++i) dx.wide[i] = static_cast<double>(dwide.real[i]);
    CHECK(dx.error() <= 2 * rounded_once);  // the decoded weight is rounded, too
  }
}
