// SPDX-License-Identifier: Apache-2.0
// Bodies of machines.hpp.
#ifndef KDLIB_RECIPE_MACHINES_INL_HPP
#define KDLIB_RECIPE_MACHINES_INL_HPP

#include <sys/statvfs.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "kdlib/core/settings_error.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/recipe/machines.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC std::string plain_name(std::string_view name) {
  std::string out;
  for (const char c : name)
    if (c != ' ' && c != '-' && c != '_') out += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

KDLIB_FUNC double kernel_number(const char* path, const char* key) {
  std::FILE* file = std::fopen(path, "r");
  if (file == nullptr) return -1;
  char line[256];
  double number = -1;
  while (number < 0 && std::fgets(line, sizeof line, file) != nullptr)
    if (std::strncmp(line, key, std::strlen(key)) == 0 && std::sscanf(line + std::strlen(key), "%lf", &number) != 1)
      number = -1;
  std::fclose(file);
  return number;
}

}  // namespace detail

KDLIB_FUNC const std::vector<Accelerator>& accelerators() {
  static const std::vector<Accelerator> table = {{"H100", 989e12, 3.35e12, 80e9},
                                                 {"H200", 989e12, 4.8e12, 141e9},
                                                 {"A100", 312e12, 2.039e12, 80e9},
                                                 {"L40S", 362e12, 0.864e12, 48e9},
                                                 {"RTX 4090", 165e12, 1.008e12, 24e9}};
  return table;
}

KDLIB_FUNC const Accelerator& find_accelerator(std::string_view name) {
  std::string names;
  for (const Accelerator& a : accelerators()) {
    if (detail::plain_name(a.name) == detail::plain_name(name)) return a;
    names += concat(names.empty() ? "" : ", ", a.name);
  }
  fail<SettingsError>("[device] '", name, "' is not in the table; expected cpu or one of ", names);
}

KDLIB_FUNC double available_memory() {
  double available = detail::kernel_number("/proc/meminfo", "MemAvailable:") * 1024;
  if (available < 0) available = 0;
  const std::pair<const char*, const char*> groups[] = {
      {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
      {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"}};
  for (const auto& [limit_file, use_file] : groups) {
    const double limit = detail::kernel_number(limit_file, ""), use = detail::kernel_number(use_file, "");
    if (limit > 0 && use >= 0)
      available = available > 0 ? std::min(available, std::max(0.0, limit - use)) : std::max(0.0, limit - use);
  }
  return available;
}

KDLIB_FUNC double free_memory_share() {
  const double all = detail::kernel_number("/proc/meminfo", "MemTotal:"),
               available = detail::kernel_number("/proc/meminfo", "MemAvailable:");
  double share = all > 0 && available >= 0 ? available / all : 1;
  const double limit = detail::kernel_number("/sys/fs/cgroup/memory.max", ""),
               used = detail::kernel_number("/sys/fs/cgroup/memory.current", ""),
               files = detail::kernel_number("/sys/fs/cgroup/memory.stat", "inactive_file ");
  if (limit > 0 && used >= 0) share = std::min(share, 1 - (used - std::max(files, 0.0)) / limit);
  return share;
}

KDLIB_FUNC double free_disk(const std::string& path) {
  std::string folder = path;
  while (!path_exists(folder) && parent_path(folder) != folder) folder = parent_path(folder);
  struct statvfs info {};
  if (::statvfs(folder.c_str(), &info) != 0) return 0;
  return static_cast<double>(info.f_bavail) * static_cast<double>(info.f_frsize);
}

KDLIB_NAMESPACE_END

#endif
