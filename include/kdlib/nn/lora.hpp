// SPDX-License-Identifier: Apache-2.0
// Which linear maps get low-rank factors, of which rank and scale: PEFT's rules. What models do with them is in
// model/adapter.hpp.
#ifndef KDLIB_NN_LORA_HPP
#define KDLIB_NN_LORA_HPP

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// A choice of modules: names that a module path is equal to or ends with ("q_proj", "layers.1.mlp.up_proj"), a regular
/// expression that the whole path matches, or every linear map of the layers.
struct ModuleChoice {
  std::vector<std::string> names;
  std::string pattern;
  bool all = false;

  ModuleChoice() = default;
  ModuleChoice(std::initializer_list<const char*> list);
  ModuleChoice(std::vector<std::string> list) : names(std::move(list)) {}
  static ModuleChoice matching(std::string regular_expression) {
    ModuleChoice c;
    c.pattern = std::move(regular_expression);
    return c;
  }
  static ModuleChoice all_linear() {
    ModuleChoice c;
    c.all = true;
    return c;
  }
  bool empty() const { return names.empty() && pattern.empty() && !all; }
  bool holds(std::string_view path) const;
};

/// Every linear map of every layer; the head is not among them.
inline const ModuleChoice all_linear = ModuleChoice::all_linear();

/// Which linear maps get an adapter, with which rank and scale; the rules are PEFT's.
struct LoraSettings {
  std::int64_t rank = 8;  // > 0
  double alpha = 16;      // scale s = alpha / rank
  ModuleChoice targets = all_linear;
  ModuleChoice exclude{};                  // looked at first
  bool routers = false;                    // of mixtures of experts, besides the targets (PEFT: target_parameters)
  bool rslora = false;                     // s = alpha / sqrt(rank)
  std::vector<std::int64_t> layers{};      // only these layers; empty: all
  std::vector<std::string> layer_lists{};  // name of the list the layer number follows ("layers"); empty: any
  std::vector<std::pair<std::string, std::int64_t>>
      rank_pattern{};  // expression over the end of the path -> rank; the first that fits
  std::vector<std::pair<std::string, double>> alpha_pattern{};
  std::uint64_t seed = 0;  // of A
};

/// True where PEFT would adapt the module of that path.
bool lora_targets(const LoraSettings& settings, std::string_view path);
/// Rank and alpha of a module, patterns applied. ConfigError: not positive.
std::int64_t lora_rank(const LoraSettings& settings, std::string_view path);
double lora_alpha(const LoraSettings& settings, std::string_view path);
double lora_scale(std::int64_t rank, double alpha, bool rslora);

namespace detail {
/// True where the path is the name or ends with it behind a dot.
bool ends_with_module(std::string_view path, std::string_view name);
/// The number behind the first "<list>." of the path that is followed by a dot; -1 where there is none. PEFT's
/// expressions:
/// .*?\.[^.]*\.(\d+)\. without a list name, (?:^|.*?\.)<list>\.(\d+)\. with one.
std::int64_t layer_index(std::string_view path, std::string_view list);
/// True where the key of a pattern fits the path: (.*\.)?(KEY)$, from the start.
bool fits_pattern(const std::string& key, std::string_view path);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/nn/lora_inl.hpp"
#endif

#endif
