// SPDX-License-Identifier: Apache-2.0
// Bodies of environment.hpp.
#ifndef KDLIB_TRAIN_ENVIRONMENT_INL_HPP
#define KDLIB_TRAIN_ENVIRONMENT_INL_HPP

#include "kdlib/core/parallel.hpp"
#include "kdlib/io/checksum.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/train/environment.hpp"

KDLIB_NAMESPACE_BEGIN

template <class D, class T>
SettingsList run_environment() {
  SettingsList list{{"threads", std::to_string(thread_count())},
                    {"device", D::name},
                    {"cpu", cpu_description()},
                    {"program", program_id()}};
  if constexpr (requires { Kernels<D, T>::environment(); }) list.emplace_back("backend", Kernels<D, T>::environment());
  return list;
}

KDLIB_NAMESPACE_END

#endif
