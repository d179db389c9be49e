// SPDX-License-Identifier: Apache-2.0
// LoRA adapters as GGUF files, in the form that llama.cpp reads and writes (general.type "adapter").
#ifndef KDLIB_CHECKPOINT_GGUF_ADAPTER_HPP
#define KDLIB_CHECKPOINT_GGUF_ADAPTER_HPP

#include <string>
#include <vector>

#include "kdlib/model/adapter.hpp"

KDLIB_NAMESPACE_BEGIN

/// How save_gguf_adapter writes.
struct GgufAdapterSettings {
  std::string dtype = "float32";  // or bfloat16, float16
  std::string name{};             // general.name; empty: left out
};

/// Writes the factors of the model's adapter: general.architecture, adapter.type "lora", adapter.lora.alpha, and for
/// each adapted map <tensor of the base>.lora_a [rank, in] and .lora_b [out, rank]. Rows of B stand as the rows of the
/// base tensor do (interleaved heads of architecture llama). Readers multiply by alpha / rank with one alpha for all
/// maps: where s * rank differs from map to map, B takes the factor, and a note says so. Answers notes. ConfigError: no
/// adapter, another dtype. IoError: as AtomicFile.
template <class D, class T>
std::vector<std::string> save_gguf_adapter(Decoder<D, T>& model, const std::string& path,
                                           const GgufAdapterSettings& settings = {});

/// Reads such a file as load_adapter() reads PEFT's directory: the factors are trainable, all else is frozen. Answers
/// notes. FormatError or ConfigError name file, key or tensor: another kind of file or adapter, another architecture, a
/// factor without its partner, shapes that do not fit, values that are not finite, factors of the embedding, of experts
/// (apply_adapter() merges those) or of tensors that the model does not have.
template <class D, class T>
std::vector<std::string> load_gguf_adapter(Decoder<D, T>& model, const std::string& path);

KDLIB_NAMESPACE_END

#include "kdlib/checkpoint/gguf_adapter_inl.hpp"

#endif
