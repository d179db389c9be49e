// SPDX-License-Identifier: Apache-2.0
// Names of the parts of a split GGUF file: NAME-00001-of-00003.gguf.
#ifndef KDLIB_IO_GGUF_SPLIT_HPP
#define KDLIB_IO_GGUF_SPLIT_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// What the file name of a part says: all that stands before "-00002-of-00003.gguf", and the two numbers.
struct GgufPartName {
  std::string prefix;       // with the folder
  std::int64_t number = 1;  // from 1 to count
  std::int64_t count = 1;

  /// The path of another part of the same model.
  std::string path_of(std::int64_t other) const;
};

/// Reads the numbers in the name of `path`: five digits each, as llama.cpp writes them. Answers nothing where the name
/// has another form or the number is not from 1 to the count. Does not look at the file.
std::optional<GgufPartName> gguf_part_name(std::string_view path);

/// The paths of all parts of the model of which `path` is one part by its name, whether or not the files are there;
/// `path` alone where its name is not that of a part.
std::vector<std::string> gguf_part_paths(const std::string& path);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/gguf_split_inl.hpp"
#endif

#endif
