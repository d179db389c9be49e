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

/// As many arguments as names, in their order. Throws UsageError (exit status 2) with the usage line otherwise,
/// HelpRequested (exit status 0) on --help.
class Args {
 public:
  Args(int argc, const char* const* argv, std::initializer_list<const char*> names);

  /// The value of a name. A name that the constructor was not given is an Error.
  const std::string& operator[](std::string_view name) const;
  /// The same as a whole number of 1 or more. UsageError where the value is no such number.
  std::int64_t count(std::string_view name) const;

 private:
  std::vector<std::string> names_, values_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/tools/args_inl.hpp"
#endif

#endif
