// SPDX-License-Identifier: Apache-2.0
// What decides the last bits of a run's results besides the settings: threads, matrix library, CPU and program.
#ifndef KDLIB_TRAIN_ENVIRONMENT_HPP
#define KDLIB_TRAIN_ENVIRONMENT_HPP

#include <string>

#include "kdlib/optim/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns the kind and the vector instruction sets of this machine's CPU, as far as they are known.
std::string cpu_description();

/// Returns checksum (io/checksum.hpp) and size of the running program's file, which tell two builds apart. Returns
/// "unknown" if the system does not show the file.
std::string program_id();

/// Returns "threads", "device", "cpu", "program" and, if Kernels<D, T>::environment() names its libraries, "backend".
template <class D, class T>
SettingsList run_environment();

/// Returns one sentence for every key of `now` whose value differs from that in `then`.
std::vector<std::string> environment_differences(const SettingsList& then, const SettingsList& now);

/// Returns the value of a key, or "(not set)".
std::string setting_or_not_set(const SettingsList& list, const std::string& key);

KDLIB_NAMESPACE_END

#include "kdlib/train/environment_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/train/environment_text_inl.hpp"
#endif

#endif
