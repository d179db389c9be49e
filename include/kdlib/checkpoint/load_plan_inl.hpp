// SPDX-License-Identifier: Apache-2.0
// Templates of load_plan.hpp, and how elements and blocks of files become numbers.
#ifndef KDLIB_CHECKPOINT_LOAD_PLAN_INL_HPP
#define KDLIB_CHECKPOINT_LOAD_PLAN_INL_HPP

#include <cstddef>
#include <cstring>
#include <type_traits>
#include <vector>

#include "kdlib/checkpoint/load_plan.hpp"
#include "kdlib/quant/gguf_blocks.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Decodes n values of whole blocks; numbers that T can hold are exact.
template <class T>
void decode_elements(GgufType type, const std::byte* bytes, T* out, std::size_t n) {
  if constexpr (std::is_same_v<T, float>) return decode_row(type, bytes, out, n);
  if constexpr (std::is_same_v<T, bf16>)
    if (type == GgufType::bf16) return static_cast<void>(std::memcpy(out, bytes, n * sizeof(T)));
  if (type == GgufType::f64) {
    for (std::size_t i = 0; i < n; ++i) {
      double x = 0;
      std::memcpy(&x, bytes + i * sizeof x, sizeof x);
      out[i] = static_cast<T>(x);
    }
    return;
  }
  std::vector<float> values(n);
  decode_row(type, bytes, values.data(), n);
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<T>(values[i]);
}

/// The weights that a model of a configuration has.
using WeightSlotsOf = std::vector<WeightSlot>(const DecoderConfig& config);
/// plan_load() for the models whose weights `slots_of` lists.
LoadPlan plan_files(const std::string& path, WeightSlotsOf* slots_of);

}  // namespace detail

template <class D, class T>
LoadPlan plan_load(const std::string& path) {
  return detail::plan_files(
      path, [](const DecoderConfig& config) { return Decoder<D, T>::without_values(config).weight_slots(); });
}

KDLIB_NAMESPACE_END

#endif
