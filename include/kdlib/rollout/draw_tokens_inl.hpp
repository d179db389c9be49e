// SPDX-License-Identifier: Apache-2.0
// The next token of each of several sequences, drawn where their logits are.
#ifndef KDLIB_ROLLOUT_DRAW_TOKENS_INL_HPP
#define KDLIB_ROLLOUT_DRAW_TOKENS_INL_HPP

#include <algorithm>
#include <span>
#include <vector>

#include "kdlib/core/parallel.hpp"
#include "kdlib/rollout/head_logits.hpp"
#include "kdlib/rollout/sampler.hpp"
#include "kdlib/tensor/pending_routing.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class M>
class TokenDrawer {
  using T = typename M::scalar_type;
  using D = typename M::device_type;
  using L = logit_t<D, T>;

 public:
  /// One token for each row of `hidden` at uniform[row]. What is pending of the pass's routing is read in the same
  /// wait for the device.
  std::vector<SampledToken> draw(const M& model, const Sampler& sampler, View<const T, D> hidden,
                                 std::span<const double> uniform, PendingRouting<D>& routing) {
    HostReads<D> reads;
    routing.read(reads);
    if constexpr (DrawsTokens<D, L>) {
      return draw_there(model, sampler, hidden, uniform, reads);
    } else {
      reads.wait();
      return draw_here(model, sampler, hidden, uniform);
    }
  }

 private:
  std::vector<SampledToken> draw_there(const M& model, const Sampler& sampler, View<const T, D> hidden,
                                       std::span<const double> uniform, HostReads<D>& reads) {
    using K = Kernels<D, L>;
    using Row = typename K::SampledRow;
    const Tensor<L, D> logits = device_head_logits(model.head(), hidden);
    const auto count = static_cast<std::int64_t>(uniform.size());
    const Buffer<double, D> numbers(count);
    const Buffer<Row, D> drawn(count);
    std::vector<Row> rows(uniform.size());
    Memory<D>::from_host(numbers.data(), uniform.data(), uniform.size_bytes());
    K::queue_sample_rows(rule_of<typename K::SampleRule>(sampler), count, logits[1], logits.data(), numbers.data(),
                         drawn.data(), nullptr);
    reads.add(drawn.data(), count, rows.data());
    reads.wait();
    std::vector<SampledToken> tokens;
    for (const Row& row : rows) tokens.push_back(token_of(row));
    return tokens;
  }

  /// Each row is drawn by one thread from its own random number: the number of threads changes nothing.
  std::vector<SampledToken> draw_here(const M& model, const Sampler& sampler, View<const T, D> hidden,
                                      std::span<const double> uniform) {
    using C = accumulate_t<T>;
    const Tensor<C, Cpu> logits = head_logits(model.head(), hidden);
    const auto columns = static_cast<std::size_t>(logits[1]);
    std::vector<SampledToken> tokens(uniform.size());
    workspaces_.resize(std::max(workspaces_.size(), uniform.size()));
    parallel_for(static_cast<std::int64_t>(uniform.size()), 1, [&](std::int64_t begin, std::int64_t end) {
      SamplerWorkspace& workspace = workspaces_[static_cast<std::size_t>(begin)];
      for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
        tokens[i] =
            sample_token(sampler, std::span<const C>(logits.data() + i * columns, columns), uniform[i], workspace);
    });
    return tokens;
  }

  std::vector<SamplerWorkspace> workspaces_;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
