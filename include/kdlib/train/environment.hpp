// SPDX-License-Identifier: Apache-2.0
// What, besides the settings, decides the last bits of a run: threads, matrix library, CPU, program.
#ifndef KDLIB_TRAIN_ENVIRONMENT_HPP
#define KDLIB_TRAIN_ENVIRONMENT_HPP

#include <string>

#include "kdlib/optim/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// Name and vector instruction sets of this machine's CPU, as far as the system tells.
std::string cpu_description();

/// Checksum (io/checksum.hpp) and size of the running program's file: two builds differ, two runs of one build do not.
/// "unknown" where the system does not show the file.
std::string program_id();

/// "threads", "cpu", "program", "device", and "backend" where Kernels<D, T>::environment() names its libraries.
template <class D, class T>
SettingsList run_environment();

/// One sentence for every key whose value differs.
std::vector<std::string> environment_differences(const SettingsList& then, const SettingsList& now);

/// The value of a key, or "(not set)".
std::string setting_or_not_set(const SettingsList& list, const std::string& key);

KDLIB_NAMESPACE_END

#include "kdlib/train/environment_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/train/environment_text_inl.hpp"
#endif

#endif
