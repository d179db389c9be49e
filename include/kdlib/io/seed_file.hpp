// SPDX-License-Identifier: Apache-2.0
// The file that stands for weights: its name and its text (checkpoint/random_weights.hpp).
#ifndef KDLIB_IO_SEED_FILE_HPP
#define KDLIB_IO_SEED_FILE_HPP

#include <cstdint>
#include <string>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {
/// Stands for the weights of a directory that has none.
inline constexpr const char* random_weights_file = "kdlib_random_weights.json";
/// What it holds.
inline std::string random_weights_text(std::uint64_t seed) { return concat("{\"seed\": ", seed, "}\n"); }
}  // namespace detail
KDLIB_NAMESPACE_END

#endif
