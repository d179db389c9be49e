// SPDX-License-Identifier: Apache-2.0
// Bodies of io/gguf.hpp: the parser and the file.
#ifndef KDLIB_IO_GGUF_INL_HPP
#define KDLIB_IO_GGUF_INL_HPP

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <utility>

#include "kdlib/io/gguf.hpp"
#include "kdlib/io/gguf_value_inl.hpp"
#include "kdlib/io/utf8.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
template <class List, class Name>
std::vector<std::uint32_t> gguf_order(const List& list, const Name& name_of) {
  std::vector<std::uint32_t> order(list.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(),
            [&](std::uint32_t a, std::uint32_t b) { return name_of(list[a]) < name_of(list[b]); });
  return order;
}
template <class List, class Name>
auto gguf_find(const List& list, const std::vector<std::uint32_t>& order, std::string_view name, const Name& name_of)
    -> decltype(list.data()) {
  const auto at = std::lower_bound(order.begin(), order.end(), name,
                                   [&](std::uint32_t i, std::string_view n) { return name_of(list[i]) < n; });
  return at != order.end() && name_of(list[*at]) == name ? &list[*at] : nullptr;
}
inline constexpr auto gguf_key_of = [](const GgufValue& v) { return v.key(); };
inline constexpr auto gguf_name_of = [](const GgufTensor& t) { return std::string_view(t.name); };
// The fewest bytes that a key and value (length, one byte, kind, one byte) or a tensor's entry can take.
inline constexpr std::uint64_t gguf_least_pair = 8 + 1 + 4 + 1, gguf_least_tensor = 8 + 1 + 4 + 8 + 4 + 8;

/// Walks over the bytes from the front; every step is checked against the end before it is taken.
class GgufParser {
 public:
  GgufParser(std::span<const std::byte> file, const std::string& name)
      : file_(file), name_(std::make_shared<const std::string>(name)) {}
  GgufHeader parse();

 private:
  struct RawTensor {
    std::uint64_t declared_offset = 0, bytes = 0, at = 0;  // at: where its entry stands, for messages
  };
  template <class... Parts>
  [[noreturn]] void refuse(std::uint64_t at, const Parts&... parts) const {
    fail<FormatError>("[gguf] ", *name_, ": byte ", at, ": ", parts...);
  }
  std::uint64_t left() const { return file_.size() - at_; }
  template <class T>
  T take(const char* what) {
    if (left() < sizeof(T)) refuse(at_, what, " is cut off, the file ends at ", file_.size());
    const T value = load_unaligned<T>(file_.data() + at_);
    at_ += sizeof(T);
    return value;
  }
  std::string_view take_string(const char* what);
  GgufValue::Kind take_kind();
  void skip_values(GgufValue::Kind kind, std::uint64_t count, std::string_view key);
  GgufValue take_pair();
  GgufTensor take_tensor(RawTensor& raw);
  std::uint64_t take_extents(GgufTensor& tensor, std::uint64_t entry);
  void read_version();
  void read_alignment();
  void place_tensors(const std::vector<RawTensor>& raw);
  template <class List, class Name>
  void refuse_twice(const List& list, const Name& name_of, const char* what) const;

  std::span<const std::byte> file_;
  std::shared_ptr<const std::string> name_;
  std::uint64_t at_ = 0;
  GgufHeader header_;
};

KDLIB_FUNC std::string_view GgufParser::take_string(const char* what) {
  const std::uint64_t at = at_;
  const auto length = take<std::uint64_t>(what);
  if (length > left()) refuse(at, what, " says it has ", length, " bytes, only ", left(), " follow");
  const std::string_view text(reinterpret_cast<const char*>(file_.data()) + at_, static_cast<std::size_t>(length));
  at_ += length;
  return text;
}

KDLIB_FUNC GgufValue::Kind GgufParser::take_kind() {
  const std::uint64_t at = at_;
  const auto id = take<std::uint32_t>("a value's type");
  if (id >= gguf_kind_count) refuse(at, "unknown value type ", id);
  return static_cast<GgufValue::Kind>(id);
}

KDLIB_FUNC void GgufParser::skip_values(GgufValue::Kind kind, std::uint64_t count, std::string_view key) {
  if (kind == GgufValue::Kind::string) {
    if (count > left() / 8)
      refuse(at_, "key \"", printable(key), "\" says it has ", count, " strings, more than the file can hold");
    for (std::uint64_t i = 0; i < count; ++i) take_string("a string");
    return;
  }
  const std::uint64_t bytes = gguf_kind_bytes(kind);
  if (count > left() / bytes)
    refuse(at_, "key \"", printable(key), "\" says it has ", count, " values of ", bytes, " bytes, only ", left(),
           " bytes follow");
  if (kind == GgufValue::Kind::boolean) {
    for (std::uint64_t i = 0; i < count; ++i)
      if (file_[at_ + i] > std::byte{1})
        refuse(at_ + i, "key \"", printable(key), "\" holds a boolean that is neither 0 nor 1");
  }
  at_ += count * bytes;
}

