// SPDX-License-Identifier: Apache-2.0
// Arbitrary bytes as the two parts of a split GGUF file: both parts open the same whole or are refused.
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>

#include "kdlib/io/gguf.hpp"
#include "kdlib/io/paths.hpp"

using namespace kdlib;

namespace {

/// A folder of this process, removed at its end.
struct Folder {
  Folder() {
    char name[] = "/tmp/kdlib_split_XXXXXX";
    if (::mkdtemp(name) == nullptr) std::abort();
    path = name;
  }
  ~Folder() { remove_tree(path); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string path;
};

void write(const std::string& path, const std::uint8_t* data, std::size_t size) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr || std::fwrite(data, 1, size, file) != size) std::abort();
  std::fclose(file);
}

/// The number of tensors, after a look at every one; nothing where the file is refused.
std::optional<std::size_t> open_whole(const std::string& path) {
  try {
    const GgufFile file(path);
    volatile unsigned char last = 0;
    for (const GgufTensor& t : file.tensors()) {
      if (file.path_of(t).empty() || &file.tensor(t.name) != &t) std::abort();
      for (const std::byte b : t.data) last = static_cast<unsigned char>(b);
    }
    (void)last;
    return file.tensors().size();
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace

/// The first four bytes are the size of the first part.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Folder folder;
  if (size < 6) return 0;
  std::uint32_t first = 0;
  std::memcpy(&first, data, sizeof first);
  const std::size_t rest = size - sizeof first, cut = 1 + first % (rest - 1);
  const std::string one = folder.path + "/m-00001-of-00002.gguf", two = folder.path + "/m-00002-of-00002.gguf";
  write(one, data + sizeof first, cut);
  write(two, data + sizeof first + cut, rest - cut);
  const std::optional<std::size_t> a = open_whole(one), b = open_whole(two);
  // A first part that says it is a whole file is one, whatever stands beside it.
  if (a && b && *a != *b && GgufFile(one).paths().size() == 2 && GgufFile(two).paths().size() == 2) std::abort();
  return 0;
}
