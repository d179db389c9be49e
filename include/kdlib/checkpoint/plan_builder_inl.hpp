// SPDX-License-Identifier: Apache-2.0
// What plans of every format share: what does not fit, what was taken, tables that are compared.
#ifndef KDLIB_CHECKPOINT_PLAN_BUILDER_INL_HPP
#define KDLIB_CHECKPOINT_PLAN_BUILDER_INL_HPP

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "kdlib/checkpoint/load_plan.hpp"
#include "kdlib/core/error.hpp"
#include "kdlib/core/stop.hpp"
#include "kdlib/quant/gguf_blocks.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The same number in other words than GGUF's: element types of safetensors that weights may have.
KDLIB_FUNC GgufType stored_type(DType dtype) {
  return dtype == DType::f16    ? GgufType::f16
         : dtype == DType::bf16 ? GgufType::bf16
         : dtype == DType::f64  ? GgufType::f64
                                : GgufType::f32;
}

/// Collects what does not fit, and keeps account of the tensors that were taken.
class PlanBuilder {
 public:
  explicit PlanBuilder(LoadPlan& plan) : plan_(plan) {}

  template <class... Parts>
  void problem(LoadProblemKind kind, const Parts&... parts) {
    plan_.problems.push_back({kind, concat(parts...)});
  }
  /// Runs f; what it refuses becomes a problem. Answers whether nothing was refused.
  template <class F>
  bool collect(F&& f) {
    try {
      f();
      return true;
    } catch (const StopRequested&) {
      throw;
    } catch (const Error& error) {
      std::string text = error.what();
      constexpr std::string_view prefix = "[decoder] ";
      if (text.starts_with(prefix)) text.erase(0, prefix.size());
      plan_.problems.push_back({LoadProblemKind::unfit, std::move(text)});
      return false;
    }
  }
  void take(PlannedWeight& weight, PlannedTensor tensor) {
    taken_.push_back(tensor.name);
    weight.tensors.push_back(std::move(tensor));
  }
  void taken(std::string name) { taken_.push_back(std::move(name)); }
  void ignore(std::string name, std::string reason) {
    taken_.push_back(name);
    plan_.ignored.push_back({std::move(name), std::move(reason)});
  }
  /// The tensors that nothing took.
  template <class Tensors, class NameOf>
  auto left(const Tensors& tensors, NameOf&& name_of) {
    std::sort(taken_.begin(), taken_.end());
    std::vector<std::decay_t<decltype(*std::begin(tensors))>> rest;
    for (const auto& t : tensors)
      if (!std::binary_search(taken_.begin(), taken_.end(), name_of(t))) rest.push_back(t);
    return rest;
  }
  void finish() {
    std::stable_sort(plan_.problems.begin(), plan_.problems.end(),
                     [](const LoadProblem& a, const LoadProblem& b) { return a.kind < b.kind; });
    std::sort(plan_.ignored.begin(), plan_.ignored.end(),
              [](const IgnoredTensor& a, const IgnoredTensor& b) { return a.name < b.name; });
  }

 private:
  LoadPlan& plan_;
  std::vector<std::string> taken_;
};

/// A table of the model as its file holds it: for comparing head and embedding.
struct StoredTable {
  GgufType type = GgufType::f32;
  std::int64_t rows = 0, columns = 0;
  std::span<const std::byte> data;
};

/// True where both hold the same numbers.
KDLIB_FUNC bool equal_tables(const StoredTable& a, const StoredTable& b) {
  if (a.rows != b.rows || a.columns != b.columns) return false;
  if (a.type == b.type && std::memcmp(a.data.data(), b.data.data(), a.data.size()) == 0) return true;
  const std::size_t n = static_cast<std::size_t>(a.columns);
  const std::size_t step_a = a.data.size() / static_cast<std::size_t>(a.rows),
                    step_b = b.data.size() / static_cast<std::size_t>(b.rows);
  std::vector<double> x(n), y(n);
  for (std::size_t r = 0; r < static_cast<std::size_t>(a.rows); ++r) {
    decode_elements(a.type, a.data.data() + r * step_a, x.data(), n);
    decode_elements(b.type, b.data.data() + r * step_b, y.data(), n);
    if (x != y) return false;
  }
  return true;
}

/// Why a tensor that no weight takes is harmless; empty: it may change the function.
KDLIB_FUNC std::string harmless_tensor(std::string_view name, std::size_t rank) {
  const auto ends = [&](std::initializer_list<std::string_view> endings) {
    return std::any_of(endings.begin(), endings.end(), [&](std::string_view e) { return name.ends_with(e); });
  };
  if (ends({"rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached"}))
    return "rotary angles, which follow from the configuration";
  if (ends({".masked_bias"}) || (rank == 4 && ends({".attn.bias", ".attention.bias", ".self_attn.bias"})))
    return "a constant of the causal mask";
  return {};
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
