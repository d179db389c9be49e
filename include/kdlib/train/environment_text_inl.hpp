// SPDX-License-Identifier: Apache-2.0
// Bodies of environment.hpp that do not depend on a device.
#ifndef KDLIB_TRAIN_ENVIRONMENT_TEXT_INL_HPP
#define KDLIB_TRAIN_ENVIRONMENT_TEXT_INL_HPP

#include "kdlib/core/error.hpp"
#include "kdlib/io/checksum.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/train/environment.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC std::string cpu_description() {
  std::string text;
#if defined(__x86_64__) || defined(__i386__)
  __builtin_cpu_init();
  text = __builtin_cpu_is("amd") ? "x86 amd" : __builtin_cpu_is("intel") ? "x86 intel" : "x86";
  if (__builtin_cpu_supports("avx2")) text += " avx2";
  if (__builtin_cpu_supports("fma")) text += " fma";
  if (__builtin_cpu_supports("avx512f")) text += " avx512f";
  if (__builtin_cpu_supports("avx512bw")) text += " avx512bw";
  if (__builtin_cpu_supports("avx512vl")) text += " avx512vl";
  if (__builtin_cpu_supports("avx512vnni")) text += " avx512vnni";
#elif defined(__aarch64__)
  text = "aarch64";
#else
  text = "other";
#endif
  return text;
}

KDLIB_FUNC std::string program_id() {
  const std::string self = "/proc/self/exe";
  if (!is_regular_file(self)) return "unknown";
  return concat(file_checksum(self), " (", file_size(self), " bytes)");
}

KDLIB_FUNC std::string setting_or_not_set(const SettingsList& list, const std::string& key) {
  for (const auto& [k, v] : list)
    if (k == key) return v;
  return "(not set)";
}

KDLIB_FUNC std::vector<std::string> environment_differences(const SettingsList& then, const SettingsList& now) {
  std::vector<std::string> out;
  for (const auto& entry : now) {
    const std::string before = setting_or_not_set(then, entry.first);
    if (before != entry.second)
      out.push_back(concat(entry.first, " was ", before, " and is now ", entry.second,
                           ": results may differ from an uninterrupted run in the last bits"));
  }
  return out;
}

KDLIB_NAMESPACE_END

#endif
