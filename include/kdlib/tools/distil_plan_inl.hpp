// SPDX-License-Identifier: Apache-2.0
// Bodies of distil_plan.hpp.
#ifndef KDLIB_TOOLS_DISTIL_PLAN_INL_HPP
#define KDLIB_TOOLS_DISTIL_PLAN_INL_HPP

#include <algorithm>
#include <chrono>

#include "kdlib/tensor/tensor.hpp"
#include "kdlib/tools/distil_plan.hpp"
#include "kdlib/tools/progress.hpp"
#include "kdlib/tools/report_html.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Weights of the seven linear maps of all layers, and their (in + out) for the adapters.
struct LinearCount {
  double weights = 0, sides = 0;
};
inline LinearCount count_linears(const DecoderConfig& c) {
  const double h = static_cast<double>(c.hidden_size), i = static_cast<double>(c.intermediate_size);
  const double q = static_cast<double>(c.query_heads * c.head_size), kv = static_cast<double>(c.kv_heads * c.head_size), n = static_cast<double>(c.layers);
  return {n * (2 * h * q + 2 * h * kv + 3 * h * i), n * (2 * (h + q) + 2 * (h + kv) + 3 * (h + i))};
}

/// Floats that one layer keeps for the backward pass, per token.
inline double layer_activation_floats(const DecoderConfig& c, bool lora) {
  const double h = static_cast<double>(c.hidden_size), i = static_cast<double>(c.intermediate_size);
  const double q = static_cast<double>(c.query_heads * c.head_size), kv = static_cast<double>(c.kv_heads * c.head_size);
  return 4 * h + 2 * q + 2 * kv + (lora ? 3 : 2) * i;  // residual and norms, q k v and heads' output, gate up and their product
}

/// Bytes of a weight in codes, its share of scales and zeros included.
inline double packed_bytes(const QuantizeSettings& s) {
  const double bits = s.kind == PackedKind::int3 ? 3 : s.kind == PackedKind::int8 ? 8 : 4, scale = s.kind == PackedKind::mxfp4 || s.double_quantized ? 1 : 4;
  return bits / 8 + scale * (s.rule == Int4Rule::symmetric ? 1 : 2) / static_cast<double>(s.group_size);
}

template <class F>
double best_seconds(int rounds, F&& f) {
  double best = 1e300;
  for (int r = 0; r < rounds; ++r) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

}  // namespace detail

template <class D, class T>
MachineRates measure_rates(const DecoderConfig& c, std::int64_t batch) {
  const std::int64_t rows = 1024, h = c.hidden_size, i = c.intermediate_size, v = c.vocab_size;
  Tensor<T, D> x = Tensor<T, D>::zeros({rows, h}), w = Tensor<T, D>::zeros({i, h}), y({rows, i}), head = Tensor<T, D>::zeros({v, h}), z({batch, v});
  const double many = detail::best_seconds(4, [&] { Kernels<D, T>::gemm(false, true, rows, i, h, T{1}, x.data(), h, w.data(), h, T{0}, y.data(), i); });
  const double few = detail::best_seconds(3, [&] { Kernels<D, T>::gemm(false, true, batch, v, h, T{1}, x.data(), h, head.data(), h, T{0}, z.data(), v); });
  return {2.0 * static_cast<double>(rows) * static_cast<double>(h) * static_cast<double>(i) / many,
          2.0 * static_cast<double>(batch) * static_cast<double>(v) * static_cast<double>(h) / few};
}

inline double DistilPlan::memory_bytes() const {
  double sum = 0;
  for (const auto& part : memory) sum += part.second;
  return sum;
}

inline std::string DistilPlan::text() const {
  std::string out = "predicted memory\n";
  for (const auto& part : memory) out += concat("  ", part.first, std::string(part.first.size() < 47 ? 48 - part.first.size() : 1, ' '), detail::number_text("%8.1f", part.second / 1048576.0), " MiB\n");
  out += concat("  total", std::string(43, ' '), detail::number_text("%8.1f", memory_bytes() / 1048576.0), " MiB\n");
  out += concat("trained parameters  ", detail::number_text("%.3f", trained_parameters / 1e6), " M\n");
  out += concat("a step              ", detail::number_text("%.0f", step_tokens), " tokens, up to ", detail::number_text("%.0f", counted_tokens), " of them counted; ",
                detail::number_text("%.0f", step_flops / 1e9), " GFLOP\n");
  out += concat("predicted time      ", detail::number_text("%.1f", step_seconds), " s training and ", detail::number_text("%.1f", writing_seconds),
                " s writing text a step; about ", duration_text(total_seconds), " in all, before evaluation\n");
  return out;
}