KDLIB_FUNC GgufValue GgufParser::take_pair() {
  GgufValue value;
  const std::uint64_t entry = at_;
  value.file_ = name_;
  value.key_ = take_string("a key");
  if (value.key_.empty()) refuse(entry, "a key is empty");
  if (value.key_.size() > 65535) refuse(entry, "a key has ", value.key_.size(), " bytes, the limit is 65535");
  value.kind_ = take_kind();
  value.count_ = 1;
  GgufValue::Kind element = value.kind_;
  if (value.is_array()) {
    element = value.element_kind_ = take_kind();
    if (element == GgufValue::Kind::array)
      refuse(at_ - 4, "key \"", printable(value.key_), "\" holds an array of arrays, which is not read");
    value.count_ = take<std::uint64_t>("the length of an array");
  }
  const std::uint64_t begin = at_;
  skip_values(element, value.count_, value.key_);
  value.data_ = file_.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(at_ - begin));
  return value;
}

/// Reads the extents, answers the number of values.
KDLIB_FUNC std::uint64_t GgufParser::take_extents(GgufTensor& tensor, std::uint64_t entry) {
  const auto rank = take<std::uint32_t>("a tensor's rank");
  if (rank == 0 || rank > 4)
    refuse(entry, "tensor \"", printable(tensor.name), "\" has ", rank, " axes, 1 to 4 are possible");
  std::int64_t extents[4] = {};
  std::int64_t values = 1;
  for (std::uint32_t i = 0; i < rank; ++i) {
    extents[i] = take<std::int64_t>("a tensor's extent");
    if (extents[i] <= 0 || __builtin_mul_overflow(values, extents[i], &values))
      refuse(at_ - 8, "tensor \"", printable(tensor.name), "\": extent ", extents[i],
             " is not positive or the product is beyond 2^63");
  }
  for (std::uint32_t i = rank; i-- > 0;) tensor.shape.push_back(extents[i]);
  return static_cast<std::uint64_t>(values);
}

KDLIB_FUNC GgufTensor GgufParser::take_tensor(RawTensor& raw) {
  GgufTensor tensor;
  raw.at = at_;
  tensor.name = take_string("a tensor's name");
  if (tensor.name.empty() || tensor.name.size() >= 64)
    refuse(raw.at, "a tensor's name has ", tensor.name.size(), " bytes, 1 to 63 are possible");
  const std::uint64_t values = take_extents(tensor, raw.at);
  const auto id = take<std::uint32_t>("a tensor's type");
  const bool known = id < gguf_types_size;
  if (!known || gguf_types[id].values == 0) {
    refuse(at_ - 4, "tensor \"", printable(tensor.name), "\" has type ", id,
           known ? std::string(", ") + gguf_types[id].name : std::string(),
           ", which is not read; convert the model to F16, BF16, Q8_0, Q4_0, Q4_K, Q5_K or Q6_K");
  }
  tensor.type = static_cast<GgufType>(id);
  const auto row = static_cast<std::uint64_t>(tensor.shape[tensor.shape.rank() - 1]),
             block = std::uint64_t{block_size(tensor.type)};
  if (row % block != 0)
    refuse(raw.at, "tensor \"", tensor.text(), "\": a row of ", row, " values is no whole number of blocks of ", block);
  if (__builtin_mul_overflow(values / block, std::uint64_t{block_bytes(tensor.type)}, &raw.bytes))
    refuse(raw.at, "tensor ", tensor.text(), " is too large");
  raw.declared_offset = take<std::uint64_t>("a tensor's offset");
  return tensor;
}

KDLIB_FUNC void GgufParser::read_version() {
  if (file_.size() < 4 || std::memcmp(file_.data(), "GGUF", 4) != 0)
    refuse(0, "the file does not begin with \"GGUF\"; it is not a GGUF file");
  at_ = 4;
  const auto version = take<std::uint32_t>("the version");
  if (version != 0 && (version & 0xFFFF) == 0)
    refuse(4, "the version is ", version, ": a big-endian file, which is not read");
  if (version != 2 && version != 3) refuse(4, "version ", version, " is not read, only 2 and 3");
  header_.version = version;
}

KDLIB_FUNC void GgufParser::read_alignment() {
  for (const GgufValue& value : header_.metadata) {
    if (value.key() != "general.alignment") continue;
    if (value.kind() != GgufValue::Kind::u32) value.refuse("u32");
    header_.alignment = value.as_uint();
    if (!std::has_single_bit(header_.alignment))
      refuse(at_, "general.alignment is ", header_.alignment, ", not a power of two");
  }
}

