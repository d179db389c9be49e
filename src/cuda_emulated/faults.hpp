// SPDX-License-Identifier: Apache-2.0
// Page faults in device memory: work of the device opens what it touches; everything else is an error.
#ifndef KDLIB_SRC_CUDA_EMULATED_FAULTS_HPP
#define KDLIB_SRC_CUDA_EMULATED_FAULTS_HPP

#include <string>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Makes the handler of faults the current one (test frameworks set their own).
void install_fault_handler();
/// Writes the text to standard error and ends the program: the state is beyond an exception.
[[noreturn]] void die(const std::string& text);

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
