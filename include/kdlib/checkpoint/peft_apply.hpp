// SPDX-License-Identifier: Apache-2.0
// Adapters of every kind that PEFT's LoRA writes, merged into a model's weights: for inference, export and as a teacher
// or starting point.
#ifndef KDLIB_CHECKPOINT_PEFT_APPLY_HPP
#define KDLIB_CHECKPOINT_PEFT_APPLY_HPP

#include <string>
#include <vector>

#include "kdlib/checkpoint/peft_adapter.hpp"

KDLIB_NAMESPACE_BEGIN

/// How apply_adapter merges.
struct ApplySettings {
  /// Of a model whose head is the embedding: an adapter on one of them gives the head a tensor of its own, so that
  /// logits are those of the active adapter. false: they stay one tensor and what is added to one is added to both, as
  /// PEFT's merge_and_unload does.
  bool untie_head = true;
};

/// Reads adapter_config.json and adapter_model.safetensors and changes the weights; nothing is left to train or to take
/// away again. Besides what load_adapter reads: DoRA W <- m (W + s B A) / |row of W + s B A|, lora_bias, trained biases
/// (bias all or lora_only) and modules_to_save (both replace the model's), the embedding and the head, routers and
/// experts (target_parameters: A [rE, in] by expert, B [out, rE] with the expert as the fastest index; or a pair an
/// expert and map). Answers notes. FormatError or ConfigError name file, key, what is expected and what was found; no
/// weight has changed then, except where a sum is not finite: load the model again. The path of a file is read as
/// llama.cpp's form (gguf_adapter.hpp): linear maps, routers, the head where it is a tensor of its own, and Qwen's
/// experts.
template <class D, class T>
std::vector<std::string> apply_adapter(Decoder<D, T>& model, const std::string& directory,
                                       const ApplySettings& settings = {});

KDLIB_NAMESPACE_END

#include "kdlib/checkpoint/peft_apply_inl.hpp"

#endif
