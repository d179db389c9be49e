// SPDX-License-Identifier: Apache-2.0
// Bodies of io/safetensors.hpp.
#ifndef KDLIB_IO_SAFETENSORS_INL_HPP
#define KDLIB_IO_SAFETENSORS_INL_HPP

#include <algorithm>
#include <cstring>
#include <numeric>

#include "kdlib/io/json.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/io/safetensors.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

inline constexpr std::uint64_t safetensors_header_limit = 100'000'000;

/// A tensor while the header is checked.
struct SafetensorsEntry {
  TensorInfo info;
  std::uint64_t begin = 0, end = 0;  // relative to the data
};

template <class... Parts>
[[noreturn]] void fail_safetensors(const std::string& name, const char* rule, const Parts&... parts) {
  fail<FormatError>("[safetensors] ", name, ": ", parts..., " (", rule, ")");
}

/// {"dtype":..., "shape":[...], "data_offsets":[begin, end]} and nothing else. Type errors come from Json.
KDLIB_FUNC SafetensorsEntry read_safetensors_entry(std::string_view tensor, const Json& json) {
  SafetensorsEntry entry;
  entry.info.name = tensor;
  for (const auto& [key, value] : json.members())
    if (key != "dtype" && key != "shape" && key != "data_offsets") value.refuse("is no part of a tensor's entry");
  const Json dtype = json.at("dtype"), shape = json.at("shape"), offsets = json.at("data_offsets");
  const std::optional<DType> parsed = parse_dtype(dtype.as_string());
  if (!parsed) dtype.refuse(concat("is \"", printable(dtype.as_string()), "\", an unknown element type"));
  entry.info.dtype = *parsed;
  if (!shape.is_array()) shape.refuse("is not an array");
  for (const Json& extent : shape) entry.info.extents.push_back(extent.as_uint());
  if (!offsets.is_array() || offsets.size() != 2) offsets.refuse("is not an array of two integers");
  entry.begin = offsets[0].as_uint();
  entry.end = offsets[1].as_uint();
  return entry;
}

KDLIB_FUNC std::vector<SafetensorsEntry> read_safetensors_header(std::string_view text, const std::string& name,
                                                                 SafetensorsHeader& header) {
  std::vector<SafetensorsEntry> entries;
  try {
    const Json json = Json::parse(std::string(text), "header");
    if (!json.is_object()) json.refuse("is not an object");
    for (const auto& [key, value] : json.members()) {
      if (!value.is_object()) value.refuse("is not an object");
      if (key == "__metadata__") {
        for (const auto& [k, v] : value.members()) header.metadata.emplace_back(k, v.as_string());
      } else {
        entries.push_back(read_safetensors_entry(key, value));
      }
    }
  } catch (const FormatError& error) {
    fail_safetensors(name, "InvalidHeaderDeserialization", "behind byte 8: ", error.what());
  }
  return entries;
}

/// Checks one tensor against the end of the one before it; answers its own end.
KDLIB_FUNC std::uint64_t check_safetensors_entry(const SafetensorsEntry& e, std::uint64_t expected_begin,
                                                 const std::string& name) {
  const auto place = [&] {
    return concat("tensor \"", printable(e.info.name), "\" at [", e.begin, ", ", e.end, "): ");
  };
  if (e.begin != expected_begin) {
    fail_safetensors(name, "InvalidOffset", place(),
                     e.begin < expected_begin ? "overlaps the one before it" : "leaves a hole before it",
                     ", it must begin at ", expected_begin);
  }
  if (e.end < e.begin) fail_safetensors(name, "InvalidOffset", place(), "ends before it begins");
  std::uint64_t bits = 1;
  bool overflow = false;
  for (const std::uint64_t extent : e.info.extents) overflow = __builtin_mul_overflow(bits, extent, &bits) || overflow;
  overflow = __builtin_mul_overflow(bits, std::uint64_t{dtype_bits(e.info.dtype)}, &bits) || overflow;
  if (overflow) fail_safetensors(name, "ValidationOverflow", place(), "the product of its shape is beyond 64 bits");
  if (bits % 8 != 0) fail_safetensors(name, "MisalignedSlice", place(), bits, " bits are no whole number of bytes");
  if (e.end - e.begin != bits / 8) {
    fail_safetensors(name, "TensorInvalidInfo", place(), "its shape and type need ", bits / 8,
                     " bytes, the offsets give ", e.end - e.begin);
  }
  return e.end;
}

