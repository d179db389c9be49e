// SPDX-License-Identifier: Apache-2.0
// Bodies of indexed_file.hpp.
#ifndef KDLIB_IO_INDEXED_FILE_INL_HPP
#define KDLIB_IO_INDEXED_FILE_INL_HPP

#include <limits>
#include <utility>

#include "kdlib/io/indexed_file.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {
inline constexpr std::string_view indexed_magic{"MMIDIDX\0\0", 9};
inline constexpr std::int64_t indexed_header = 34;  // magic, version, type, two counts
}  // namespace detail

KDLIB_FUNC std::size_t indexed_bytes(IndexedType type) {
  constexpr std::size_t bytes[] = {0, 1, 1, 2, 4, 8, 8, 4, 2};
  const auto code = static_cast<std::size_t>(type);
  return code < std::size(bytes) ? bytes[code] : 0;
}

KDLIB_FUNC IndexedWriter::IndexedWriter(std::string prefix, IndexedType type)
    : prefix_(std::move(prefix)), type_(type), bin_(prefix_ + ".bin") {}

KDLIB_FUNC void IndexedWriter::add(const void* numbers, std::size_t count) {
  require<ShapeError>(count <= static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()), "[indexed file] ",
                      prefix_, ": a document of ", count, " numbers; an index has room for 2^31 - 1");
  lengths_.push_back(static_cast<std::int32_t>(count));
  if (count > 0) bin_.write(numbers, count * indexed_bytes(type_));
}

KDLIB_FUNC void IndexedWriter::commit() {
  AtomicFile index{prefix_ + ".idx"};
  const auto number = [&index](auto value) { index.write(&value, sizeof value); };
  const auto count = static_cast<std::uint64_t>(lengths_.size());
  index.write(detail::indexed_magic);
  number(std::uint64_t{1});
  number(static_cast<std::uint8_t>(type_));
  number(count);
  number(count + 1);
  index.write(lengths_.data(), lengths_.size() * sizeof(std::int32_t));
  std::int64_t at = 0;
  for (const std::int32_t length : lengths_) {
    number(at);
    at += length * static_cast<std::int64_t>(indexed_bytes(type_));
  }
  for (std::uint64_t d = 0; d <= count; ++d) number(static_cast<std::int64_t>(d));
  bin_.commit();
  index.commit();
}

KDLIB_FUNC IndexedFile::IndexedFile(std::string prefix) : prefix_(std::move(prefix)), index_(prefix_ + ".idx") {
  const std::string& path = index_.path();
  const auto size = static_cast<std::int64_t>(index_.bytes().size());
  require<FormatError>(size >= detail::indexed_header, "[indexed file] ", path, ": ", size, " bytes; the header has ",
                       detail::indexed_header);
  require<FormatError>(
      std::memcmp(index_.bytes().data(), detail::indexed_magic.data(), detail::indexed_magic.size()) == 0,
      "[indexed file] ", path, ": does not begin with MMIDIDX; an index of Megatron-LM's data sets is needed");
  require<FormatError>(read<std::uint64_t>(9) == 1, "[indexed file] ", path, ": version ", read<std::uint64_t>(9),
                       "; version 1 is read");
  type_ = static_cast<IndexedType>(read<std::uint8_t>(17));
  require<FormatError>(indexed_bytes(type_) > 0, "[indexed file] ", path, ": the type of numbers has code ",
                       static_cast<int>(read<std::uint8_t>(17)), "; codes are 1 to 8");
  const auto sequences = read<std::uint64_t>(18), entries = read<std::uint64_t>(26);
  const auto most = static_cast<std::uint64_t>(size);  // keeps the next products small
  require<FormatError>(sequences <= most && entries <= most && entries >= 1, "[indexed file] ", path, ": ", sequences,
                       " sequences and ", entries, " limits of documents in ", size, " bytes");
  sequences_ = static_cast<std::int64_t>(sequences);
  documents_ = static_cast<std::int64_t>(entries) - 1;
  const std::int64_t needed = detail::indexed_header + 12 * sequences_ + 8 * (documents_ + 1);
  require<FormatError>(size == needed || size == needed + sequences_, "[indexed file] ", path, ": ", size, " bytes; ",
                       sequences_, " sequences and ", documents_, " documents need ", needed);
  check_index();
}

KDLIB_FUNC void IndexedFile::check_index() {
  for (std::int64_t i = 0; i < sequences_; ++i) {
    require<FormatError>(length(i) >= 0, "[indexed file] ", index_.path(), ": sequence ", i, " has length ", length(i));
    total_ += length(i);
  }
  const std::string bin = prefix_ + ".bin";
  const auto bytes = static_cast<std::int64_t>(file_size(bin));
  if (bytes > 0) bin_ = MappedFile(bin);
  const auto item = static_cast<std::int64_t>(indexed_bytes(type_));
  for (std::int64_t i = 0; i < sequences_; ++i)
    require<FormatError>(offset(i) >= 0 && offset(i) <= bytes && length(i) * item <= bytes - offset(i),
                         "[indexed file] ", index_.path(), ": sequence ", i, " has ", length(i), " numbers at byte ",
                         offset(i), ", but ", bin, " has ", bytes, " bytes");
  for (std::int64_t d = 0; d <= documents_; ++d) {
    const std::int64_t first = first_sequence(d), before = d == 0 ? 0 : first_sequence(d - 1);
    const bool end = d == documents_;
    require<FormatError>(first >= before && (d > 0 || first == 0) && (end ? first == sequences_ : first <= sequences_),
                         "[indexed file] ", index_.path(), ": the limit of document ", d, " is ", first, " behind ",
                         before, "; limits rise from 0 to the ", sequences_, " sequences");
  }
}

KDLIB_FUNC void require_same_places(const IndexedFile& file, const IndexedFile& other) {
  require<FormatError>(file.sequences() == other.sequences() && file.documents() == other.documents(),
                       "[indexed file] ", file.prefix(), " has ", file.sequences(), " sequences in ", file.documents(),
                       " documents, ", other.prefix(), " has ", other.sequences(), " in ", other.documents());
  for (std::int64_t i = 0; i < file.sequences(); ++i)
    require<FormatError>(file.length(i) == other.length(i), "[indexed file] sequence ", i, " has length ",
                         file.length(i), " in ", file.prefix(), " and ", other.length(i), " in ", other.prefix());
  for (std::int64_t d = 0; d < file.documents(); ++d)
    require<FormatError>(file.first_sequence(d) == other.first_sequence(d), "[indexed file] document ", d,
                         " begins at sequence ", file.first_sequence(d), " in ", file.prefix(), " and at ",
                         other.first_sequence(d), " in ", other.prefix());
}

KDLIB_NAMESPACE_END

#endif
