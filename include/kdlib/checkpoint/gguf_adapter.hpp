// SPDX-License-Identifier: Apache-2.0
// Saves and loads LoRA adapters as GGUF files in the form that llama.cpp reads and writes (general.type "adapter").
#ifndef KDLIB_CHECKPOINT_GGUF_ADAPTER_HPP
#define KDLIB_CHECKPOINT_GGUF_ADAPTER_HPP

#include <string>
#include <vector>

#include "kdlib/model/adapter.hpp"

KDLIB_NAMESPACE_BEGIN

/// Settings of save_gguf_adapter().
struct GgufAdapterSettings {
  std::string dtype = "float32";  // of the factors: float32, bfloat16 or float16
  std::string name{};             // the key general.name; empty: left out
};

/// Writes the adapter of the model: the keys general.architecture, adapter.type "lora" and adapter.lora.alpha, and for
/// each adapted map the factors <tensor of the base>.lora_a [rank, in] and .lora_b [out, rank]. The rows of B are in
/// the order of the rows of the base tensor (interleaved heads for architecture llama). Readers scale by alpha / rank
/// with one alpha for all maps. If alpha = s * rank (s: the scale of the map) differs from map to map, B is multiplied
/// by the missing factor, and a note says so. Returns notes. ConfigError: the model has no adapter, or another dtype is
/// set. IoError: as AtomicFile.
template <class D, class T>
std::vector<std::string> save_gguf_adapter(Decoder<D, T>& model, const std::string& path,
                                           const GgufAdapterSettings& settings = {});

/// Reads such a file, as load_adapter() reads a directory of PEFT: the factors become trainable, and all other
/// parameters are frozen. Returns notes. FormatError or ConfigError name file, key or tensor: the file is of another
/// kind or architecture, a factor has no partner, shapes do not fit, values are not finite, the factors belong to the
/// embedding, to experts (apply_adapter() merges those) or to tensors that the model does not have, or the model has an
/// adapter already.
template <class D, class T>
std::vector<std::string> load_gguf_adapter(Decoder<D, T>& model, const std::string& path);

KDLIB_NAMESPACE_END

#include "kdlib/checkpoint/gguf_adapter_inl.hpp"

#endif
