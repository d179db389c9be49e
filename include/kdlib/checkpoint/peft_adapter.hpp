// SPDX-License-Identifier: Apache-2.0
// LoRA adapters in PEFT's format: save_adapter and load_adapter.
#ifndef KDLIB_CHECKPOINT_PEFT_ADAPTER_HPP
#define KDLIB_CHECKPOINT_PEFT_ADAPTER_HPP

#include <string>
#include <vector>

#include "kdlib/model/adapter.hpp"

KDLIB_NAMESPACE_BEGIN

/// How save_adapter writes.
struct AdapterSaveSettings {
  std::string dtype = "float32";          // or bfloat16, float16
  std::string base_model_name_or_path{};  // for readers; empty: null
};

/// adapter_config.json and adapter_model.safetensors, as PEFT reads them.
template <class D, class T>
void save_adapter(Decoder<D, T>& model, const std::string& directory, const AdapterSaveSettings& settings = {});

/// Reads an adapter that PEFT or save_adapter wrote; the factors are trainable, all else is frozen. Answers notes
/// (settings that only matter elsewhere). FormatError or ConfigError name file, key and rule: kinds of adapters that
/// are not plain LoRA (apply_adapter in checkpoint/peft_apply.hpp merges more kinds), tensors that are missing,
/// unknown, of a wrong shape or not finite. The path of a file is read as llama.cpp's form (load_gguf_adapter).
template <class D, class T>
std::vector<std::string> load_adapter(Decoder<D, T>& model, const std::string& directory);

KDLIB_NAMESPACE_END

#include "kdlib/checkpoint/peft_load_inl.hpp"
#include "kdlib/checkpoint/peft_save_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/peft_description_inl.hpp"
#endif

#endif
