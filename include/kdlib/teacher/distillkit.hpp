// SPDX-License-Identifier: Apache-2.0
// Teachers' signals in DistillKit's form as a teacher's cache of kdlib: the compressed log-probabilities and packed ids
// of its data sets, read from JSON lines.
#ifndef KDLIB_TEACHER_DISTILLKIT_HPP
#define KDLIB_TEACHER_DISTILLKIT_HPP

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kdlib/core/dtype.hpp"
#include "kdlib/teacher/cache_writer.hpp"

KDLIB_NAMESPACE_BEGIN

/// What is added to the polynomial, in order: one scale, then `elements` values of `bits` bits.
struct DistillKitBin {
  DType scale = DType::f32;
  int bits = 8;  // 1 to 16
  std::int64_t elements = 0;
};

/// The configuration that stands beside such data. The K log-probabilities of a token, falling: `exact_k` of them as
/// they are, the others as a polynomial in their number and what the bins add.
struct DistillKitFormat {
  std::int64_t vocabulary = 0;       // d
  std::int64_t top_k = 0;            // k
  std::int64_t exact_k = 0;          // 0 to k
  DType exact = DType::f32;          // f64, f32, f16 or bf16
  std::vector<std::string> terms{};  // whole numbers (powers), "sqrt", "exp"
  DType term = DType::f32;
  std::vector<DistillKitBin> bins{};
  bool delta_encoding = false;  // the first value, then differences
  bool normalize_t = false;     // x from 0 to 1, else 0, 1, 2, ...

  /// ConfigError naming the key.
  void check() const;
  /// Bytes of one token's log-probabilities and of its ids.
  std::int64_t value_bytes() const;
  std::int64_t index_bytes() const;
  /// Bits of an id: ceil(log2(d)).
  int index_bits() const;
};

/// `values` in `bits` bits each, the highest bit first, the last byte filled with zeros. [5, 3] in 3 bits: AC.
std::vector<std::uint8_t> pack_bits(std::span<const std::uint32_t> values, int bits);
/// `count` values. FormatError where the bytes end before.
std::vector<std::uint32_t> unpack_bits(std::span<const std::uint8_t> bytes, int bits, std::int64_t count);

/// The K log-probabilities of one token. FormatError: not value_bytes() bytes.
std::vector<double> decode_distillkit_values(const DistillKitFormat& format, std::span<const std::uint8_t> bytes);
/// Its K ids. FormatError: not index_bytes() bytes, or an id that is not below d.
std::vector<std::int32_t> decode_distillkit_ids(const DistillKitFormat& format, std::span<const std::uint8_t> bytes);

/// Writes a cache of kind logprobs in float32, temperature 1, from JSON lines with `input_ids` and, for each token but
/// the last (or for each), `compressed_logprobs` and `bytepacked_indices` (lists of bytes), or `top_values` and
/// `top_indices` as numbers; entry i predicts token i + 1. `loss_mask` says which tokens count, else all but the first.
/// Of `facts` teacher, tokenizer and dataset are kept, the vocabulary is the format's. What the form lost of the order
/// is sorted again; a sum of probabilities between 1 and 1.05 is divided out, more is refused. The label's
/// log-probability is NaN where it is not among the K. InputError and FormatError name file, line and key.
CacheMeta import_distillkit(const std::string& file, const DistillKitFormat& format, const std::string& out,
                            CacheFacts facts = {}, std::int64_t segment = 256);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/distillkit_inl.hpp"
#endif

#endif
