// SPDX-License-Identifier: Apache-2.0
// Bodies of coded_data.hpp.
#ifndef KDLIB_QUANT_CODED_DATA_INL_HPP
#define KDLIB_QUANT_CODED_DATA_INL_HPP

#include <cmath>
#include <cstring>

#include "kdlib/core/parallel.hpp"
#include "kdlib/quant/coded_data.hpp"
#include "kdlib/quant/four_bit_floats.hpp"
#include "kdlib/quant/integer_codes_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

inline constexpr const char* packed_kind_names[] = {"int4", "nf4", "fp4", "mxfp4", "int8", "int3"};
KDLIB_FUNC bool is_integer_kind(PackedKind kind) {
  return kind == PackedKind::int3 || kind == PackedKind::int4 || kind == PackedKind::int8;
}

KDLIB_FUNC void check_finite(const float* w, std::int64_t count, std::int64_t place, std::int64_t columns) {
  bool finite = true;
  for (std::int64_t i = 0; i < count; ++i) finite = finite && std::isfinite(w[i]);
  require<FormatError>(finite, "[encode_weights] a weight is not finite, in the ", count, " from row ", place / columns,
                       ", column ", place % columns, " on");
}

/// Codes and factors of one group; returns its scale byte where the kind has one.
KDLIB_FUNC std::uint8_t encode_group(const float* w, std::int64_t count, bool last, const CodedData& data,
                                     std::uint8_t* codes, GroupFactors& factors) {
  switch (data.settings.kind) {
    case PackedKind::nf4:
      factors.scale = encode_nf4_block(w, count, last, codes);
      return 0;
    case PackedKind::fp4:
      factors.scale = encode_fp4_block(w, count, last, codes);
      return 0;
    case PackedKind::mxfp4:
      return encode_mxfp4_block(w, count, MxScale::floor, codes);
    default:
      factors = encode_integers(w, count, data.bits(), data.settings.rule, reinterpret_cast<std::int8_t*>(codes));
      return 0;
  }
}

KDLIB_FUNC void put_group(CodedData& data, std::int64_t at, std::uint8_t small, const GroupFactors& factors) {
  const auto i = static_cast<std::size_t>(at);
  if (data.settings.kind == PackedKind::mxfp4) data.small_scale[i] = small;
  else data.scale[i] = factors.scale;
  if (!data.zero.empty()) data.zero[i] = factors.zero;
}

KDLIB_FUNC void encode_rows(const float* w, CodedData& data, std::int64_t begin, std::int64_t end) {
  const std::int64_t k = data.columns, group = data.settings.group_size, groups = data.row_groups();
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(k));
  for (std::int64_t r = begin; r < end; ++r) {
    for (std::int64_t g = 0; g < groups; ++g) {
      const std::int64_t count = (g + 1) * group > k ? k - g * group : group;
      GroupFactors factors;
      check_finite(w + r * k + g * group, count, r * k + g * group, k);
      const std::uint8_t small =
          encode_group(w + r * k + g * group, count, false, data, codes.data() + g * group, factors);
      put_group(data, r * groups + g, small, factors);
    }
    pack_codes(codes, data.bits(), data.codes.data() + r * data.row_bytes());
  }
}

/// Groups through the flattened matrix, codes by row afterwards.
KDLIB_FUNC void encode_crossing(const float* w, CodedData& data) {
  const std::int64_t n = data.rows * data.columns, group = data.settings.group_size;
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(n));
  parallel_for(data.groups(), 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t g = begin; g < end; ++g) {
      const std::int64_t first = g * group, count = first + group > n ? n - first : group;
      GroupFactors factors;
      check_finite(w + first, count, first, data.columns);
      const std::uint8_t small = encode_group(w + first, count, count < group, data, codes.data() + first, factors);
      put_group(data, g, small, factors);
    }
  });
  for (std::int64_t r = 0; r < data.rows; ++r)
    pack_codes(std::span<const std::uint8_t>(codes).subspan(static_cast<std::size_t>(r * data.columns),
                                                            static_cast<std::size_t>(data.columns)),
               data.bits(), data.codes.data() + r * data.row_bytes());
}

}  // namespace detail

KDLIB_FUNC const char* packed_kind_name(PackedKind kind) {
  return detail::packed_kind_names[static_cast<std::size_t>(kind)];
}
KDLIB_FUNC PackedKind packed_kind(const std::string& name) {
  for (std::uint8_t k = 0; k < 6; ++k)
    if (name == detail::packed_kind_names[k]) return static_cast<PackedKind>(k);
  fail<ConfigError>("[packed_kind] \"", name, "\" is unknown; it can be int4, nf4, fp4, mxfp4, int8 or int3");
}
KDLIB_FUNC const char* int4_rule_name(Int4Rule rule) {
  return rule == Int4Rule::symmetric ? "symmetric" : rule == Int4Rule::affine ? "affine" : "asymmetric";
}

