// SPDX-License-Identifier: Apache-2.0
// Attention of the CUDA backend against Kernels<Cpu, double> on the same rounded inputs.
#include "cuda/kernel_cases.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {
using Reference = Kernels<Cpu, double>;

/// Documents of these lengths, an empty one among them; heads in groups or not; a window or none.
struct Layout {
  std::vector<std::int64_t> lengths;
  AttentionHeads heads;

  std::vector<std::int64_t> offsets() const {
    std::vector<std::int64_t> out = {0};
    for (const std::int64_t n : lengths) out.push_back(out.back() + n);
    return out;
  }
  std::int64_t tokens() const { return offsets().back(); }
};
AttentionHeads heads_of(std::int64_t query, std::int64_t kv, std::int64_t d, std::int64_t window = 0,
                        double softcap = 0) {
  return {.query_heads = query,
          .kv_heads = kv,
          .head_size = d,
          .window = window,
          .scale = 1 / std::sqrt(double(d)),
          .softcap = softcap};
}
std::vector<Layout> layouts() {
  return {{{5}, heads_of(1, 1, 6)},          {{1, 0, 33, 20}, heads_of(4, 2, 16)},
          {{70}, heads_of(2, 1, 12, 17)},    {{3, 37}, heads_of(2, 1, 10, 9, 1.5)},  // scores that the cap bends
          {{40, 3}, heads_of(2, 2, 72, 33)}, {{34}, heads_of(1, 1, 130)}};
}

DocumentRanges ranges(const Indices<std::int64_t>& offsets, bool device, const Layout& l) {
  return {device ? offsets.device() : offsets.host(), static_cast<std::int64_t>(l.lengths.size()), l.tokens()};
}

}  // namespace

TEMPLATE_TEST_CASE("attention and its gradients on CUDA equal the CPU's", "[cuda]", float, bf16) {
  KDLIB_NEEDS_DEVICE();
  using T = TestType;
  using C = accumulate_t<T>;
  for (const Layout& l : layouts()) {
    const AttentionHeads& h = l.heads;
    CAPTURE(h.query_heads, h.head_size, h.window, l.tokens());
    const Indices<std::int64_t> offsets(l.offsets());
    const DocumentRanges device = ranges(offsets, true, l), host = ranges(offsets, false, l);
    const std::int64_t n = l.tokens(), nq = n * h.query_heads * h.head_size, nk = n * h.kv_heads * h.head_size;
    Array<T> q(nq, 1, 2), k(nk, 2, 2), v(nk, 3), out(nq, 4), g(nq, 5), dq(nq, 6), dk(nk, 7), dv(nk, 8);
    Array<C> log_sum(n * h.query_heads, 9);
    check_repeats(
        [&] {
          Kernels<Cuda, T>::attention(h, device, q.device(), k.device(), v.device(), out.device(), log_sum.device());
        },
        out, log_sum);
    Reference::attention(h, host, q.wide(), k.wide(), v.wide(), out.wide(), log_sum.wide());
    CHECK(out.error() <= kernel_tolerance<T>);
    CHECK(log_sum.error() <= kernel_tolerance<float>);
    out.adopt(), log_sum.adopt();
    check_repeats(
        [&] {
          Kernels<Cuda, T>::attention_backward(h, device, q.device(), k.device(), v.device(), out.device(),
                                               log_sum.device(), g.device(), dq.device(), dk.device(), dv.device());
        },
        dq, dk, dv);
    Reference::attention_backward(h, host, q.wide(), k.wide(), v.wide(), out.wide(), log_sum.wide(), g.wide(),
                                  dq.wide(), dk.wide(), dv.wide());
    CHECK(dq.error() <= kernel_tolerance<T>);
    CHECK(dk.error() <= kernel_tolerance<T>);
    CHECK(dv.error() <= kernel_tolerance<T>);
  }
}

TEMPLATE_TEST_CASE("attention on CUDA without a log-sum, and of no tokens", "[cuda]", float, bf16) {
  KDLIB_NEEDS_DEVICE();
  using T = TestType;
  const Layout l{{7}, heads_of(2, 1, 8)};
  const Indices<std::int64_t> offsets(l.offsets());
  Array<T> q(7 * 16, 1), k(7 * 8, 2), v(7 * 8, 3), out(7 * 16, 4);
  Kernels<Cuda, T>::attention(l.heads, ranges(offsets, true, l), q.device(), k.device(), v.device(), out.device(),
                              nullptr);
  Reference::attention(l.heads, ranges(offsets, false, l), q.wide(), k.wide(), v.wide(), out.wide(), nullptr);
  CHECK(out.error() <= kernel_tolerance<T>);
  Kernels<Cuda, T>::attention(l.heads, {nullptr, 0, 0}, nullptr, nullptr, nullptr, nullptr, nullptr);
  cuda_synchronize();
}

