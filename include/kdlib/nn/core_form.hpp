// SPDX-License-Identifier: Apache-2.0
// How the experts of a compressed mixture differ from the core that they share.
#ifndef KDLIB_NN_CORE_FORM_HPP
#define KDLIB_NN_CORE_FORM_HPP

#include <array>
#include <cstdint>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Where an expert's own part stands.
enum class CoreForm : std::uint8_t {
  wrappers,  // around the core, rank r on both sides
  residual   // beside the core, rank q; q = 2r takes as much memory
};
constexpr std::array<const char*, 2> enum_names(CoreForm) { return {"wrappers", "residual"}; }

KDLIB_NAMESPACE_END

#endif
