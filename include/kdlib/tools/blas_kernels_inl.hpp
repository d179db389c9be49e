// SPDX-License-Identifier: Apache-2.0
// Bodies of blas_kernels.hpp.
#ifndef KDLIB_TOOLS_BLAS_KERNELS_INL_HPP
#define KDLIB_TOOLS_BLAS_KERNELS_INL_HPP

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "kdlib/tools/blas_kernels.hpp"

#if defined(KDLIB_WITH_CBLAS)
extern "C" char* openblas_get_config(void) __attribute__((weak));  // null with another BLAS
#endif

KDLIB_NAMESPACE_BEGIN

KDLIB_TOOLS_FUNC const char* better_blas_kernels(std::string_view config, const char* level) {
#if defined(__x86_64__)
  if (config.find("Prescott") == std::string_view::npos) return nullptr;
  const std::string_view asked = level == nullptr ? "" : level;
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (asked == "portable" || !avx2) return nullptr;
  return avx512 && asked != "avx2" ? "SKYLAKEX" : "HASWELL";
#else
  static_cast<void>(config), static_cast<void>(level);
  return nullptr;
#endif
}

namespace detail {
KDLIB_TOOLS_FUNC std::vector<std::string> own_arguments() {
  const int file = ::open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
  if (file < 0) return {};
  std::string text;
  char buffer[4096];
  for (ssize_t got; (got = ::read(file, buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(got));
  ::close(file);
  std::vector<std::string> words;
  for (std::size_t at = 0, end; at < text.size() && (end = text.find('\0', at)) != std::string::npos; at = end + 1)
    words.push_back(text.substr(at, end - at));
  return words;
}
}  // namespace detail

KDLIB_TOOLS_FUNC void choose_blas_kernels() {
#if defined(KDLIB_WITH_CBLAS)
  if (&openblas_get_config == nullptr || std::getenv("OPENBLAS_CORETYPE") != nullptr) return;
  const char* config = openblas_get_config();
  const char* kernels = config == nullptr ? nullptr : better_blas_kernels(config, std::getenv("KDLIB_CPU_LEVEL"));
  std::vector<std::string> words = kernels == nullptr ? std::vector<std::string>() : detail::own_arguments();
  if (words.empty() || ::setenv("OPENBLAS_CORETYPE", kernels, 0) != 0) return;
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  char path[4096];  // the file's own name, which stays the process's; /proc/self/exe would call it "exe"
  const ssize_t length = ::readlink("/proc/self/exe", path, sizeof path - 1);
  if (length > 0) {
    path[length] = '\0';
    ::execv(path, arguments.data());
  }
  ::execv("/proc/self/exe", arguments.data());
  ::unsetenv("OPENBLAS_CORETYPE");
#endif
}

KDLIB_NAMESPACE_END

#endif