TEMPLATE_TEST_CASE("decoding on CUDA equals the CPU's: one token a document, several, and a long prompt", "[cuda]",
                   float, bf16) {
  KDLIB_NEEDS_DEVICE();
  using T = TestType;
  using C = accumulate_t<T>;
  struct Case {
    std::vector<std::int64_t> lengths, past;
    std::int64_t capacity, window;
    double softcap = 0;
  };
  for (const Case& c : {Case{{1, 1, 1}, {0, 5, 300}, 310, 0}, Case{{1, 1}, {290, 17}, 310, 40, 1.5},
                        Case{{2, 0, 3}, {9, 4, 0}, 20, 0}, Case{{40, 3}, {7, 20}, 50, 11, 1.5}}) {
    const AttentionHeads h = heads_of(4, 2, 10, c.window, c.softcap);
    const Layout l{c.lengths, h};
    const std::int64_t n = l.tokens(), nq = n * 40, nk = n * 20, documents = static_cast<std::int64_t>(c.past.size());
    const std::int64_t slots_there = documents + 1;
    CAPTURE(n, c.capacity, c.window);
    const Indices<std::int64_t> offsets(l.offsets()), past(c.past);
    std::vector<std::int32_t> order;
    for (std::int64_t d = 0; d < documents; ++d) order.push_back(static_cast<std::int32_t>(documents - d));
    const Indices<std::int32_t> slots(order);
    Array<T> q(nq, 1, 2), k(nk, 2, 2), v(nk, 3), out(nq, 4), keys(slots_there * c.capacity * 20, 5, 2),
        values(slots_there * c.capacity * 20, 6);
    Array<C> log_sum(n * 4, 7);
    check_repeats(
        [&] {
          Kernels<Cuda, T>::attention_decode(
              h, ranges(offsets, true, l), {keys.device(), values.device(), c.capacity, slots.device(), past.device()},
              q.device(), k.device(), v.device(), out.device(), log_sum.device());
        },
        out, log_sum, keys, values);
    Reference::attention_decode(h, ranges(offsets, false, l),
                                {keys.wide(), values.wide(), c.capacity, slots.host(), past.host()}, q.wide(), k.wide(),
                                v.wide(), out.wide(), log_sum.wide());
    CHECK(out.error() <= kernel_tolerance<T>);
    CHECK(log_sum.error() <= kernel_tolerance<float>);
    CHECK(keys.error() == 0);
    CHECK(values.error() == 0);
  }
}

TEMPLATE_TEST_CASE("attention sinks and their gradient on CUDA equal the CPU's", "[cuda]", float, bf16) {
  KDLIB_NEEDS_DEVICE();
  using T = TestType;
  using C = accumulate_t<T>;
  for (const std::int64_t tokens : {0, 1, 300}) {
    constexpr std::int64_t heads = 3, d = 10;
    Array<T> sinks(heads, 1), out(tokens * heads * d, 2), g(tokens * heads * d, 3);
    Array<C> log_sum(tokens * heads, 4, 1, 2), gradient(heads, 5);
    check_repeats(
        [&] { Kernels<Cuda, T>::attention_sinks(tokens, heads, d, sinks.device(), out.device(), log_sum.device()); },
        out, log_sum);
    Reference::attention_sinks(tokens, heads, d, sinks.wide(), out.wide(), log_sum.wide());
    CHECK(out.error() <= kernel_tolerance<T>);
    CHECK(log_sum.error() <= kernel_tolerance<float>);
    check_repeats(
        [&] {
          Kernels<Cuda, T>::attention_sinks_backward(tokens, heads, d, sinks.device(), out.device(), log_sum.device(),
                                                     g.device(), gradient.device());
        },
        gradient);
    Reference::attention_sinks_backward(tokens, heads, d, sinks.wide(), out.wide(), log_sum.wide(), g.wide(),
                                        gradient.wide());
    CHECK(gradient.error() <= kernel_tolerance<T>);
  }
}

TEST_CASE("NaN in a key is visible in the queries that see it, and in no other", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  const Layout l{{6, 40}, heads_of(1, 1, 8)};
  const Indices<std::int64_t> offsets(l.offsets());
  const std::int64_t n = l.tokens();
  Array<float> q(n * 8, 1), k(n * 8, 2), v(n * 8, 3), out(n * 8, 4), log_sum(n, 5);
  k.set((6 + 10) * 8 + 3, std::numeric_limits<double>::quiet_NaN());
  Kernels<Cuda, float>::attention(l.heads, ranges(offsets, true, l), q.device(), k.device(), v.device(), out.device(),
                                  log_sum.device());
  const auto got = out.host();
  for (std::int64_t t = 0; t < n; ++t) CHECK(std::isnan(got[static_cast<std::size_t>(t * 8)]) == (t >= 6 + 10));
}

TEST_CASE("head sizes and groups without a kernel are refused", "[cuda]") {
  const auto run = [](const AttentionHeads& h) {
    Kernels<Cuda, float>::attention(h, {nullptr, 0, 0}, nullptr, nullptr, nullptr, nullptr, nullptr);
  };
  CHECK_THROWS_WITH(run(heads_of(1, 1, 258)), contains("the CUDA kernels take 1 to 256"));
  CHECK_THROWS_WITH(run(heads_of(3, 2, 8)), contains("3 query heads over 2"));
}
