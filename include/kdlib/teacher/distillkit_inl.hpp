// SPDX-License-Identifier: Apache-2.0
// Bodies of distillkit.hpp.
#ifndef KDLIB_TEACHER_DISTILLKIT_INL_HPP
#define KDLIB_TEACHER_DISTILLKIT_INL_HPP

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "kdlib/io/jsonl.hpp"
#include "kdlib/teacher/distillkit.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC std::int64_t distillkit_width(DType type) { return static_cast<std::int64_t>(dtype_bits(type) / 8); }

/// The power of a term, or -1 for sqrt and -2 for exp. ConfigError: neither.
KDLIB_FUNC int distillkit_power(const std::string& term) {
  if (term == "sqrt") return -1;
  if (term == "exp") return -2;
  const bool number = !term.empty() && term.size() < 3 && term.find_first_not_of("0123456789") == std::string::npos;
  require<ConfigError>(number, "[distillkit] polynomial_terms has '", term,
                       "'; a term is a whole number from 0 to 99, sqrt or exp");
  return std::stoi(term);
}

/// Little-endian numbers of a type from `bytes`, moving on behind them.
class DistillKitBytes {
 public:
  explicit DistillKitBytes(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  double number(DType type) {
    if (type == DType::f64) return as<double>();
    if (type == DType::f16) return static_cast<double>(static_cast<float>(as<f16>()));
    if (type == DType::bf16) return static_cast<double>(static_cast<float>(as<bf16>()));
    return static_cast<double>(as<float>());
  }
  std::vector<std::uint32_t> packed(int bits, std::int64_t count) {
    const auto size = static_cast<std::size_t>((count * bits + 7) / 8);
    const auto part = bytes_.subspan(0, size);
    bytes_ = bytes_.subspan(size);
    return unpack_bits(part, bits, count);
  }

 private:
  template <class N>
  N as() {
    N value;
    std::memcpy(&value, bytes_.data(), sizeof value);
    bytes_ = bytes_.subspan(sizeof value);
    return value;
  }
  std::span<const std::uint8_t> bytes_;
};

}  // namespace detail

KDLIB_FUNC void DistillKitFormat::check() const {
  require<ConfigError>(vocabulary >= 2 && vocabulary <= (std::int64_t{1} << 24), "[distillkit] d is ", vocabulary,
                       "; it must be from 2 to 16777216");
  require<ConfigError>(top_k >= 1 && top_k <= vocabulary, "[distillkit] k is ", top_k, "; it must be from 1 to d ",
                       vocabulary);
  require<ConfigError>(exact_k >= 0 && exact_k <= top_k, "[distillkit] exact_k is ", exact_k,
                       "; it must be from 0 to k ", top_k);
  for (const DType type : {exact, term})
    require<ConfigError>(type == DType::f64 || type == DType::f32 || type == DType::f16 || type == DType::bf16,
                         "[distillkit] a type of the numbers is ", dtype_name(type),
                         "; it must be a floating-point one of 16 bits or more");
  for (const std::string& name : terms) static_cast<void>(detail::distillkit_power(name));
  std::int64_t covered = 0;
  for (const DistillKitBin& bin : bins) {
    require<ConfigError>(bin.bits >= 1 && bin.bits <= 16 && bin.elements >= 1, "[distillkit] a residual bin has ",
                         bin.elements, " elements of ", bin.bits, " bits; it needs some, of 1 to 16 bits");
    covered += bin.elements;
  }
  require<ConfigError>(covered <= top_k - exact_k, "[distillkit] the residual bins have ", covered, " elements for ",
                       top_k - exact_k, " values that are not exact");
}

KDLIB_FUNC std::int64_t DistillKitFormat::value_bytes() const {
  std::int64_t bytes = exact_k * detail::distillkit_width(exact);
  bytes += static_cast<std::int64_t>(terms.size()) * detail::distillkit_width(term);
  for (const DistillKitBin& bin : bins)
    bytes += detail::distillkit_width(bin.scale) + (bin.elements * bin.bits + 7) / 8;
  return bytes;
}

KDLIB_FUNC int DistillKitFormat::index_bits() const {
  int bits = 1;
  while ((std::int64_t{1} << bits) < vocabulary) ++bits;
  return bits;
}