KDLIB_FUNC void check_quantize_settings(const QuantizeSettings& s) {
  const bool integer = detail::is_integer_kind(s.kind);
  require<ConfigError>(s.group_size > 0, "[quantize] groups of ", s.group_size, " are not possible");
  require<ConfigError>(integer || s.rule == Int4Rule::symmetric, "[quantize] the rule ", int4_rule_name(s.rule),
                       " belongs to int3, int4 and int8, not to ", packed_kind_name(s.kind));
  require<ConfigError>(s.kind != PackedKind::mxfp4 || s.group_size == 32, "[quantize] mxfp4 has blocks of 32, not of ",
                       s.group_size);
  const bool table = s.kind == PackedKind::nf4 || s.kind == PackedKind::fp4;
  require<ConfigError>(
      !table || (s.group_size >= 32 && s.group_size <= 4096 && (s.group_size & (s.group_size - 1)) == 0), "[quantize] ",
      packed_kind_name(s.kind), " has blocks of a power of two from 32 to 4096, not of ", s.group_size);
  require<ConfigError>(table || !s.double_quantized, "[quantize] double quantisation belongs to nf4 and fp4, not to ",
                       packed_kind_name(s.kind));
}

KDLIB_FUNC std::string describe(const QuantizeSettings& s) {
  std::string out = packed_kind_name(s.kind);
  if (detail::is_integer_kind(s.kind)) out += std::string(" ") + int4_rule_name(s.rule);
  out += ", group " + std::to_string(s.group_size);
  return s.double_quantized ? out + ", scales in 8 bits" : out;
}

KDLIB_FUNC std::array<float, 16> code_levels(PackedKind kind) {
  switch (kind) {
    case PackedKind::nf4:
      return nf4_levels();
    case PackedKind::fp4:
      return fp4_levels();
    case PackedKind::mxfp4:
      return e2m1_levels();
    case PackedKind::int3:
      return {0, 1, 2, 3, -4, -3, -2, -1, 0, 1, 2, 3, -4, -3, -2, -1};
    default:
      return {0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1};
  }
}

KDLIB_FUNC void pack_codes(std::span<const std::uint8_t> codes, int bits, std::uint8_t* row) {
  for (std::size_t begin = 0; begin < codes.size(); begin += 8, row += bits) {
    std::uint64_t word = 0;
    for (std::size_t i = 0; i < 8 && begin + i < codes.size(); ++i)
      word |= static_cast<std::uint64_t>(codes[begin + i] & ((1u << bits) - 1)) << (static_cast<std::size_t>(bits) * i);
    for (int b = 0; b < bits; ++b) row[b] = static_cast<std::uint8_t>(word >> (8 * b));
  }
}
KDLIB_FUNC void unpack_codes(const std::uint8_t* row, int bits, std::span<std::uint8_t> codes) {
  for (std::size_t begin = 0; begin < codes.size(); begin += 8, row += bits) {
    std::uint64_t word = 0;
    for (int b = 0; b < bits; ++b) word |= static_cast<std::uint64_t>(row[b]) << (8 * b);
    for (std::size_t i = 0; i < 8 && begin + i < codes.size(); ++i)
      codes[begin + i] = static_cast<std::uint8_t>(word >> (static_cast<std::size_t>(bits) * i) & ((1u << bits) - 1));
  }
}

KDLIB_FUNC CodedData encode_weights(const float* w, std::int64_t rows, std::int64_t columns,
                                    const QuantizeSettings& settings) {
  check_quantize_settings(settings);
  CodedData out;
  out.settings = settings;
  out.rows = rows;
  out.columns = columns;
  out.codes.resize(static_cast<std::size_t>(rows * out.row_bytes()));
  const auto groups = static_cast<std::size_t>(out.groups());
  if (settings.kind == PackedKind::mxfp4) out.small_scale.resize(groups);
  else out.scale.resize(groups);
  if (detail::is_integer_kind(settings.kind) && settings.rule != Int4Rule::symmetric) out.zero.resize(out.scale.size());
  if (out.crossing()) detail::encode_crossing(w, out);
  else
    parallel_for(rows, 1 + 4096 / (columns + 1),
                 [&](std::int64_t begin, std::int64_t end) { detail::encode_rows(w, out, begin, end); });
  if (!settings.double_quantized) return out;
  NestedScales nested = nest_scales(out.scale);
  out.scale.clear();
  out.small_scale = std::move(nested.codes);
  out.nested_scale = std::move(nested.block_scale);
  out.nested_map.assign(dynamic_map().begin(), dynamic_map().end());
  out.nested_offset = nested.offset;
  return out;
}

KDLIB_NAMESPACE_END

#endif
