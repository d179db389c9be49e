// SPDX-License-Identifier: Apache-2.0
// Saves and loads LoRA adapters in the format of PEFT: save_adapter() and load_adapter().
#ifndef KDLIB_CHECKPOINT_PEFT_ADAPTER_HPP
#define KDLIB_CHECKPOINT_PEFT_ADAPTER_HPP

#include <string>
#include <vector>

#include "kdlib/model/adapter.hpp"

KDLIB_NAMESPACE_BEGIN

/// Settings of save_adapter().
struct AdapterSaveSettings {
  std::string dtype = "float32";          // of the factors: float32, bfloat16 or float16
  std::string base_model_name_or_path{};  // the key of this name in adapter_config.json; empty: null
};

/// Writes adapter_config.json and adapter_model.safetensors into `directory`, as PEFT reads them. ConfigError: the
/// model has no adapter, or another dtype is set.
template <class D, class T>
void save_adapter(Decoder<D, T>& model, const std::string& directory, const AdapterSaveSettings& settings = {});

/// Reads an adapter that PEFT or save_adapter() wrote. The factors become trainable, and all other parameters are
/// frozen. If `directory` is the path of a file, the file is read in the form of llama.cpp (load_gguf_adapter()).
/// Returns notes about settings that have no effect here. FormatError or ConfigError name file, key and rule: the
/// adapter is not plain LoRA (apply_adapter() in checkpoint/peft_apply.hpp merges more kinds), tensors are missing,
/// unknown, of a wrong shape or not finite, or the model has an adapter already.
template <class D, class T>
std::vector<std::string> load_adapter(Decoder<D, T>& model, const std::string& directory);

KDLIB_NAMESPACE_END

#include "kdlib/checkpoint/peft_load_inl.hpp"
#include "kdlib/checkpoint/peft_save_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/peft_description_inl.hpp"
#endif

#endif
