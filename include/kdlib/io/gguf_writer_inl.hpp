// SPDX-License-Identifier: Apache-2.0
// Bodies of io/gguf_writer.hpp.
#ifndef KDLIB_IO_GGUF_WRITER_INL_HPP
#define KDLIB_IO_GGUF_WRITER_INL_HPP

#include <algorithm>
#include <bit>
#include <utility>

#include "kdlib/io/gguf_writer.hpp"
#include "kdlib/io/utf8.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC GgufWriter::GgufWriter(std::string path, std::uint32_t alignment)
    : path_(std::move(path)), alignment_(alignment) {
  require<FormatError>(std::has_single_bit(alignment) && alignment >= 8, "[gguf] ", path_, ": the alignment is ",
                       alignment, "; it must be a power of two from 8 on");
  if (alignment != 32) u32("general.alignment", alignment);
}

template <class N>
void GgufWriter::put(N number) {
  pairs_.append(reinterpret_cast<const char*>(&number), sizeof number);
}

KDLIB_FUNC void GgufWriter::put_text(std::string_view text) {
  require<FormatError>(find_invalid_utf8(text) == std::string_view::npos, "[gguf] ", path_, ": key \"", keys_.back(),
                       "\" has a text that is no UTF-8");
  put(static_cast<std::uint64_t>(text.size()));
  pairs_.append(text);
}

KDLIB_FUNC bool GgufWriter::has(std::string_view key) const {
  return std::find(keys_.begin(), keys_.end(), key) != keys_.end();
}

KDLIB_FUNC void GgufWriter::begin_value(std::string_view key, GgufValue::Kind kind) {
  require<FormatError>(!committed_, "[gguf] ", path_, ": the file is committed already");
  require<FormatError>(!key.empty() && key.size() <= 65535, "[gguf] ", path_, ": a key has ", key.size(),
                       " bytes, 1 to 65535 are possible");
  require<FormatError>(!has(key), "[gguf] ", path_, ": key \"", printable(key), "\" is given twice");
  keys_.emplace_back(key);
  put_text(key);
  put(static_cast<std::uint32_t>(kind));
}

KDLIB_FUNC void GgufWriter::begin_array(std::string_view key, GgufValue::Kind element, std::size_t count) {
  require<FormatError>(count > 0, "[gguf] ", path_, ": key \"", printable(key),
                       "\" has an empty array, which not every reader takes");
  begin_value(key, GgufValue::Kind::array);
  put(static_cast<std::uint32_t>(element));
  put(static_cast<std::uint64_t>(count));
}

KDLIB_FUNC GgufWriter& GgufWriter::u32(std::string_view key, std::uint32_t value) {
  return begin_value(key, GgufValue::Kind::u32), put(value), *this;
}
KDLIB_FUNC GgufWriter& GgufWriter::i32(std::string_view key, std::int32_t value) {
  return begin_value(key, GgufValue::Kind::i32), put(value), *this;
}
KDLIB_FUNC GgufWriter& GgufWriter::f32(std::string_view key, float value) {
  return begin_value(key, GgufValue::Kind::f32), put(value), *this;
}
KDLIB_FUNC GgufWriter& GgufWriter::boolean(std::string_view key, bool value) {
  return begin_value(key, GgufValue::Kind::boolean), put(static_cast<std::uint8_t>(value)), *this;
}
KDLIB_FUNC GgufWriter& GgufWriter::string(std::string_view key, std::string_view value) {
  return begin_value(key, GgufValue::Kind::string), put_text(value), *this;
}

KDLIB_FUNC GgufWriter& GgufWriter::strings(std::string_view key, const std::vector<std::string>& values) {
  begin_array(key, GgufValue::Kind::string, values.size());
  for (const std::string& v : values) put_text(v);
  return *this;
}

KDLIB_FUNC GgufWriter& GgufWriter::i32s(std::string_view key, const std::vector<std::int32_t>& values) {
  begin_array(key, GgufValue::Kind::i32, values.size());
  for (const std::int32_t v : values) put(v);
  return *this;
}

KDLIB_FUNC GgufWriter& GgufWriter::f32s(std::string_view key, const std::vector<float>& values) {
  begin_array(key, GgufValue::Kind::f32, values.size());
  for (const float v : values) put(v);
  return *this;
}

KDLIB_FUNC GgufWriter& GgufWriter::booleans(std::string_view key, const std::vector<bool>& values) {
  begin_array(key, GgufValue::Kind::boolean, values.size());
  for (const bool v : values) put(static_cast<std::uint8_t>(v));
  return *this;
}

