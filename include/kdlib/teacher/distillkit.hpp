// SPDX-License-Identifier: Apache-2.0
// Turns a teacher's signal in the format of DistillKit into a teacher's cache of kdlib. The compressed
// log-probabilities and packed ids of DistillKit's data sets are read from JSON lines.
#ifndef KDLIB_TEACHER_DISTILLKIT_HPP
#define KDLIB_TEACHER_DISTILLKIT_HPP

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kdlib/core/dtype.hpp"
#include "kdlib/teacher/cache_writer.hpp"

KDLIB_NAMESPACE_BEGIN

/// A residual bin: corrections that are added to the polynomial's values, in order. A bin is stored as one scale, then
/// `elements` codes of `bits` bits each.
struct DistillKitBin {
  DType scale = DType::f32;
  int bits = 8;  // 1 to 16
  std::int64_t elements = 0;
};

/// The configuration file that accompanies such data. Each token has K falling log-probabilities. The first `exact_k`
/// are stored as they are; each of the others is the value of a polynomial at x, its number among them, plus a
/// correction from the bins.
struct DistillKitFormat {
  std::int64_t vocabulary = 0;       // d, 2 to 2^24
  std::int64_t top_k = 0;            // K, 1 to d
  std::int64_t exact_k = 0;          // 0 to k
  DType exact = DType::f32;          // f64, f32, f16 or bf16
  std::vector<std::string> terms{};  // terms of the polynomial: powers from 0 to 99 as text, "sqrt", "exp"
  DType term = DType::f32;
  std::vector<DistillKitBin> bins{};
  bool delta_encoding = false;  // true: each value after the first is stored as the difference to the one before
  bool normalize_t = false;     // true: x runs from 0 to 1; false: x is 0, 1, 2, ...

  /// Throws ConfigError, naming the key, if a value is out of its range.
  void check() const;
  /// Bytes that the log-probabilities (value_bytes) and the ids (index_bytes) of one token take.
  std::int64_t value_bytes() const;
  std::int64_t index_bytes() const;
  /// Bits of one id: ceil(log2(d)).
  int index_bits() const;
};

/// Packs each value into `bits` bits, the highest bit first. The last byte is filled up with zeros. Example: [5, 3] in
/// 3 bits each gives the byte AC (hexadecimal).
std::vector<std::uint8_t> pack_bits(std::span<const std::uint32_t> values, int bits);
/// Reverses pack_bits() for `count` values. FormatError: there are too few bytes.
std::vector<std::uint32_t> unpack_bits(std::span<const std::uint8_t> bytes, int bits, std::int64_t count);

/// Returns the K log-probabilities of one token. FormatError: `bytes` does not have value_bytes() bytes.
std::vector<double> decode_distillkit_values(const DistillKitFormat& format, std::span<const std::uint8_t> bytes);
/// Returns the K ids of one token. FormatError: `bytes` does not have index_bytes() bytes, or an id is not below d.
std::vector<std::int32_t> decode_distillkit_ids(const DistillKitFormat& format, std::span<const std::uint8_t> bytes);

/// Writes a cache of kind logprobs in float32 at temperature 1 into the folder `out`. Each line of the JSON lines file
/// has `input_ids` and either `compressed_logprobs` and `bytepacked_indices` (lists of bytes) or `top_values` and
/// `top_indices` (numbers), with one entry for each token or for each token but the last. Entry i predicts token i + 1.
/// `loss_mask` says which tokens count; without a mask all tokens but the first count. The cache keeps teacher,
/// tokenizer and dataset of `facts`; its vocabulary is that of the format. Log-probabilities that the compression left
/// out of order are sorted again. If the probabilities of a row add up to more than 1, they are divided by their sum; a
/// sum above 1.05 is refused. The log-probability of the label is NaN if the label is not among the K tokens. `segment`
/// is the number of documents in a file. InputError and FormatError name file, line and key.
CacheMeta import_distillkit(const std::string& file, const DistillKitFormat& format, const std::string& out,
                            CacheFacts facts = {}, std::int64_t segment = 256);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/distillkit_inl.hpp"
#endif

#endif