inline DistilPlan plan_distil(const DistilSettings& s, const DecoderConfig& teacher, const DecoderConfig& student, bool shared_weights, double prompt_tokens,
                              double scalar_bytes, const MachineRates& rates) {
  const detail::LinearCount t = detail::count_linears(teacher), c = detail::count_linears(student);
  const double head_t = static_cast<double>(teacher.vocab_size * teacher.hidden_size), head_s = static_cast<double>(student.vocab_size * student.hidden_size);
  const bool lora = s.adapts(), scales = s.train == "scales", packed = s.quantize != "none";
  DistilPlan plan;
  plan.trained_parameters = lora ? s.lora_rank * c.sides : scales ? c.weights / s.quantizer().group_size * (s.quantize_rule == "affine" ? 2 : 1) : static_cast<double>(student.parameter_count());
  const double sequence = std::min<double>(prompt_tokens + s.max_new_tokens, s.max_length);
  const double micro_tokens = s.batch * sequence, micro_rows = static_cast<double>(s.batch) * s.max_new_tokens;
  const double other_student = static_cast<double>(student.parameter_count()) - c.weights;

  plan.memory.emplace_back("teacher, " + std::to_string(static_cast<int>(scalar_bytes)) + " bytes a weight", static_cast<double>(teacher.parameter_count()) * scalar_bytes);
  if (packed) plan.memory.emplace_back("student's linear layers, " + s.quantize + " codes and scales", c.weights * detail::packed_bytes(s.quantizer()));
  if ((!packed || s.train == "all" || s.train == "qat_lora") && !shared_weights) plan.memory.emplace_back("student's linear layers", c.weights * scalar_bytes);
  if (!shared_weights) plan.memory.emplace_back("student's embedding, head and norms", other_student * scalar_bytes);
  plan.memory.emplace_back("gradients and two moments of what is trained", plan.trained_parameters * 3 * scalar_bytes + (lora || scales ? plan.trained_parameters * scalar_bytes : 0));
  const double per_layer = detail::layer_activation_floats(student, lora), layers = static_cast<double>(student.layers), h = static_cast<double>(student.hidden_size);
  plan.memory.emplace_back(s.recompute ? "activations, one layer and its inputs" : "activations of one micro-batch",
                           micro_tokens * scalar_bytes * (s.recompute ? per_layer + layers * h : per_layer * layers));
  plan.memory.emplace_back("chunks of logits (at most)", std::min(s.workspace * 1048576.0, micro_rows * static_cast<double>(teacher.vocab_size + student.vocab_size) * scalar_bytes));

  const double passes = (s.train == "lora" || (s.train == "qat_lora" && s.straight_through == "identity") ? 2 : 3) + (s.recompute ? 1 : 0);
  plan.step_tokens = micro_tokens * s.micro_batches;
  plan.counted_tokens = micro_rows * s.micro_batches;
  plan.step_flops = 2 * plan.step_tokens * (t.weights + passes * c.weights + (lora ? 3 * s.lora_rank * c.sides : 0)) +
                    2 * plan.counted_tokens * (head_t + (lora || scales ? 2 : 3) * head_s);
  plan.step_seconds = plan.step_flops / rates.gemm_flops;
  const double writer = s.lambda * (c.weights + head_s) + (s.data.empty() ? (1 - s.lambda) * (t.weights + head_t) : 0);
  plan.writing_seconds = 2 * plan.counted_tokens * writer / rates.decoding_flops + 2 * (plan.step_tokens - plan.counted_tokens) * writer / rates.gemm_flops;
  plan.total_seconds = s.steps * (plan.step_seconds + plan.writing_seconds);
  return plan;
}

KDLIB_NAMESPACE_END

#endif
