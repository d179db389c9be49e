// SPDX-License-Identifier: Apache-2.0
// Bodies of io/safetensors_writer.hpp without template parameters.
#ifndef KDLIB_IO_SAFETENSORS_COMMIT_INL_HPP
#define KDLIB_IO_SAFETENSORS_COMMIT_INL_HPP

#include <algorithm>

#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/safetensors_writer.hpp"
#include "kdlib/io/utf8.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
KDLIB_FUNC TensorInfo describe_tensor(std::string name, DType dtype, const Shape& shape) {
  TensorInfo info;
  info.name = std::move(name);
  info.dtype = dtype;
  for (int i = 0; i < shape.rank(); ++i) info.extents.push_back(static_cast<std::uint64_t>(shape[i]));
  return info;
}
}  // namespace detail

KDLIB_FUNC void SafetensorsWriter::metadata(std::string key, std::string value) {
  for (const auto& [k, v] : metadata_) {
    if (k == key)
      fail<FormatError>("[safetensors] ", path_, ": the metadata key \"", printable(key), "\" is given twice");
  }
  metadata_.emplace_back(std::move(key), std::move(value));
}

KDLIB_FUNC SafetensorsWriter::Entry& SafetensorsWriter::add_entry(TensorInfo info) {
  require<FormatError>(!committed_, "[safetensors] ", path_, ": the file is committed already");
  require<FormatError>(info.name != "__metadata__", "[safetensors] ", path_, ": no tensor can be named __metadata__");
  std::uint64_t bits = dtype_bits(info.dtype);
  for (const std::uint64_t extent : info.extents)
    require<ShapeError>(!__builtin_mul_overflow(bits, extent, &bits), "[safetensors] ", info.text(), " is too large");
  require<ShapeError>(bits % 8 == 0, "[safetensors] ", info.text(), " takes no whole number of bytes");
  Entry& entry = entries_.emplace_back();
  entry.info = std::move(info);
  entry.bytes = bits / 8;
  return entry;
}

KDLIB_FUNC void SafetensorsWriter::add(std::string name, DType dtype, const Shape& shape,
                                       std::span<const std::byte> data) {
  TensorInfo info = detail::describe_tensor(std::move(name), dtype, shape);
  info.data = data;
  add(info);
}

KDLIB_FUNC void SafetensorsWriter::add(const TensorInfo& tensor) {
  const Entry& entry = add_entry(tensor);
  if (entry.bytes == tensor.data.size()) return;
  const std::uint64_t needed = entry.bytes;
  entries_.pop_back();
  fail<ShapeError>("[safetensors] ", tensor.text(), " needs ", needed, " bytes, it got ", tensor.data.size());
}

KDLIB_FUNC std::string SafetensorsWriter::header() const {
  JsonWriter json;
  json.begin_object();
  if (!metadata_.empty()) {
    json.key("__metadata__").begin_object();
    for (const auto& [key, value] : metadata_) json.member(key, value);
    json.end_object();
  }
  std::uint64_t offset = 0;
  for (const Entry& entry : entries_) {
    json.key(entry.info.name)
        .begin_object()
        .member("dtype", dtype_name(entry.info.dtype))
        .member("shape", entry.info.extents);
    json.key("data_offsets").begin_array().value(offset).value(offset + entry.bytes).end_array().end_object();
    offset += entry.bytes;
  }
  std::string text = json.end_object().text();
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

KDLIB_FUNC void SafetensorsWriter::commit() {
  require<FormatError>(!committed_, "[safetensors] ", path_, ": the file is committed already");
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
    return a.info.dtype != b.info.dtype ? a.info.dtype > b.info.dtype : a.info.name < b.info.name;
  });
  std::vector<std::string_view> names;
  for (const Entry& entry : entries_) names.push_back(entry.info.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end())
    fail<FormatError>("[safetensors] ", path_, ": tensor \"", printable(*twice), "\" is given twice");

  AtomicFile file{path_};
  const std::string text = header();
  const std::uint64_t length = text.size();
  file.write(&length, sizeof length);
  file.write(text);
  for (const Entry& entry : entries_) {
    const std::uint64_t before = file.bytes_written();
    if (entry.source) entry.source->write(file);
    else file.write(entry.info.data.data(), entry.info.data.size());
    const std::uint64_t written = file.bytes_written() - before;
    require<ShapeError>(written == entry.bytes, "[safetensors] ", path_, ": ", entry.info.text(), " needs ",
                        entry.bytes, " bytes, ", written, " were written");
  }
  file.commit();
  committed_ = true;
}

KDLIB_NAMESPACE_END

#endif
