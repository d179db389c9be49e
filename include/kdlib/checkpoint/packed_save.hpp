// SPDX-License-Identifier: Apache-2.0
// Saves a decoder with packed linear maps as a Hugging Face directory that holds the codes and scales unchanged:
// Decoder::from_pretrained() gives the same bits back.
#ifndef KDLIB_CHECKPOINT_PACKED_SAVE_HPP
#define KDLIB_CHECKPOINT_PACKED_SAVE_HPP

#include <optional>
#include <string>

#include "kdlib/checkpoint/packed_format.hpp"
#include "kdlib/model/decoder.hpp"

KDLIB_NAMESPACE_BEGIN

/// Settings of save_packed().
struct PackedSaveSettings {
  /// The form that is written. Empty: bitsandbytes for nf4 and fp4; torchao for int4 affine if the groups divide every
  /// row; else kdlib.
  std::optional<PackedForm> form{};
  /// The dtype of all that is not packed (embedding, head, norms, biases): float32, bfloat16 or float16. Empty:
  /// config().dtype if that dtype keeps every value exactly, else float32.
  std::string dtype{};
  /// Largest size of a file in bytes. A larger model gets several files and an index; the tensors of one weight stay in
  /// one file.
  std::int64_t shard_bytes = std::int64_t{5} << 30;
  /// How tables (embedding, head) are written that the file of the model holds in blocks (Q8_0, Q4_K, ...) and whose
  /// values have not changed. true: these blocks are written as they are (docs/formats.md, kdlib_stored), which
  /// transformers does not read. false: numbers are written. Empty: true if the form is kdlib, which transformers does
  /// not read anyway, and `dtype` is empty; else false.
  std::optional<bool> stored_tables{};
  /// true: an adapter that is not inside the codes is left out, and the base that the adapter belongs to is written.
  /// false: such a model is refused.
  bool without_adapter = false;
};

/// What save_packed() wrote.
struct PackedSaveReport {
  PackedForm form = PackedForm::kdlib;
  std::string dtype;          // dtype of all that is not packed
  std::int64_t matrices = 0;  // linear maps that are packed
  std::int64_t stored = 0;    // tables that are written in the blocks of the model's file
  std::int64_t bytes = 0;     // size of all tensors
};

/// Writes config.json with its quantization_config, and the weights. Linear maps with codes (from quantize_linear,
/// quantize_student or a packed directory) are written packed, and all other weights as by save_pretrained(). The state
/// of bitsandbytes gets the dtype float32, and the scales and zeros of torchao are F32, so that the saved values are
/// those that were trained. ConfigError: the model is a mixture of experts; no map has codes, or maps have different
/// settings; an adapter is not inside the codes; or the form cannot hold these codes exactly.
template <class D, class T>
PackedSaveReport save_packed(Decoder<D, T>& model, const std::string& directory,
                             const PackedSaveSettings& settings = {});

KDLIB_NAMESPACE_END

#include "kdlib/checkpoint/packed_save_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/packed_layout_inl.hpp"
#endif

#endif
