// SPDX-License-Identifier: Apache-2.0
// Which linear maps get low-rank factors (LoRA), with which rank and scale, by the rules of PEFT. model/adapter.hpp
// adds the factors to a model.
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

/// A choice of modules: a list of names, of which a module path must be equal to one or end with one ("q_proj",
/// "layers.1.mlp.up_proj"), or a regular expression that must match the whole path, or every linear map of the layers.
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

/// Every linear map of every layer. The head is not included.
inline const ModuleChoice all_linear = ModuleChoice::all_linear();

/// Which linear maps get an adapter, with which rank and scale. The rules are PEFT's.
struct LoraSettings {
  std::int64_t rank = 8;  // 1 to 65535
  double alpha = 16;      // scale s = alpha / rank
  ModuleChoice targets = all_linear;
  ModuleChoice exclude{};                  // modules that get none; has priority over `targets`
  bool routers = false;                    // also adapt the routers of mixtures of experts (PEFT: target_parameters)
  bool rslora = false;                     // true: s = alpha / sqrt(rank)
  std::vector<std::int64_t> layers{};      // numbers of the layers to adapt; empty: all
  std::vector<std::string> layer_lists{};  // names of the list that the layer number follows ("layers"); empty: any
  /// Pairs of an expression for the end of the path and a rank. The first expression that fits decides.
  std::vector<std::pair<std::string, std::int64_t>> rank_pattern{};
  /// The same for alpha.
  std::vector<std::pair<std::string, double>> alpha_pattern{};
  std::uint64_t seed = 0;  // seed of the random values of A
};

/// True if PEFT would adapt the module of that path. Throws ConfigError for `layers` together with a regular
/// expression.
bool lora_targets(const LoraSettings& settings, std::string_view path);
/// Return the rank and the alpha of a module after the patterns were applied. Throw ConfigError unless the rank is from
/// 1 to 65535 and alpha is finite.
std::int64_t lora_rank(const LoraSettings& settings, std::string_view path);
double lora_alpha(const LoraSettings& settings, std::string_view path);
/// Returns s = alpha / rank, or alpha / sqrt(rank) if `rslora` is set.
double lora_scale(std::int64_t rank, double alpha, bool rslora);

namespace detail {
/// True if the path is the name, or ends with a dot and the name.
bool ends_with_module(std::string_view path, std::string_view name);
/// Returns the layer number in a path: the first number that follows "<list>." and is followed by a dot, or -1 if there
/// is none. PEFT's expressions are
/// .*?\.[^.]*\.(\d+)\. without a list name and (?:^|.*?\.)<list>\.(\d+)\. with one.
std::int64_t layer_index(std::string_view path, std::string_view list);
/// True if the key of a pattern fits the path: the expression (.*\.)?(KEY)$ must match from the start.
bool fits_pattern(const std::string& key, std::string_view path);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/nn/lora_inl.hpp"
#endif

#endif
