// SPDX-License-Identifier: Apache-2.0
// A decoder with packed linear maps as a Hugging Face directory that holds codes and scales as they are:
// from_pretrained gives the same bits back.
#ifndef KDLIB_CHECKPOINT_PACKED_SAVE_HPP
#define KDLIB_CHECKPOINT_PACKED_SAVE_HPP

#include <optional>
#include <string>

#include "kdlib/checkpoint/packed_format.hpp"
#include "kdlib/model/decoder.hpp"

KDLIB_NAMESPACE_BEGIN

/// How save_packed writes.
struct PackedSaveSettings {
  /// Empty: bitsandbytes for nf4 and fp4; torchao for int4 affine where groups divide every row; else kdlib.
  std::optional<PackedForm> form{};
  /// Of what is not packed (embedding, head, norms, biases): float32, bfloat16, float16; empty: config().dtype where it
  /// keeps every value, else float32.
  std::string dtype{};
  std::int64_t shard_bytes =
      std::int64_t{5} << 30;  // a file above this is split, with an index; the tensors of one weight stay together
  /// Tables (embedding, head) that stand in blocks in the file the model came from (Q8_0, Q4_K, ...) and have the same
  /// values still: true writes these blocks as they are (docs/formats.md, kdlib_stored), which transformers does not
  /// read; false writes numbers. Empty: true in the form of kdlib, which transformers does not read anyway, without
  /// dtype.
  std::optional<bool> stored_tables{};
  /// An adapter beside the codes is left out: what is written is the base that the adapter belongs to. Else such a
  /// model is refused.
  bool without_adapter = false;
};

/// What save_packed wrote.
struct PackedSaveReport {
  PackedForm form = PackedForm::kdlib;
  std::string dtype;          // of what is not packed
  std::int64_t matrices = 0;  // that are packed
  std::int64_t stored = 0;    // tables that are written in their file's blocks
  std::int64_t bytes = 0;     // of all tensors
};

/// Writes config.json with its quantization_config, and the weights. Linear maps with codes (quantize_linear,
/// quantize_student, a packed directory) are written packed, others as save_pretrained does. bitsandbytes' state has
/// the dtype float32 and torchao's scales and zeros are F32, so that values are those that were trained. ConfigError: a
/// mixture of experts; no map with codes, or maps of different settings; an adapter that is not inside the codes; a
/// form that cannot hold these codes exactly.
template <class D, class T>
PackedSaveReport save_packed(Decoder<D, T>& model, const std::string& directory,
                             const PackedSaveSettings& settings = {});

KDLIB_NAMESPACE_END

#include "kdlib/checkpoint/packed_save_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/packed_layout_inl.hpp"
#endif

#endif
