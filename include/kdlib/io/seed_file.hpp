// SPDX-License-Identifier: Apache-2.0
// The seed file: a small file that stands for random weights. This header has its name and its text;
// checkpoint/random_weights.hpp uses it.
#ifndef KDLIB_IO_SEED_FILE_HPP
#define KDLIB_IO_SEED_FILE_HPP

#include <cstdint>
#include <string>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {
/// The file's name in a model directory that has no weights.
inline constexpr const char* random_weights_file = "kdlib_random_weights.json";
/// Returns the text of the file: the seed from which the weights are drawn.
inline std::string random_weights_text(std::uint64_t seed) { return concat("{\"seed\": ", seed, "}\n"); }
}  // namespace detail
KDLIB_NAMESPACE_END

#endif
