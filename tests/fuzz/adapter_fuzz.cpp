// SPDX-License-Identifier: Apache-2.0
// Arbitrary bytes as an adapter_config.json: it is refused, or every module of a model gets an answer (targeted or not,
// rank, scale) or a refusal, whatever expressions the file holds.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "kdlib/checkpoint/peft_apply.hpp"
#include "kdlib/checkpoint/peft_parts.hpp"

using namespace kdlib;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    std::vector<std::string> notes;
    const detail::PeftAdapter adapter =
        detail::parse_adapter_config(Json::parse(text, "fuzz"), "fuzz", size % 2 == 0, notes);
    for (const char* path : {"model.layers.0.self_attn.q_proj", "model.layers.11.mlp.experts.7.down_proj",
                             "model.layers.1.mlp.experts.gate_up_proj", "model.embed_tokens", "lm_head"}) {
      try {
        if (!adapter.lora.targets.empty()) (void)lora_targets(adapter.lora, path);
        const std::int64_t rank = lora_rank(adapter.lora, path);
        if (rank <= 0 || !std::isfinite(lora_scale(rank, lora_alpha(adapter.lora, path), adapter.lora.rslora)))
          std::abort();
      } catch (const Error&) {
      }
    }
    (void)detail::touches_tied_head(adapter);
    detail::require_trainable(adapter);
  } catch (const Error&) {
  }
  return 0;
}
