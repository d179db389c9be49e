// SPDX-License-Identifier: Apache-2.0
// Models without files of weights: a directory with a config.json and a seed, for measurements and first tries at sizes
// that a disk does not hold.
#ifndef KDLIB_CHECKPOINT_RANDOM_WEIGHTS_HPP
#define KDLIB_CHECKPOINT_RANDOM_WEIGHTS_HPP

#include <cstdint>
#include <optional>
#include <string>

#include "kdlib/model/decoder_config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Makes `directory` with config.json and kdlib_random_weights.json, {"seed": N}. Wherever such a directory is loaded,
/// Decoder::from_pretrained gives Decoder::from_config(config, seed), whatever the device, and the model's notes say
/// so. `convert` makes files of it.
void save_random_model(const std::string& directory, const DecoderConfig& config, std::uint64_t seed);

/// The seed of such a directory; empty where it holds no kdlib_random_weights.json. FormatError: the file is not
/// {"seed": N}, or weights or an adapter lie beside it.
std::optional<std::uint64_t> random_weights_seed(const std::string& directory);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/random_weights_inl.hpp"
#endif

#endif
