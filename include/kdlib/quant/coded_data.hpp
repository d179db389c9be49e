// SPDX-License-Identifier: Apache-2.0
// Weights as codes with scales: what every packed format of this library is on the host, and the settings that choose
// one.
#ifndef KDLIB_QUANT_CODED_DATA_HPP
#define KDLIB_QUANT_CODED_DATA_HPP

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// Formats of packed weights; the bits are those of docs/formats.md.
enum class PackedKind : std::uint8_t { int4, nf4, fp4, mxfp4, int8, int3 };
/// int4, nf4, fp4, mxfp4, int8 or int3.
const char* packed_kind_name(PackedKind kind);
/// Bits of a code: 3, 4 or 8.
constexpr int code_bits(PackedKind kind) { return kind == PackedKind::int3 ? 3 : kind == PackedKind::int8 ? 8 : 4; }
/// ConfigError: no such kind.
PackedKind packed_kind(const std::string& name);

/// How integer codes are chosen in a group of w; amax = largest |w|, lo and hi the smallest and largest w, q in [-n, n
/// - 1], n = 2^(bits - 1), RNE = to nearest, ties to even. `symmetric` and `asymmetric` are torchao's of those names,
/// `affine` is its plain int4 layout.
enum class Int4Rule : std::uint8_t {
  symmetric,  // scale = max(amax / (n - 1/2), smallest normal float), q = clamp(RNE(w * (1 / scale))), value = q *
              // scale
  affine,  // scale = max(hi - lo, 1e-6) / (2n - 1), zero = lo + n scale, q = clamp(RNE((w - lo) / scale) - n), value =
           // q * scale + zero
  asymmetric  // lo, hi extended to 0; scale = (hi - lo) / (2n - 1), zero = clamp(-n - RNE(lo / scale)), q = clamp(RNE(w
              // * (1 / scale)) + zero), value = (q - zero) * scale
};
const char* int4_rule_name(Int4Rule rule);

/// The format that weights are rounded to.
struct QuantizeSettings {
  PackedKind kind = PackedKind::int4;
  std::int64_t group_size = 64;  // weights that share a scale: columns of a row (the last group may be short), for nf4
                                 // and fp4 of the flattened matrix; mxfp4: 32
  Int4Rule rule = Int4Rule::symmetric;  // of int3, int4, int8
  bool double_quantized = false;        // nf4, fp4: the scales themselves in 8 bits
};
/// ConfigError: settings that no format has.
void check_quantize_settings(const QuantizeSettings& settings);
/// "int4 symmetric, group 64"
std::string describe(const QuantizeSettings& settings);

/// A matrix [rows, columns] in codes; CodedRanges (backend/concepts.hpp) says how they are read.
struct CodedData {
  QuantizeSettings settings;
  std::int64_t rows = 0, columns = 0;
  std::vector<std::uint8_t> codes;        // [rows, row_bytes()]
  std::vector<float> scale, zero;         // one a group; scale is empty where small_scale holds it
  std::vector<std::uint8_t> small_scale;  // mxfp4: exponents; double quantised: indices into nested_map
  std::vector<float> nested_map, nested_scale;
  float nested_offset = 0;

  int bits() const { return code_bits(settings.kind); }
  /// Groups are counted through the flattened matrix, as bitsandbytes does, and cross row ends.
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

/// Encodes w [rows, columns] in parallel, each step rounded to float. ConfigError: settings that no format has;
/// FormatError: a weight is not finite.
CodedData encode_weights(const float* w, std::int64_t rows, std::int64_t columns, const QuantizeSettings& settings);

/// Value of a code of four bits (of three: the same 8 twice) before it is scaled; int8 has none.
std::array<float, 16> code_levels(PackedKind kind);

/// Codes of one row, one a byte, and back: `row` has row_bytes of CodedData.
void pack_codes(std::span<const std::uint8_t> codes, int bits, std::uint8_t* row);
void unpack_codes(const std::uint8_t* row, int bits, std::span<std::uint8_t> codes);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/quant/coded_data_inl.hpp"
#endif

#endif
