// SPDX-License-Identifier: Apache-2.0
// The two forms in which the experts of a compressed mixture differ from the core that they share.
#ifndef KDLIB_NN_CORE_FORM_HPP
#define KDLIB_NN_CORE_FORM_HPP

#include <array>
#include <cstdint>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Where the low-rank part of an expert stands. nn/shared_core_experts.hpp has the formulas.
enum class CoreForm : std::uint8_t {
  wrappers,  // in front of and behind the core, rank r each
  residual   // added to the core, rank q; q = 2r takes as much memory
};
constexpr std::array<const char*, 2> enum_names(CoreForm) { return {"wrappers", "residual"}; }

KDLIB_NAMESPACE_END

#endif
