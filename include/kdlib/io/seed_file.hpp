// SPDX-License-Identifier: Apache-2.0
// The name of the file that stands for weights (checkpoint/random_weights.hpp).
#ifndef KDLIB_IO_SEED_FILE_HPP
#define KDLIB_IO_SEED_FILE_HPP

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {
/// Stands for the weights of a directory that has none.
inline constexpr const char* random_weights_file = "kdlib_random_weights.json";
}  // namespace detail
KDLIB_NAMESPACE_END

#endif
