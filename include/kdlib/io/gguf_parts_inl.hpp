// SPDX-License-Identifier: Apache-2.0
// Bodies of io/gguf.hpp: the parts of a split file are found by name, compared with one another and put together.
#ifndef KDLIB_IO_GGUF_PARTS_INL_HPP
#define KDLIB_IO_GGUF_PARTS_INL_HPP

#include <algorithm>
#include <utility>

#include "kdlib/io/gguf.hpp"
#include "kdlib/io/paths.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Keys that may differ from part to part.
KDLIB_FUNC bool is_key_of_one_part(std::string_view key) { return key == "split.no" || key == "general.alignment"; }

KDLIB_FUNC bool equal_values(const GgufValue& a, const GgufValue& b) {
  return a.kind() == b.kind() && a.element_kind() == b.element_kind() && a.size() == b.size() &&
         std::ranges::equal(a.bytes(), b.bytes());
}

/// Compares what a part says about itself with its name. `number` counts from 1.
KDLIB_FUNC void check_part(const std::string& path, const GgufValue* no, std::int64_t split_count,
                           const GgufPartName& name) {
  require<FormatError>(split_count == name.count, "[gguf] ", path, ": split.count is ", split_count, ", the name says ",
                       name.count, " parts: a part of another model, or a renamed file");
  require<FormatError>(no != nullptr, "[gguf] ", path, ": split.no is missing; a part of a split file has it");
  require<FormatError>(no->as_int() == name.number - 1, "[gguf] ", path, ": split.no is ", no->as_int(), ", part ",
                       name.number, " has ", name.number - 1,
                       ": another part stands under the name of this one (the same part twice, or a renamed file)");
}

/// Names the parts that are not there, before any part is opened.
KDLIB_FUNC void refuse_missing_parts(const std::string& given, const GgufPartName& name) {
  std::string first;
  std::int64_t others = -1;
  for (std::int64_t i = 1; i <= name.count; ++i) {
    std::string path = name.path_of(i);
    if (path_exists(path)) continue;
    if (first.empty()) first = std::move(path);
    ++others;
  }
  if (first.empty()) return;
  fail<FormatError>("[gguf] ", given, ": the model has ", name.count, " parts, and ", first,
                    others > 0 ? concat(" and ", others, " more are missing") : std::string(" is missing"),
                    "; all parts must lie in one folder");
}

}  // namespace detail

KDLIB_FUNC std::vector<std::string> GgufFile::paths() const {
  std::vector<std::string> paths;
  for (const MappedFile& file : files_) paths.push_back(file.path());
  return paths;
}

KDLIB_FUNC void GgufFile::open_other_parts() {
  const std::string given = path();
  const std::optional<GgufPartName> name = gguf_part_name(given);
  require<FormatError>(name.has_value(), "[gguf] ", given, ": split.count is ", at("split.count").as_int(),
                       ", so the model lies in several files, which are found by their names: give this file its name "
                       "again, NAME-00001-of-0000N.gguf");
  detail::check_part(given, find("split.no"), at("split.count").as_int(), *name);
  detail::refuse_missing_parts(given, *name);
  if (name->number != 1) {
    files_.front() = MappedFile(name->path_of(1));
    header_ = parse_gguf(files_.front().bytes(), path());
    index_names();
    GgufPartName first = *name;
    first.number = 1;
    detail::check_part(path(), find("split.no"), int_or("split.count", 1), first);
  }
  for (std::int64_t i = 2; i <= name->count; ++i) add_part(name->path_of(i), i);
  index_names();
  for (std::size_t i = 1; i < tensors_by_name_.size(); ++i) {
    const GgufTensor &a = header_.tensors[tensors_by_name_[i - 1]], &b = header_.tensors[tensors_by_name_[i]];
    require<FormatError>(a.name != b.name, "[gguf] ", path_of(b), ": tensor \"", printable(b.name),
                         "\" is also in the part ", path_of(a), "; one of them belongs to another model");
  }
  const auto tensors = static_cast<std::int64_t>(header_.tensors.size());
  const std::int64_t said = int_or("split.tensors.count", tensors);
  require<FormatError>(said == tensors, "[gguf] ", path(), ": split.tensors.count is ", said, ", the ", name->count,
                       " parts hold ", tensors, " tensors: one of them belongs to another model");
}

KDLIB_FUNC void GgufFile::add_part(const std::string& path, std::int64_t number) {
  const MappedFile& file = files_.emplace_back(path);
  GgufHeader part = parse_gguf(file.bytes(), path);
  const auto value_of = [&](std::string_view key) -> const GgufValue* {
    const auto found = std::ranges::find_if(part.metadata, [&](const GgufValue& value) { return value.key() == key; });
    return found == part.metadata.end() ? nullptr : &*found;
  };
  GgufPartName name = *gguf_part_name(path);
  const GgufValue* count = value_of("split.count");
  detail::check_part(path, value_of("split.no"), count == nullptr ? 1 : count->as_int(), name);
  for (const GgufValue& value : part.metadata) {
    const GgufValue* first = detail::is_key_of_one_part(value.key()) ? nullptr : find(value.key());
    require<FormatError>(first == nullptr || detail::equal_values(*first, value), "[gguf] ", path, ": the key \"",
                         printable(value.key()), "\" has another value than in ", this->path(),
                         ": a part of another model");
  }
  for (GgufTensor& tensor : part.tensors) {
    tensor.part = static_cast<std::uint32_t>(number - 1);
    header_.tensors.push_back(std::move(tensor));
  }
}

KDLIB_NAMESPACE_END

#endif
