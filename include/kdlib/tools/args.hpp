// SPDX-License-Identifier: Apache-2.0
// Named positional arguments of a short main: `const kd::Args args{argc, argv, {"student", "cache", "out"}};`
#ifndef KDLIB_TOOLS_ARGS_HPP
#define KDLIB_TOOLS_ARGS_HPP

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/tools/report.hpp"

KDLIB_NAMESPACE_BEGIN

/// Takes exactly one argument for each name, in the order of the names. UsageError (exit status 2), with the usage
/// line: the number of arguments is another one. HelpRequested (exit status 0): --help was given.
class Args {
 public:
  Args(int argc, const char* const* argv, std::initializer_list<const char*> names);

  /// Returns the value of a name. Error: the constructor did not get this name.
  const std::string& operator[](std::string_view name) const;
  /// Returns the value of a name as a whole number. UsageError: the value is not a whole number of 1 or more.
  std::int64_t count(std::string_view name) const;

 private:
  std::vector<std::string> names_, values_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/tools/args_inl.hpp"
#endif

#endif