/// Data of tensor i begin where those of tensor i-1 end, rounded up to the alignment.
KDLIB_FUNC void GgufParser::place_tensors(const std::vector<RawTensor>& raw) {
  const std::uint64_t mask = header_.alignment - 1;
  header_.data_start = (at_ + mask) & ~mask;
  std::uint64_t expected = 0, end = header_.data_start;
  for (std::size_t i = 0; i < raw.size(); ++i) {
    GgufTensor& tensor = header_.tensors[i];
    if (raw[i].declared_offset != expected) {
      refuse(raw[i].at, "tensor \"", printable(tensor.name), "\" is said to begin at offset ", raw[i].declared_offset,
             ", the ones before it put it at ", expected, ": overlap, hole or wrong alignment");
    }
    tensor.offset = header_.data_start + expected;
    if (tensor.offset > file_.size() || raw[i].bytes > file_.size() - tensor.offset) {
      refuse(raw[i].at, "tensor ", tensor.text(), " needs ", raw[i].bytes, " bytes from byte ", tensor.offset,
             ", the file ends at ", file_.size(), "; it was cut off or its header lies");
    }
    tensor.data = file_.subspan(static_cast<std::size_t>(tensor.offset), static_cast<std::size_t>(raw[i].bytes));
    end = tensor.offset + raw[i].bytes;
    expected = (expected + raw[i].bytes + mask) & ~mask;
  }
  if (file_.size() > ((end + mask) & ~mask))
    refuse(end, "the last tensor ends here, ", file_.size() - end, " bytes follow");
}

template <class List, class Name>
void GgufParser::refuse_twice(const List& list, const Name& name_of, const char* what) const {
  const std::vector<std::uint32_t> order = gguf_order(list, name_of);
  for (std::size_t i = 1; i < order.size(); ++i) {
    const std::string_view name = name_of(list[order[i]]);
    if (name == name_of(list[order[i - 1]]))
      fail<FormatError>("[gguf] ", *name_, ": ", what, " \"", printable(name), "\" is there twice");
  }
}

KDLIB_FUNC GgufHeader GgufParser::parse() {
  read_version();
  const auto tensors = take<std::uint64_t>("the number of tensors");
  const auto pairs = take<std::uint64_t>("the number of metadata keys");
  if (pairs > left() / gguf_least_pair || tensors > left() / gguf_least_tensor ||
      tensors > std::numeric_limits<std::uint32_t>::max()) {
    refuse(8, tensors, " tensors and ", pairs, " metadata keys are more than the file can hold");
  }
  for (std::uint64_t i = 0; i < pairs; ++i) header_.metadata.push_back(take_pair());
  refuse_twice(header_.metadata, gguf_key_of, "key");
  read_alignment();
  std::vector<RawTensor> raw;
  for (std::uint64_t i = 0; i < tensors; ++i) header_.tensors.push_back(take_tensor(raw.emplace_back()));
  refuse_twice(header_.tensors, gguf_name_of, "tensor");
  place_tensors(raw);
  return std::move(header_);
}

}  // namespace detail

KDLIB_FUNC std::string GgufTensor::text() const {
  return concat(printable(name), " (", gguf_type_name(type), " ", shape, ")");
}

KDLIB_FUNC GgufHeader parse_gguf(std::span<const std::byte> file, const std::string& name) {
  return detail::GgufParser(file, name).parse();
}

KDLIB_FUNC GgufFile::GgufFile(std::string path) {
  files_.emplace_back(std::move(path));
  header_ = parse_gguf(files_.front().bytes(), files_.front().path());
  index_names();
  if (int_or("split.count", 1) > 1) open_other_parts();
}

KDLIB_FUNC void GgufFile::index_names() {
  keys_by_name_ = detail::gguf_order(header_.metadata, detail::gguf_key_of);
  tensors_by_name_ = detail::gguf_order(header_.tensors, detail::gguf_name_of);
}

KDLIB_FUNC const GgufValue* GgufFile::find(std::string_view key) const {
  return detail::gguf_find(header_.metadata, keys_by_name_, key, detail::gguf_key_of);
}

KDLIB_FUNC const GgufValue& GgufFile::at(std::string_view key) const {
  if (const GgufValue* found = find(key)) return *found;
  fail<FormatError>("[gguf] ", path(), ": the metadata key \"", printable(key), "\" is missing");
}

KDLIB_FUNC bool GgufFile::bool_or(std::string_view key, bool otherwise) const {
  const GgufValue* found = find(key);
  return found != nullptr ? found->as_bool() : otherwise;
}

KDLIB_FUNC std::int64_t GgufFile::int_or(std::string_view key, std::int64_t otherwise) const {
  const GgufValue* found = find(key);
  return found != nullptr ? found->as_int() : otherwise;
}

KDLIB_FUNC double GgufFile::double_or(std::string_view key, double otherwise) const {
  const GgufValue* found = find(key);
  return found != nullptr ? found->as_double() : otherwise;
}

KDLIB_FUNC std::string GgufFile::string_or(std::string_view key, std::string_view otherwise) const {
  const GgufValue* found = find(key);
  return std::string(found != nullptr ? found->as_string() : otherwise);
}

KDLIB_FUNC const GgufTensor* GgufFile::find_tensor(std::string_view name) const {
  return detail::gguf_find(header_.tensors, tensors_by_name_, name, detail::gguf_name_of);
}

KDLIB_FUNC const GgufTensor& GgufFile::tensor(std::string_view name) const {
  if (const GgufTensor* found = find_tensor(name)) return *found;
  fail<FormatError>("[gguf] ", path(), ": tensor \"", printable(name), "\" is missing among its ",
                    header_.tensors.size(), " tensors");
}

KDLIB_NAMESPACE_END

#endif