template <class Get>
std::vector<std::uint32_t> order_by_name(std::size_t n, const Get& name_of) {
  std::vector<std::uint32_t> order(n);
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) { return name_of(a) < name_of(b); });
  return order;
}

[[noreturn]] KDLIB_FUNC void fail_missing_tensor(const std::string& file, std::string_view name, std::size_t count,
                                                 const std::string& example) {
  fail<FormatError>("[safetensors] ", file, ": tensor \"", printable(name), "\" is missing among its ", count,
                    " tensors", count == 0 ? std::string() : concat(" (one of them: \"", printable(example), "\")"));
}

}  // namespace detail

KDLIB_FUNC SafetensorsHeader parse_safetensors(std::span<const std::byte> file, const std::string& name) {
  using detail::fail_safetensors;
  if (file.size() < 8)
    fail_safetensors(name, "HeaderTooSmall", file.size(), " bytes are too few, the length alone takes 8");
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  if (length > detail::safetensors_header_limit) {
    fail_safetensors(name, "HeaderTooLarge", "bytes 0 to 7 give a header of ", length, " bytes, the limit is ",
                     detail::safetensors_header_limit);
  }
  if (length > file.size() - 8) {
    fail_safetensors(name, "InvalidHeaderLength", "bytes 0 to 7 give a header of ", length, " bytes, only ",
                     file.size() - 8, " follow; the file was cut off or is not safetensors");
  }
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, static_cast<std::size_t>(length));
  if (const std::size_t at = find_invalid_utf8(text); at != std::string_view::npos) {
    fail_safetensors(name, "InvalidHeader", "byte ", at + 8, " of the header is not valid UTF-8");
  }
  SafetensorsHeader header;
  std::vector<detail::SafetensorsEntry> entries = detail::read_safetensors_header(text, name, header);
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return a.begin != b.begin ? a.begin < b.begin : a.end < b.end; });
  std::uint64_t end = 0;
  for (const auto& entry : entries) end = detail::check_safetensors_entry(entry, end, name);
  const std::span<const std::byte> data = file.subspan(8 + static_cast<std::size_t>(length));
  if (end != data.size()) {
    fail_safetensors(name, "MetadataIncompleteBuffer", "the tensors take ", end, " bytes behind byte ", 8 + length,
                     ", the file has ", data.size(), data.size() < end ? "; it was cut off" : "; something was added");
  }
  const auto shared_name = std::make_shared<const std::string>(name);
  header.tensors.reserve(entries.size());
  for (auto& entry : entries) {
    entry.info.data =
        data.subspan(static_cast<std::size_t>(entry.begin), static_cast<std::size_t>(entry.end - entry.begin));
    entry.info.file = shared_name;
    header.tensors.push_back(std::move(entry.info));
  }
  return header;
}

KDLIB_FUNC SafetensorsFile::SafetensorsFile(std::string path)
    : file_(std::move(path)),
      header_(parse_safetensors(file_.bytes(), file_.path())),
      by_name_(detail::order_by_name(header_.tensors.size(),
                                     [&](std::uint32_t i) { return std::string_view(header_.tensors[i].name); })) {}

KDLIB_FUNC const TensorInfo* SafetensorsFile::find(std::string_view name) const {
  const auto at = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                                   [&](std::uint32_t i, std::string_view n) { return header_.tensors[i].name < n; });
  return at != by_name_.end() && header_.tensors[*at].name == name ? &header_.tensors[*at] : nullptr;
}

KDLIB_FUNC const TensorInfo& SafetensorsFile::at(std::string_view name) const {
  if (const TensorInfo* found = find(name)) return *found;
  detail::fail_missing_tensor(path(), name, header_.tensors.size(),
                              header_.tensors.empty() ? "" : header_.tensors.front().name);
}

KDLIB_FUNC std::optional<std::string_view> SafetensorsFile::metadata(std::string_view key) const {
  for (const auto& [k, v] : header_.metadata)
    if (k == key) return v;
  return std::nullopt;
}

KDLIB_NAMESPACE_END

#include "kdlib/io/safetensors_directory_inl.hpp"

#endif