KDLIB_FUNC std::int64_t DistillKitFormat::index_bytes() const { return (top_k * index_bits() + 7) / 8; }

KDLIB_FUNC std::vector<std::uint8_t> pack_bits(std::span<const std::uint32_t> values, int bits) {
  std::vector<std::uint8_t> out((values.size() * static_cast<std::size_t>(bits) + 7) / 8, 0);
  std::size_t at = 0;
  for (const std::uint32_t value : values)
    for (int b = bits; b-- > 0; ++at)
      if (((value >> b) & 1u) != 0) out[at / 8] = static_cast<std::uint8_t>(out[at / 8] | (0x80u >> (at % 8)));
  return out;
}

KDLIB_FUNC std::vector<std::uint32_t> unpack_bits(std::span<const std::uint8_t> bytes, int bits, std::int64_t count) {
  require<FormatError>(static_cast<std::int64_t>(bytes.size()) * 8 >= count * bits, "[distillkit] ", bytes.size(),
                       " bytes hold no ", count, " values of ", bits, " bits");
  std::vector<std::uint32_t> out(static_cast<std::size_t>(count), 0);
  std::size_t at = 0;
  for (std::uint32_t& value : out)
    for (int b = 0; b < bits; ++b, ++at) value = (value << 1) | ((bytes[at / 8] >> (7 - at % 8)) & 1u);
  return out;
}

KDLIB_FUNC std::vector<double> decode_distillkit_values(const DistillKitFormat& f,
                                                        std::span<const std::uint8_t> bytes) {
  require<FormatError>(static_cast<std::int64_t>(bytes.size()) == f.value_bytes(),
                       "[distillkit] compressed_logprobs of a token has ", bytes.size(), " bytes, the format has ",
                       f.value_bytes());
  detail::DistillKitBytes in(bytes);
  std::vector<double> out;
  for (std::int64_t i = 0; i < f.exact_k; ++i) out.push_back(in.number(f.exact));
  const std::int64_t rest = f.top_k - f.exact_k;
  std::vector<double> coefficients;
  std::vector<int> powers;
  for (const std::string& term : f.terms) {
    coefficients.push_back(in.number(f.term));
    powers.push_back(detail::distillkit_power(term));
  }
  for (std::int64_t i = 0; i < rest; ++i) {
    const double x = !f.normalize_t ? static_cast<double>(i)
                     : rest > 1     ? static_cast<double>(i) / static_cast<double>(rest - 1)
                                    : 0.0;
    double value = 0;
    for (std::size_t t = 0; t < f.terms.size(); ++t) {
      const int power = powers[t];
      value += coefficients[t] * (power == -1 ? std::sqrt(x) : power == -2 ? std::exp(x) : std::pow(x, power));
    }
    out.push_back(value);
  }
  std::size_t at = static_cast<std::size_t>(f.exact_k);
  for (const DistillKitBin& bin : f.bins) {
    const double scale = in.number(bin.scale);
    const std::int64_t least = -(std::int64_t{1} << (bin.bits - 1));
    for (const std::uint32_t code : in.packed(bin.bits, bin.elements))
      out[at++] += scale * (bin.bits == 1 ? 2.0 * code - 1 : static_cast<double>(std::int64_t{code} + least));
  }
  if (f.delta_encoding) std::partial_sum(out.begin(), out.end(), out.begin());
  return out;
}

KDLIB_FUNC std::vector<std::int32_t> decode_distillkit_ids(const DistillKitFormat& f,
                                                           std::span<const std::uint8_t> bytes) {
  require<FormatError>(static_cast<std::int64_t>(bytes.size()) == f.index_bytes(),
                       "[distillkit] bytepacked_indices of a token has ", bytes.size(), " bytes, the format has ",
                       f.index_bytes());
  std::vector<std::int32_t> out;
  for (const std::uint32_t id : unpack_bits(bytes, f.index_bits(), f.top_k)) {
    require<FormatError>(static_cast<std::int64_t>(id) < f.vocabulary, "[distillkit] an id is ", id, ", d is ",
                         f.vocabulary);
    out.push_back(static_cast<std::int32_t>(id));
  }
  return out;
}

KDLIB_NAMESPACE_END

#include "kdlib/teacher/distillkit_import_inl.hpp"

#endif
