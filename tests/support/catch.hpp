// SPDX-License-Identifier: Apache-2.0
// Catch2 2.13 and 3 behind one include, and a way to skip a case with a reason that both understand.
#ifndef KDLIB_TESTS_SUPPORT_CATCH_HPP
#define KDLIB_TESTS_SUPPORT_CATCH_HPP

#if __has_include(<catch2/catch_all.hpp>)
#define KDLIB_TESTS_CATCH_MAJOR 3
#include <catch2/catch_approx.hpp>
#include <catch2/catch_message.hpp>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/generators/catch_generators_range.hpp>
#include <catch2/matchers/catch_matchers_all.hpp>
using Catch::Approx;
namespace kdlib_tests {
/// Matches a text that holds `part`: `REQUIRE_THROWS_WITH(f(), contains("offset 8"))`.
inline auto contains(const std::string& part) { return Catch::Matchers::ContainsSubstring(part); }
}  // namespace kdlib_tests
#else
#define KDLIB_TESTS_CATCH_MAJOR 2
#include <catch2/catch.hpp>
namespace kdlib_tests {
/// Matches a text that holds `part`: `REQUIRE_THROWS_WITH(f(), contains("offset 8"))`.
inline auto contains(const std::string& part) { return Catch::Matchers::Contains(part); }
}  // namespace kdlib_tests
#endif

#include <cstdio>
#include <string>

namespace kdlib_tests {
/// Test cases that asked to be skipped in this process. `main` answers 4 ("skipped") when these are all that ran.
inline int skipped_cases = 0;

inline void note_skip(const std::string& reason) {
  ++skipped_cases;
  std::printf("[kdlib-skip] %s\n", reason.c_str());
  std::fflush(stdout);
}
}  // namespace kdlib_tests

using kdlib_tests::contains;

/// Ends the test case, as skipped, with a reason that CTest's log and scripts/test show. Use it at the top level of a
/// case (not in a helper function), before the first assertion.
#if KDLIB_TESTS_CATCH_MAJOR >= 3 && defined(SKIP)
#define KDLIB_SKIP(reason)          \
  do {                              \
    kdlib_tests::note_skip(reason); \
    SKIP(reason);                   \
  } while (false)
#else
#define KDLIB_SKIP(reason)          \
  do {                              \
    kdlib_tests::note_skip(reason); \
    return;                         \
  } while (false)
#endif

#endif
