// SPDX-License-Identifier: Apache-2.0
// What a machine can do: a few accelerators by name, and the memory that this machine can still give.
#ifndef KDLIB_RECIPE_MACHINES_HPP
#define KDLIB_RECIPE_MACHINES_HPP

#include <string>
#include <string_view>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Data-sheet numbers: dense bf16 products with float accumulation, memory bandwidth and size.
struct Accelerator {
  const char* name;
  double bf16_flops;  // per second, without sparsity
  double bandwidth;   // bytes per second
  double memory;      // bytes
};

/// H100 (SXM, 80 GB), H200, A100 (SXM, 80 GB), L40S, RTX 4090.
const std::vector<Accelerator>& accelerators();
/// By name; case, blanks and dashes do not count. SettingsError lists the names.
const Accelerator& find_accelerator(std::string_view name);

/// Bytes that processes may still take without swapping: MemAvailable of /proc/meminfo, less where a control group
/// allows less. 0: unknown.
double available_memory();
/// The same as a share of all memory, of the machine or of the control group if less: 0 to 1; 1 where it is unknown.
double free_memory_share();
/// Free bytes of the file system that `path` (or the nearest folder above it) lies on. 0: unknown.
double free_disk(const std::string& path);

namespace detail {
/// The number behind `key` at the front of a line in a small text file of the kernel (the first number where key is
/// empty); -1: the file or the number is not there.
double kernel_number(const char* path, const char* key);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/machines_inl.hpp"
#endif

#endif
