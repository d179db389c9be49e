// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target once on every file of the given folders and, with --neighbours N, on at most N inputs that lie
// next to the small ones: a character of two and of four bytes, a line end and a zero put in and put over at each
// place. The corpus as a plain test, with any compiler, that finds what a fuzzer finds by luck (a message cut inside a
// character).
#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {
constexpr std::size_t small = 600;  // bytes of an input whose neighbours are tried
int left = 0;                       // neighbours that are still tried: --neighbours N

int run(const std::string& bytes) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  return 1;
}

int run_neighbours(const std::string& bytes) {
  static const std::string puts[] = {"\u00e9", "\U0001F600", "\n", std::string(1, '\0')};
  int count = 0;
  for (std::size_t at = 0; at <= bytes.size() && left > 0; ++at)
    for (const std::string& put : puts)
      for (std::size_t over = 0; over <= (at < bytes.size() ? 1u : 0u); ++over, --left)
        count += run(bytes.substr(0, at) + put + bytes.substr(at + over));
  return count;
}

int replay(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return 0;
  if (S_ISREG(info.st_mode)) {
    std::FILE* file = std::fopen(path.c_str(), "rb");
    if (file == nullptr) return 0;
    std::string bytes(static_cast<std::size_t>(info.st_size), '\0');
    bytes.resize(std::fread(bytes.data(), 1, bytes.size(), file));
    std::fclose(file);
    return run(bytes) + (bytes.size() <= small ? run_neighbours(bytes) : 0);
  }
  std::vector<std::string> names;  // in order, so that the same neighbours are tried everywhere
  if (DIR* folder = ::opendir(path.c_str())) {
    while (const dirent* entry = ::readdir(folder))
      if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
    ::closedir(folder);
  }
  std::sort(names.begin(), names.end());
  int count = 0;
  for (const std::string& name : names) count += replay(path + "/" + name);
  return count;
}
}  // namespace

int main(int argc, char** argv) {
  int count = 0;
  for (int i = 1; i < argc; ++i)
    if (std::string_view(argv[i]) == "--neighbours" && i + 1 < argc) left = std::atoi(argv[++i]);
    else count += replay(argv[i]);
  std::printf("replayed %d inputs\n", count);
  return count > 0 ? 0 : 1;
}
