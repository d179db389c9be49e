// SPDX-License-Identifier: Apache-2.0
// The message of what a call refuses.
#ifndef KDLIB_TESTS_SUPPORT_REFUSAL_HPP
#define KDLIB_TESTS_SUPPORT_REFUSAL_HPP

#include <concepts>
#include <string>

#include "kdlib/core/error.hpp"

namespace kdlib_tests {

/// What f() throws, in its words.
template <std::invocable F>
std::string refusal(F&& f) {
  try {
    f();
  } catch (const kdlib::Error& e) {
    return e.what();
  }
  return "nothing was refused";
}

}  // namespace kdlib_tests

#endif
