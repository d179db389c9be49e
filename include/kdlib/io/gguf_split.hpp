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

/// What the file name of a part says: the text before "-00002-of-00003.gguf", and the two numbers.
struct GgufPartName {
  std::string prefix;       // the path up to the numbers, folder included
  std::int64_t number = 1;  // from 1 to count
  std::int64_t count = 1;

  /// Returns the path of part `other` of the same model.
  std::string path_of(std::int64_t other) const;
};

/// Reads the two numbers, of five digits each as llama.cpp writes them, in the name of `path`. Returns nothing if the
/// name has another form or the number is not from 1 to the count. The file itself is not read.
std::optional<GgufPartName> gguf_part_name(std::string_view path);

/// Returns the paths of all parts of the model to which `path` belongs by its name, whether or not the files exist.
/// Returns `path` alone if its name is not that of a part.
std::vector<std::string> gguf_part_paths(const std::string& path);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/gguf_split_inl.hpp"
#endif

#endif
