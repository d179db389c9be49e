// SPDX-License-Identifier: Apache-2.0
// Arbitrary bytes as a config.json: it becomes a DecoderConfig or is refused, and what is accepted reads back as
// itself.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "kdlib/checkpoint/hf_config.hpp"

using namespace kdlib;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const DecoderConfig config = parse_hf_config(Json::parse(text, "fuzz"), "fuzz");
    config.check("fuzz");
    if (config.parameter_count() <= 0) std::abort();
    const DecoderConfig again = parse_hf_config(Json::parse(hf_config_text(config, "float32"), "again"), "again");
    if (again.hidden_size != config.hidden_size || again.layers != config.layers ||
        again.vocab_size != config.vocab_size || again.head_size != config.head_size ||
        again.tied_head != config.tied_head || again.windows != config.windows)
      std::abort();
  } catch (const Error&) {
  }
  return 0;
}
