// SPDX-License-Identifier: Apache-2.0
// A stand-in for cuDNN's attention: the definition in double, over the indices that cuDNN would read.
#include <cmath>
#include <vector>

#include "device.hpp"
#include "kdlib/backend/cuda/library_attention.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {
namespace {

/// One head of one document.
struct Head {
  const CudnnAttention& a;
  std::int64_t document, head;

  std::int64_t length() const { return a.lengths[document]; }
  std::int64_t q_at(std::int64_t t) const {
    return a.query_offsets[document] + (t * a.key.query_heads + head) * a.key.head_size;
  }
  std::int64_t kv_at(std::int64_t t) const {
    const std::int64_t group = a.key.query_heads / a.key.kv_heads;
    return a.kv_offsets[document] + (t * a.key.kv_heads + head / group) * a.key.head_size;
  }
  std::int64_t log_sum_at(std::int64_t t) const { return a.log_sum_offsets[document] + t * a.key.query_heads + head; }
  double dot(const void* x, std::int64_t i, const void* y, std::int64_t j) const {
    double sum = 0;
    for (std::int64_t c = 0; c < a.key.head_size; ++c)
      sum += static_cast<double>(static_cast<const bf16*>(x)[i + c]) *
             static_cast<double>(static_cast<const bf16*>(y)[j + c]);
    return sum;
  }
  double score(std::int64_t t, std::int64_t s) const { return a.key.scale * dot(a.q, q_at(t), a.k, kv_at(s)); }
};

void forward(const Head& h) {
  const CudnnAttention& a = h.a;
  for (std::int64_t t = 0; t < h.length(); ++t) {
    std::vector<double> scores, sums(static_cast<std::size_t>(a.key.head_size), 0.0);
    double top = -INFINITY, total = 0;
    for (std::int64_t s = 0; s <= t; ++s) scores.push_back(h.score(t, s)), top = std::max(top, scores.back());
    for (std::int64_t s = 0; s <= t; ++s) {
      const double p = std::exp(scores[static_cast<std::size_t>(s)] - top);
      total += p;
      for (std::int64_t c = 0; c < a.key.head_size; ++c)
        sums[static_cast<std::size_t>(c)] += p * static_cast<double>(static_cast<const bf16*>(a.v)[h.kv_at(s) + c]);
    }
    bf16* out = static_cast<bf16*>(const_cast<void*>(a.out)) + h.q_at(t);
    for (std::int64_t c = 0; c < a.key.head_size; ++c)
      out[c] = bf16(static_cast<float>(sums[static_cast<std::size_t>(c)] / total));
    if (a.log_sum != nullptr)
      const_cast<float*>(a.log_sum)[h.log_sum_at(t)] = static_cast<float>(top + std::log(total));
  }
}

/// Adds to dq, dk and dv, which have the places of q, k and v.
void backward(const Head& h, std::vector<double>& dq, std::vector<double>& dk, std::vector<double>& dv) {
  const CudnnAttention& a = h.a;
  const auto* q = static_cast<const bf16*>(a.q);
  const auto* k = static_cast<const bf16*>(a.k);
  const auto* g = static_cast<const bf16*>(a.out_gradient);
  for (std::int64_t t = 0; t < h.length(); ++t) {
    const std::int64_t qt = h.q_at(t);
    const double delta = h.dot(a.out, qt, a.out_gradient, qt);
    for (std::int64_t s = 0; s <= t; ++s) {
      const std::int64_t ks = h.kv_at(s);
      const double p = std::exp(h.score(t, s) - static_cast<double>(a.log_sum[h.log_sum_at(t)]));
      const double ds = a.key.scale * p * (h.dot(a.out_gradient, qt, a.v, ks) - delta);
      for (std::int64_t c = 0; c < a.key.head_size; ++c) {
        dv[static_cast<std::size_t>(ks + c)] += p * static_cast<double>(g[qt + c]);
        dk[static_cast<std::size_t>(ks + c)] += ds * static_cast<double>(q[qt + c]);
        dq[static_cast<std::size_t>(qt + c)] += ds * static_cast<double>(k[ks + c]);
      }
    }
  }
}

void round_to(const std::vector<double>& from, void* to) {
  for (std::size_t i = 0; i < from.size(); ++i) static_cast<bf16*>(to)[i] = bf16(static_cast<float>(from[i]));
}

void run(const CudnnAttention& a) {
  const bool backwards = a.key.pass == AttentionPass::backward;
  const auto queries = static_cast<std::size_t>(backwards ? a.query_offsets[a.key.documents] : 0),
             keys = static_cast<std::size_t>(backwards ? a.kv_offsets[a.key.documents] : 0);
  std::vector<double> dq(queries, 0.0), dk(keys, 0.0), dv(keys, 0.0);
  for (std::int64_t d = 0; d < a.key.documents; ++d)
    for (std::int64_t head = 0; head < a.key.query_heads; ++head) {
      require<BackendError>(a.lengths[d] <= a.key.length, "[cuda emulated] a document of ", a.lengths[d],
                            " tokens meets a plan for ", a.key.length);
      if (backwards) backward({a, d, head}, dq, dk, dv);
      else forward({a, d, head});
    }
  if (backwards) round_to(dq, a.q_gradient), round_to(dk, a.k_gradient), round_to(dv, a.v_gradient);
}

}  // namespace

CudnnFacts cudnn_facts() {
  const EmulatedSettings& s = emulated_settings();
  return {s.cudnn > 0, s.cudnn, s.major, s.minor};
}

void run_cudnn_attention(const CudnnAttention& a) {
  if (is_dry()) return;
  EmulatedDevice& d = emulated_device();
  const std::lock_guard<std::recursive_mutex> lock(d.mutex);
  std::vector<std::uint64_t> touched;
  for (const void* p : {a.q, a.k, a.v, a.out, static_cast<const void*>(a.log_sum), a.out_gradient,
                        static_cast<const void*>(a.q_gradient), static_cast<const void*>(a.k_gradient),
                        static_cast<const void*>(a.v_gradient), static_cast<const void*>(a.lengths),
                        static_cast<const void*>(a.query_offsets)})
    if (p != nullptr) touched.push_back(d.memory.require_range(p, 1, "cuDNN's attention").serial);
  d.enqueue(
      nullptr, [a, &d] { ++d.counts.library_attentions, run(a); }, touched);
}

}  // namespace detail
KDLIB_NAMESPACE_END
