// SPDX-License-Identifier: Apache-2.0
// What machines can do: a table of a few accelerators, and the memory that this machine still has.
#ifndef KDLIB_RECIPE_MACHINES_HPP
#define KDLIB_RECIPE_MACHINES_HPP

#include <string>
#include <string_view>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Numbers of a data sheet: speed of dense bf16 products with float accumulation, memory bandwidth and memory size.
struct Accelerator {
  const char* name;
  double bf16_flops;  // operations per second, without sparsity
  double bandwidth;   // bytes per second
  double memory;      // bytes
};

/// Returns H100 (SXM, 80 GB), H200, A100 (SXM, 80 GB), L40S and RTX 4090.
const std::vector<Accelerator>& accelerators();
/// Returns the accelerator of that name; case, blanks, dashes and underscores do not count. Throws SettingsError, which
/// lists the names.
const Accelerator& find_accelerator(std::string_view name);

/// Returns the bytes that processes may still take without swapping: MemAvailable of /proc/meminfo, or less if a
/// control group allows less. 0: unknown.
double available_memory();
/// Returns the memory that is still free as a share of all memory, 0 to 1: of the machine, or of its control group if
/// that share is smaller. 1 if unknown.
double free_memory_share();
/// Returns the free bytes of the file system that holds `path` or the nearest folder above it. 0: unknown.
double free_disk(const std::string& path);

namespace detail {
/// Returns the number behind `key` at the front of a line in a small text file of the kernel (the first number for an
/// empty key). Returns -1 if the file or the number is not there.
double kernel_number(const char* path, const char* key);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/machines_inl.hpp"
#endif

#endif
