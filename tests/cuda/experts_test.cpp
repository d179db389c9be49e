// SPDX-License-Identifier: Apache-2.0
// Kernels of mixtures of experts of the CUDA backend against Kernels<Cpu, double> on the same rounded inputs.
#include "cuda/kernel_cases.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {
using Reference = Kernels<Cpu, double>;

template <class I>
std::vector<I> host_of(const Buffer<I, Cuda>& b) {
  std::vector<I> out(static_cast<std::size_t>(b.count()));
  Memory<Cuda>::to_host(out.data(), b.data(), out.size() * sizeof(I));
  return out;
}

/// Rows of 5 experts, of which one has none and one more than a tile.
const std::vector<std::int64_t> expert_offsets = {0, 3, 3, 40, 41, 50};
}  // namespace

TEMPLATE_TEST_CASE("routing on CUDA chooses and weights as the CPU does, ties and NaN included", "[cuda]", float,
                   bf16) {
  KDLIB_NEEDS_DEVICE();
  using T = TestType;
  using K = Kernels<Cuda, T>;
  for (const RouterRule& rule :
       {RouterRule{4, 2, true}, RouterRule{40, 5, false}, RouterRule{40, 8, true}, RouterRule{3, 3, false}})
    for (const std::int64_t n : {0, 1, 77}) {
      CAPTURE(rule.experts, rule.active, n);
      Array<T> logits(n * rule.experts, 1, 2), weights(n * rule.active, 2), again(n * rule.active, 3),
          dw(n * rule.active, 4), dz(n * rule.experts, 5);
      if (n > 1) {
        logits.set(0, logits.wide()[1]), logits.set(2, logits.wide()[1]);
        logits.set(rule.experts + 1, std::numeric_limits<double>::quiet_NaN());
      }
      const Buffer<std::int32_t, Cuda> ids(n * rule.active);
      std::vector<std::int32_t> want(static_cast<std::size_t>(n * rule.active));
      check_repeats([&] { K::route(rule, logits.device(), n, ids.data(), weights.device()); }, weights);
      Reference::route(rule, logits.wide(), n, want.data(), weights.wide());
      CHECK(host_of(ids) == want);
      K::route_again(rule, logits.device(), n, ids.data(), again.device());
      CHECK((again.host().size() == weights.host().size()));
      const auto a = again.host(), b = weights.host();
      CHECK(std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
      if (n > 1) {  // row 1 has a NaN, and its weights where the sum is over all logits
        for (std::int64_t i = 0; i < rule.experts; ++i) logits.set(rule.experts + i, 0.25 * static_cast<double>(i));
        K::route(rule, logits.device(), n, ids.data(), weights.device());
        Reference::route(rule, logits.wide(), n, want.data(), weights.wide());
        CHECK(host_of(ids) == want);
      }
      CHECK(weights.error() <= kernel_tolerance<T>);
      weights.adopt();
      check_repeats(
          [&] { K::route_backward(rule, logits.device(), ids.data(), weights.device(), dw.device(), n, dz.device()); },
          dz);
      Reference::route_backward(rule, logits.wide(), want.data(), weights.wide(), dw.wide(), n, dz.wide());
      CHECK(dz.error() <= kernel_tolerance<T>);
    }
}

TEMPLATE_TEST_CASE("the router's sums and their gradient on CUDA equal the CPU's", "[cuda]", float, bf16) {
  KDLIB_NEEDS_DEVICE();
  using T = TestType;
  using K = Kernels<Cuda, T>;
  const RouterRule rule{10, 3, true};
  for (const std::int64_t n : {0, 1, 150}) {
    Array<T> logits(n * 10, 1, 2), gradient(n * 10, 2);
    std::vector<std::int32_t> chosen;
    for (std::int64_t i = 0; i < 3 * n; ++i) chosen.push_back(static_cast<std::int32_t>(i * i % 10));
    const Indices<std::int32_t> ids(chosen);
    const Buffer<double, Cuda> sums(2 * 21), totals(21);  // two layers that saw the same
    for (const std::int64_t layer : {0, 1})
      K::router_sums(rule, logits.device(), ids.device(), n, sums.data() + layer * 21);
    K::router_totals(2, 21, sums.data(), totals.data());
    std::vector<double> want(21), want_totals(21);
    Reference::router_sums(rule, logits.wide(), ids.host(), n, want.data());
    Reference::router_totals(1, 21, want.data(), want_totals.data());
    CHECK(want_totals == want);
    const std::vector<double> got = host_of(sums), both = host_of(totals);
    for (std::size_t i = 0; i < 21; ++i) {
      CHECK(got[i] == Approx(want[i]).epsilon(1e-6));
      CHECK(got[21 + i] == got[i]);
      CHECK(both[i] == 2 * got[i]);
      if (i < 10) CHECK(got[i] == want[i]);  // counts
    }
    check_repeats(
        [&] { K::router_sums_backward(rule, logits.device(), n, totals.data(), 0.01, 1e-3, gradient.device()); },
        gradient);
    Reference::router_sums_backward(rule, logits.wide(), n, both.data(), 0.01, 1e-3, gradient.wide());
    CHECK(gradient.error() <= kernel_tolerance<T>);
  }
}

TEST_CASE("choices that a record knows replace the router's on CUDA as on the CPU", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  const Indices<std::int32_t> given(std::vector<std::int32_t>{3, -1, 0, -1, 5});
  std::vector<std::int32_t> want = {7, 8, 9, 1, 2};
  const Indices<std::int32_t> there(want);
  const Buffer<std::int32_t, Cuda> ids(5);
  Memory<Cuda>::copy(ids.data(), there.device(), 5 * sizeof(std::int32_t));
  Kernels<Cuda, float>::take_known(given.device(), 5, ids.data());
  Reference::take_known(given.host(), 5, want.data());
  CHECK(want == std::vector<std::int32_t>{3, 8, 0, 1, 5});
  CHECK(host_of(ids) == want);
}

TEST_CASE("choices grouped by expert on CUDA are those of the CPU, over several chunks", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  for (const std::int64_t n : {0, 1, 700}) {
    const RouterRule rule{6, 2, true};
    std::vector<std::int32_t> chosen;
    for (std::int64_t i = 0; i < 2 * n; ++i) chosen.push_back(static_cast<std::int32_t>(i * i % 11 % 5));  // never 5
    const Indices<std::int32_t> ids(chosen);
    const Buffer<std::int64_t, Cuda> offsets(7), token(2 * n), place(2 * n);
    std::vector<std::int64_t> o(7), t(static_cast<std::size_t>(2 * n)), p(t.size());
    Kernels<Cuda, float>::group_by_expert(rule, ids.device(), n, offsets.data(), token.data(), place.data());
    Reference::group_by_expert(rule, ids.host(), n, o.data(), t.data(), p.data());
    CHECK(host_of(offsets) == o);
    CHECK(host_of(token) == t);
    CHECK(host_of(place) == p);
  }
}

TEMPLATE_TEST_CASE("products grouped by expert on CUDA equal the CPU's, forwards, backwards and for weights", "[cuda]",
                   float, bf16) {
  KDLIB_NEEDS_DEVICE();
  using T = TestType;
  using K = Kernels<Cuda, T>;
  const Indices<std::int64_t> offsets(expert_offsets);
  constexpr std::int64_t experts = 5, rows = 50;
  const ExpertRanges device{offsets.device(), experts, rows}, host{offsets.host(), experts, rows};
  for (const auto& [out, in] : {std::pair<std::int64_t, std::int64_t>{7, 5}, {33, 70}}) {
    CAPTURE(out, in);
    Array<T> x(rows * in, 1), w(experts * out * in, 2), bias(experts * out, 3), y(rows * out, 4), plain(rows * out, 5),
        g(rows * out, 6), dx(rows * in, 7);
    Array<accumulate_t<T>> dw(experts * out * in, 8), db(experts * out, 9);
    check_repeats(
        [&] {
          K::expert_multiply(device, out, in, x.device(), w.device(), bias.device(), y.device());
          K::expert_multiply(device, out, in, x.device(), w.device(), nullptr, plain.device());
          K::expert_multiply_back(device, out, in, g.device(), w.device(), dx.device());
          K::expert_weight_gradient(device, out, in, g.device(), x.device(), dw.device());
          K::expert_bias_gradient(device, out, g.device(), db.device());
        },
        y, plain, dx, dw, db);
    Reference::expert_multiply(host, out, in, x.wide(), w.wide(), bias.wide(), y.wide());
    Reference::expert_multiply(host, out, in, x.wide(), w.wide(), nullptr, plain.wide());
    Reference::expert_multiply_back(host, out, in, g.wide(), w.wide(), dx.wide());
    Reference::expert_weight_gradient(host, out, in, g.wide(), x.wide(), dw.wide());
    Reference::expert_bias_gradient(host, out, g.wide(), db.wide());
    CHECK(y.error() <= kernel_tolerance<T>);
    CHECK(plain.error() <= kernel_tolerance<T>);
    CHECK(dx.error() <= kernel_tolerance<T>);
    CHECK(dw.error() <= kernel_tolerance<float>);
    CHECK(db.error() <= kernel_tolerance<float>);
  }
}

TEMPLATE_TEST_CASE("activations, combination and row products of experts on CUDA equal the CPU's", "[cuda]", float,
                   bf16) {
  KDLIB_NEEDS_DEVICE();
  using T = TestType;
  using K = Kernels<Cuda, T>;
  for (const ExpertActivation& activation : {ExpertActivation{}, ExpertActivation{true, 1.7, 2}})
    for (const std::int64_t rows : {0, 9}) {
      constexpr std::int64_t inner = 11;
      Array<T> u(rows * 2 * inner, 1, 2), y(rows * inner, 2), g(rows * inner, 3), du(rows * 2 * inner, 4);
      K::expert_activation(activation, u.device(), rows, inner, y.device());
      Reference::expert_activation(activation, u.wide(), rows, inner, y.wide());
      CHECK(y.error() <= kernel_tolerance<T>);
      K::expert_activation_backward(activation, u.device(), g.device(), rows, inner, du.device());
      Reference::expert_activation_backward(activation, u.wide(), g.wide(), rows, inner, du.wide());
      CHECK(du.error() <= kernel_tolerance<T>);
    }
  const Indices<std::int64_t> offsets(expert_offsets);
  const ExpertRanges device{offsets.device(), 5, 50}, host{offsets.host(), 5, 50};
  for (const std::int64_t width : {13, 32}) {
    std::vector<std::int64_t> list;
    for (std::int64_t i = 0; i < 50; ++i) list.push_back(i * 7 % 50);
    const Indices<std::int64_t> place(list);
    Array<T> rows(50 * width, 1), weights(50, 2), y(25 * width, 3), other(50 * width, 4), each(5 * width, 5),
        dots(50, 6);
    check_repeats([&] { K::combine_rows(rows.device(), place.device(), weights.device(), 25, 2, width, y.device()); },
                  y);
    Reference::combine_rows(rows.wide(), place.host(), weights.wide(), 25, 2, width, y.wide());
    CHECK(y.error() <= kernel_tolerance<T>);
    y.adopt();
    K::combine_rows(rows.device(), place.device(), nullptr, 25, 2, width, y.device());
    Reference::combine_rows(rows.wide(), place.host(), nullptr, 25, 2, width, y.wide());
    CHECK(y.error() <= kernel_tolerance<T>);
    for (const bool by_expert : {false, true}) {
      Array<T>& b = by_expert ? each : other;
      K::expert_row_dots(device, width, rows.device(), b.device(), by_expert, by_expert, dots.device());
      Reference::expert_row_dots(host, width, rows.wide(), b.wide(), by_expert, by_expert, dots.wide());
      CHECK(dots.error() <= kernel_tolerance<T>);
      dots.adopt();
    }
  }
}