KDLIB_FUNC GgufWriter& GgufWriter::copy(const GgufValue& value) {
  if (value.is_array()) begin_array(value.key(), value.element_kind(), value.size());
  else begin_value(value.key(), value.kind());
  pairs_.append(reinterpret_cast<const char*>(value.bytes().data()), value.bytes().size());
  return *this;
}

KDLIB_FUNC GgufWriter::Entry& GgufWriter::add_entry(std::string name, GgufType type, const Shape& shape) {
  require<FormatError>(!committed_, "[gguf] ", path_, ": the file is committed already");
  require<FormatError>(!name.empty() && name.size() < 64 && find_invalid_utf8(name) == std::string_view::npos,
                       "[gguf] ", path_, ": a tensor's name \"", printable(name), "\" must be UTF-8 of 1 to 63 bytes");
  require<ShapeError>(shape.rank() > 0 && shape.count() > 0, "[gguf] ", path_, ": tensor \"", printable(name), "\" ",
                      shape, " must have an axis, and no extent of 0");
  const auto row = static_cast<std::uint64_t>(shape[shape.rank() - 1]), block = std::uint64_t{block_size(type)};
  require<ShapeError>(block > 0 && row % block == 0, "[gguf] ", path_, ": tensor \"", printable(name), "\" ", shape,
                      ": a row of ", row, " values is no whole number of ", gguf_type_name(type), " blocks of ", block);
  Entry& entry = entries_.emplace_back();
  entry.name = std::move(name);
  entry.type = type;
  entry.shape = shape;
  entry.bytes = static_cast<std::uint64_t>(shape.count()) / block * block_bytes(type);
  entry.offset = data_bytes_;
  data_bytes_ = (data_bytes_ + entry.bytes + alignment_ - 1) / alignment_ * alignment_;
  return entry;
}

KDLIB_FUNC void GgufWriter::add(std::string name, GgufType type, const Shape& shape, std::span<const std::byte> data) {
  Entry& entry = add_entry(std::move(name), type, shape);
  require<ShapeError>(entry.bytes == data.size(), "[gguf] ", path_, ": tensor \"", entry.name, "\" ", shape, " needs ",
                      entry.bytes, " bytes, it got ", data.size());
  entry.data = data;
}

KDLIB_FUNC std::string GgufWriter::tensor_list() const {
  std::string out;
  const auto put_number = [&](auto number) { out.append(reinterpret_cast<const char*>(&number), sizeof number); };
  for (const Entry& entry : entries_) {
    put_number(static_cast<std::uint64_t>(entry.name.size()));
    out += entry.name;
    put_number(static_cast<std::uint32_t>(entry.shape.rank()));
    for (int i = entry.shape.rank(); i-- > 0;)
      put_number(static_cast<std::uint64_t>(entry.shape[i]));  // fastest axis first
    put_number(static_cast<std::uint32_t>(entry.type));
    put_number(entry.offset);
  }
  return out;
}

KDLIB_FUNC void GgufWriter::commit() {
  require<FormatError>(!committed_, "[gguf] ", path_, ": the file is committed already");
  std::vector<std::string_view> names;
  for (const Entry& entry : entries_) names.push_back(entry.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) fail<FormatError>("[gguf] ", path_, ": tensor \"", printable(*twice), "\" is given twice");

  AtomicFile file{path_};
  const std::uint32_t version = 3;
  const std::uint64_t counts[] = {entries_.size(), keys_.size()};
  file.write("GGUF");
  file.write(&version, sizeof version);
  file.write(counts, sizeof counts);
  file.write(pairs_);
  file.write(tensor_list());
  const auto pad = [&] {
    file.write(std::string((alignment_ - file.bytes_written() % alignment_) % alignment_, '\0'));
  };
  for (const Entry& entry : entries_) {
    pad();
    const std::uint64_t before = file.bytes_written();
    if (entry.source) entry.source->write(file);
    else file.write(entry.data.data(), entry.data.size());
    const std::uint64_t written = file.bytes_written() - before;
    require<ShapeError>(written == entry.bytes, "[gguf] ", path_, ": tensor \"", entry.name, "\" ", entry.shape,
                        " needs ", entry.bytes, " bytes, ", written, " were written");
  }
  if (!entries_.empty()) pad();
  file.commit();
  committed_ = true;
}

KDLIB_NAMESPACE_END

#endif
