// SPDX-License-Identifier: Apache-2.0
// Weights as codes with scales: the form that every packed format of this library has on the host, and the settings
// that choose a format.
#ifndef KDLIB_QUANT_CODED_DATA_HPP
#define KDLIB_QUANT_CODED_DATA_HPP

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// Formats of packed weights. docs/formats.md describes their bits.
enum class PackedKind : std::uint8_t { int4, nf4, fp4, mxfp4, int8, int3 };
/// Returns int4, nf4, fp4, mxfp4, int8 or int3.
const char* packed_kind_name(PackedKind kind);
/// Number of bits of a code: 3, 4 or 8.
constexpr int code_bits(PackedKind kind) { return kind == PackedKind::int3 ? 3 : kind == PackedKind::int8 ? 8 : 4; }
/// Returns the kind of that name. Throws ConfigError if there is no such kind.
PackedKind packed_kind(const std::string& name);

/// How integer codes q in [-n, n - 1], n = 2^(bits - 1), are chosen in a group of weights w. amax is the largest |w|;
/// lo and hi are the smallest and largest w; RNE rounds to nearest, ties to even; tiny is the smallest normal float.
/// `symmetric` and `asymmetric` are torchao's rules of those names; `affine` is torchao's plain int4 layout.
enum class Int4Rule : std::uint8_t {
  /// scale = max(amax / (n - 1/2), tiny), q = clamp(RNE(w * (1 / scale))), value = q * scale.
  symmetric,
  /// scale = max(hi - lo, 1e-6) / (2n - 1), zero = lo + n scale, q = clamp(RNE((w - lo) / scale) - n), value = q *
  /// scale + zero.
  affine,
  /// lo and hi are extended to include 0; scale = max((hi - lo) / (2n - 1), tiny), zero = clamp(-n - RNE(lo / scale)),
  /// q = clamp(RNE(w * (1 / scale)) + zero), value = (q - zero) * scale.
  asymmetric
};
const char* int4_rule_name(Int4Rule rule);

/// The format to which weights are rounded.
struct QuantizeSettings {
  PackedKind kind = PackedKind::int4;
  /// Number of weights that share a scale: columns of a row (the last group of a row may be shorter). For nf4 and fp4
  /// the groups run through the flattened matrix, and the size is a power of two from 32 to 4096. For mxfp4 it must be
  /// 32.
  std::int64_t group_size = 64;
  Int4Rule rule = Int4Rule::symmetric;  // of int3, int4 and int8
  bool double_quantized = false;        // for nf4 and fp4: the scales have 8 bits, too
};
/// Throws ConfigError for settings that no format has.
void check_quantize_settings(const QuantizeSettings& settings);
/// Describes the settings, as in "int4 symmetric, group 64".
std::string describe(const QuantizeSettings& settings);

/// A matrix [rows, columns] in codes. CodedRanges (backend/concepts.hpp) says how the codes are read.
struct CodedData {
  QuantizeSettings settings;
  std::int64_t rows = 0, columns = 0;
  std::vector<std::uint8_t> codes;        // [rows, row_bytes()]
  std::vector<float> scale, zero;         // [groups()]; scale is empty where small_scale holds it
  std::vector<std::uint8_t> small_scale;  // [groups()], mxfp4: exponents; double quantised: indices into nested_map
  std::vector<float> nested_map, nested_scale;
  float nested_offset = 0;

  int bits() const { return code_bits(settings.kind); }
  /// True if the groups, counted through the flattened matrix as in bitsandbytes, cross the ends of rows.
  bool crossing() const {
    return (settings.kind == PackedKind::nf4 || settings.kind == PackedKind::fp4) && columns % settings.group_size != 0;
  }
  std::int64_t row_bytes() const { return (columns + 7) / 8 * bits(); }
  std::int64_t row_groups() const { return (columns + settings.group_size - 1) / settings.group_size; }
  std::int64_t groups() const {
    return crossing() ? (rows * columns + settings.group_size - 1) / settings.group_size : rows * row_groups();
  }
};

namespace detail {
/// True for the kinds whose codes are integers: int3, int4 and int8.
bool is_integer_kind(PackedKind kind);
}  // namespace detail

/// Encodes w [rows, columns] in parallel; each operation is rounded to float. Throws ConfigError for settings that no
/// format has, FormatError for a weight that is not finite.
CodedData encode_weights(const float* w, std::int64_t rows, std::int64_t columns, const QuantizeSettings& settings);

/// Returns the values of the codes before scaling. A kind of three bits has its 8 values twice. int8 has no such table.
std::array<float, 16> code_levels(PackedKind kind);

/// Pack the codes of one row, given one in each byte, and unpack them. `row` has row_bytes() of CodedData.
void pack_codes(std::span<const std::uint8_t> codes, int bits, std::uint8_t* row);
void unpack_codes(const std::uint8_t* row, int bits, std::span<std::uint8_t> codes);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/quant/coded_data_inl.hpp"
#endif

#endif
