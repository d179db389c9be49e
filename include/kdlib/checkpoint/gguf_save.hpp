// SPDX-License-Identifier: Apache-2.0
// Saves a model with its tokenizer as one GGUF file that llama.cpp reads.
#ifndef KDLIB_CHECKPOINT_GGUF_SAVE_HPP
#define KDLIB_CHECKPOINT_GGUF_SAVE_HPP

#include <string>
#include <vector>

#include "kdlib/io/gguf_types.hpp"
#include "kdlib/model/decoder.hpp"
#include "kdlib/text/byte_level_bpe.hpp"

KDLIB_NAMESPACE_BEGIN

/// Settings of save_gguf().
struct GgufSaveSettings {
  /// The type of matrices: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0 or Q5_1; or MXFP4 for the experts of a mixture, with
  /// BF16 for all other matrices. Vectors, norms, biases, routers and sinks are always F32. A matrix whose rows do not
  /// divide into blocks is written as F16.
  GgufType type = GgufType::f16;
  std::string name{};  // the key general.name; empty: left out
};

/// ConfigError, naming the setting: other readers of GGUF would silently compute something else, because the format has
/// no place for the setting. Such settings are windows of Qwen2, a norm_topk_prob or a clamp (gpt-oss) that differs
/// from the one of the architecture, and scalings of frequencies that have no key.
void check_gguf_config(const DecoderConfig& config);

/// Writes the file `path`. If `tokenizer` is nullptr, the file has no tokenizer (tokenizer.ggml.model "none"). Values
/// are rounded once, from the values of the model (quant/gguf_encode.hpp). Returns notes: settings that the format has
/// no place for, and matrices that are F16 instead of the type that was asked for. The file appears complete or not at
/// all. ConfigError: an adapter is not merged, the type is not written, or as check_gguf_config().
template <class D, class T>
std::vector<std::string> save_gguf(const Decoder<D, T>& model, const Tokenizer* tokenizer, const std::string& path,
                                   const GgufSaveSettings& settings = {});

KDLIB_NAMESPACE_END

#include "kdlib/checkpoint/gguf_save_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/gguf_metadata_inl.hpp"
#endif

#endif
