// SPDX-License-Identifier: Apache-2.0
// Tiny models whose weights come from a hash: FNV-1a of the tensor's name, then SplitMix64 of hash + index (golden
// vectors).
#ifndef KDLIB_TESTS_MODEL_GOLDEN_HPP
#define KDLIB_TESTS_MODEL_GOLDEN_HPP

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "kdlib/checkpoint/hf_experts.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/quant/head_product.hpp"

namespace kdlib_tests {

inline double hash_value(const std::string& name, std::uint64_t i) {
  std::uint64_t h = 0xcbf29ce484222325ull;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  std::uint64_t z = h + i + 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  z ^= z >> 31;
  return static_cast<double>(z >> 40) / 16777216.0 - 0.5;
}

/// Sets every parameter of the model: norms 1 + value (Gemma's, to which 1 is added: value), all else value. Qwen's
/// experts are named one by one.
template <class D, class T>
void fill_golden(kdlib::Decoder<D, T>& model) {
  for (kdlib::Parameter<T, D>* p : model.parameters()) {
    if (kdlib::detail::is_expert_tensor(p->name) && model.config().family != kdlib::Family::gpt_oss) {
      T* out = p->value.data();
      for (const auto& part :
           kdlib::detail::expert_tensors(p->name, p->value.shape(), kdlib::detail::ExpertForm::per_expert))
        for (std::int64_t i = 0; i < part.shape.count(); ++i)
          *out++ = static_cast<T>(hash_value(part.name, static_cast<std::uint64_t>(i)));
      continue;
    }
    const bool norm = p->name.ends_with("norm.weight") && !model.config().is_gemma();
    for (std::int64_t i = 0; i < p->value.count(); ++i)
      p->value.data()[i] = static_cast<T>(hash_value(p->name, static_cast<std::uint64_t>(i)) + (norm ? 1.0 : 0.0));
  }
}

/// What Mistral and Gemma have besides: windows, soft caps that bend, scales and angles of their own.
inline void set_golden_features(kdlib::DecoderConfig& c) {
  using kdlib::Family;
  c.windows = {3, c.family == Family::mistral ? 3 : 0};
  if (c.family == Family::mistral) c.norm_epsilon = 1e-5;
  if (c.family != Family::gemma3) c.rope.theta = 1e4;
  c.tied_head = c.is_gemma();
  if (c.family == Family::gemma2) {
    c.query_scalar = 7;
    c.attention_softcap = 0.8;
    c.final_softcap = 1.5;
  }
  if (c.family != Family::gemma3) return;
  c.query_scalar = 10;
  c.rope.kind = kdlib::RopeScalingKind::linear;
  c.rope.factor = 8;
  c.sliding_rope.emplace().theta = 1e4;
}

inline kdlib::DecoderConfig golden_config(kdlib::Family family) {
  using kdlib::Family;
  kdlib::DecoderConfig c;
  c.family = family;
  c.vocab_size = 16;
  c.hidden_size = 8;
  c.intermediate_size = 12;
  c.layers = 2;
  c.query_heads = 4;
  c.kv_heads = 2;
  const bool wide = family == Family::qwen3 || family == Family::mistral || family == Family::gemma3;
  c.head_size = family == Family::gpt_oss ? 16 : (wide ? 6 : 4);
  c.norm_epsilon = family == Family::llama || family == Family::gpt_oss ? 1e-5 : 1e-6;
  c.rope.theta = family == Family::llama ? 1e4 : 1e6;
  c.tied_head = family == Family::llama || family == Family::qwen3;
  c.biases.q = family == Family::qwen2 || family == Family::qwen2_moe || family == Family::gpt_oss;
  c.biases.k = c.biases.v = c.biases.q;
  if (family == Family::mistral || c.is_gemma()) set_golden_features(c);
  if (family == Family::llama || family == Family::qwen2 || family == Family::qwen3 || !c.windows.empty()) return c;
  c.sparse = {1, 1};
  c.moe.experts = 4;
  c.moe.active = 2;
  c.moe.intermediate = 6;
  c.moe.over_chosen = family != Family::qwen2_moe;
  if (family == Family::qwen2_moe) c.moe.shared = 10;
  if (family != Family::gpt_oss) return c;
  c.biases.o = true;
  c.intermediate_size = c.moe.intermediate = 8;
  c.moe.biases = true;
  c.moe.router = "router";
  c.moe.activation = {true, 1.702, 0.75};  // a small limit, so that clamping happens
  c.windows = {3, 0};
  c.rope.theta = 150000;
  c.rope.kind = kdlib::RopeScalingKind::yarn;
  c.rope.factor = 32;
  c.rope.original_length = 4096;
  c.rope.truncate = false;
  return c;
}

/// Gradient of one entry under the file's name: experts of Qwen are parts of packed tensors. 0 where no backward pass
/// asked for it.
template <class D, class T>
double golden_gradient(kdlib::Decoder<D, T>& model, const std::string& name, std::int64_t index) {
  for (kdlib::Parameter<T, D>* p : model.parameters()) {
    if (p->name == name) return static_cast<double>(p->gradient_view().data()[index]);
    if (!kdlib::detail::is_expert_tensor(p->name)) continue;
    std::int64_t at = 0;
    for (const auto& part :
         kdlib::detail::expert_tensors(p->name, p->value.shape(), kdlib::detail::ExpertForm::per_expert)) {
      if (part.name == name) return static_cast<double>(p->gradient_view().data()[at + index]);
      at += part.shape.count();
    }
  }
  return std::nan("");
}

/// Numbers of the host on a device.
template <class T, class D>
kdlib::Buffer<T, D> placed(const std::vector<T>& host) {
  kdlib::Buffer<T, D> out(static_cast<std::int64_t>(host.size()));
  kdlib::Memory<D>::from_host(out.data(), host.data(), host.size() * sizeof(T));
  return out;
}

/// logits [N, V] = softcap(hidden x head^T).
template <class D, class T>
std::vector<kdlib::logit_t<D, T>> logits_of(const kdlib::Decoder<D, T>& model, const kdlib::Tensor<T, D>& hidden) {
  using L = kdlib::logit_t<D, T>;
  const auto head = model.head();
  const std::int64_t n = hidden[0], v = head.weight[0];
  const kdlib::Tensor<L, D> logits({n, v});
  kdlib::detail::multiply_head(head, n, static_cast<const T*>(hidden.data()), v, T{1}, logits.data());
  std::vector<L> host = kdlib::host_copy(logits.view());
  if (head.softcap > 0)
    for (L& z : host) z = static_cast<L>(head.softcap) * std::tanh(z / static_cast<L>(head.softcap));
  return host;
}

/// Mean over rows of -log softmax(logits)[label]; the gradient of the hidden states is handed to the model, the head's
/// added.
template <class D, class T>
double cross_entropy_backward(kdlib::Decoder<D, T>& model, const kdlib::Tensor<T, D>& hidden,
                              const kdlib::TokenBatch::Rows& rows, double weight, bool backward = true) {
  std::vector<T> logits = logits_of(model, hidden);
  const auto head = model.head();
  const std::int64_t n = hidden[0], v = head.weight[0], h = head.weight[1];
  std::vector<T> gradient(logits.size(), T{0});
  double loss = 0;
  for (std::size_t r = 0; r < rows.token.size(); ++r) {
    const T* row = logits.data() + rows.token[r] * v;
    double top = row[0], sum = 0;
    for (std::int64_t i = 0; i < v; ++i) top = std::max(top, static_cast<double>(row[i]));
    for (std::int64_t i = 0; i < v; ++i) sum += std::exp(static_cast<double>(row[i]) - top);
    const double lse = top + std::log(sum), w = static_cast<double>(rows.weight[r]) / weight;
    loss += w * (lse - static_cast<double>(row[rows.label[r]]));
    T* g = gradient.data() + rows.token[r] * v;
    for (std::int64_t i = 0; i < v; ++i) g[i] = static_cast<T>(w * std::exp(static_cast<double>(row[i]) - lse));
    g[rows.label[r]] -= static_cast<T>(w);
    for (std::int64_t i = 0; i < v && head.softcap > 0; ++i) {
      const T t = row[i] / static_cast<T>(head.softcap);
      g[i] *= 1 - t * t;
    }
  }
  if (!backward) return loss;
  kdlib::Tensor<T, D> dh(hidden.shape());
  using K = kdlib::Kernels<D, T>;
  const kdlib::Buffer<T, D> dz = placed<T, D>(gradient);
  kdlib::detail::multiply_head_back(head, n, static_cast<const T*>(dz.data()), v, T{1}, dh.data());
  if (kdlib::Parameter<T, D>* p = model.head_parameter())
    K::gemm(true, false, v, h, n, T{1}, dz.data(), v, hidden.data(), h, T{1}, p->gradient_view().data(), h);
  model.backward(dh);
  return loss;
}

}  // namespace kdlib_tests

#endif
