// SPDX-License-Identifier: Apache-2.0
// Models without files of weights: a directory with a config.json and a seed. Such models serve for measurements and
// first tries at sizes that do not fit on a disk.
#ifndef KDLIB_CHECKPOINT_RANDOM_WEIGHTS_HPP
#define KDLIB_CHECKPOINT_RANDOM_WEIGHTS_HPP

#include <cstdint>
#include <optional>
#include <string>

#include "kdlib/model/decoder_config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Makes `directory` with config.json and kdlib_random_weights.json, which holds {"seed": N}.
/// Decoder::from_pretrained() of such a directory returns Decoder::from_config(config, seed) on every device, and the
/// notes of the model say so. The program `convert` makes files of weights from such a directory.
void save_random_model(const std::string& directory, const DecoderConfig& config, std::uint64_t seed);

/// Returns the seed of such a directory, or nothing if the directory holds no kdlib_random_weights.json. FormatError:
/// the file is not {"seed": N}, or the directory also holds weights or an adapter.
std::optional<std::uint64_t> random_weights_seed(const std::string& directory);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/random_weights_inl.hpp"
#endif

#endif
