// SPDX-License-Identifier: Apache-2.0
// Merges adapters of every kind that PEFT's LoRA writes into the weights of a model, for inference, for export, and to
// use the model as a teacher or as a starting point.
#ifndef KDLIB_CHECKPOINT_PEFT_APPLY_HPP
#define KDLIB_CHECKPOINT_PEFT_APPLY_HPP

#include <string>
#include <vector>

#include "kdlib/checkpoint/peft_adapter.hpp"

KDLIB_NAMESPACE_BEGIN

/// Settings of apply_adapter().
struct ApplySettings {
  /// For a model whose head and embedding are one tensor, and an adapter on one of both. true: the head gets a tensor
  /// of its own, so that logits are those of the active adapter. false: head and embedding stay one tensor, and a
  /// change of one changes both, as with PEFT's merge_and_unload.
  bool untie_head = true;
};

/// Reads adapter_config.json and adapter_model.safetensors and changes the weights of the model. Afterwards there is no
/// adapter that could be trained or removed. Besides all that load_adapter() reads, these are merged: DoRA, W <- m (W +
/// s B A) / |row of W + s B A|; lora_bias; trained biases (bias all or lora_only) and modules_to_save, which both
/// replace the model's values; adapters on the embedding and the head, on routers and on experts (target_parameters: A
/// [rE, in] by expert and B [out, rE] with the expert as the fastest index; or one pair for each expert and map). If
/// `directory` is the path of a file, the file is read in the form of llama.cpp (gguf_adapter.hpp), with adapters on
/// linear maps, routers, a head that is a tensor of its own, and Qwen's experts. Returns notes. FormatError or
/// ConfigError name file, key, what is expected and what was found; no weight has changed then. Only if a merged weight
/// is not finite, weights may have changed: load the model again.
template <class D, class T>
std::vector<std::string> apply_adapter(Decoder<D, T>& model, const std::string& directory,
                                       const ApplySettings& settings = {});

KDLIB_NAMESPACE_END

#include "kdlib/checkpoint/peft_apply_inl.hpp"

#endif
