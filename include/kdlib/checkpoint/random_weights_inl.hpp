// SPDX-License-Identifier: Apache-2.0
// Bodies of checkpoint/random_weights.hpp.
#ifndef KDLIB_CHECKPOINT_RANDOM_WEIGHTS_INL_HPP
#define KDLIB_CHECKPOINT_RANDOM_WEIGHTS_INL_HPP

#include "kdlib/checkpoint/hf_config.hpp"
#include "kdlib/checkpoint/random_weights.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/io/seed_file.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC void save_random_model(const std::string& directory, const DecoderConfig& config, std::uint64_t seed) {
  make_directories(directory);
  write_file_atomically(join_path(directory, "config.json"), hf_config_text(config, config.dtype));
  write_file_atomically(join_path(directory, detail::random_weights_file), detail::random_weights_text(seed));
}

KDLIB_FUNC std::optional<std::uint64_t> random_weights_seed(const std::string& directory) {
  const std::string path = join_path(directory, detail::random_weights_file);
  if (!path_exists(path)) return std::nullopt;
  for (const std::string& name : list_directory(directory)) {
    const bool weights = name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json") ||
                         name.ends_with(".bin") || name.ends_with(".gguf") || name == "adapter_config.json";
    require<FormatError>(!weights, "[decoder] ", directory, " holds ", name, " and ", detail::random_weights_file,
                         ": remove the one that is not meant");
  }
  const Json json = Json::parse_file(path);
  for (const auto& [key, value] : json.members())
    if (key != "seed") value.refuse("is not known here; the file holds {\"seed\": N}");
  return json.at("seed").as_uint();
}

KDLIB_NAMESPACE_END

#endif
