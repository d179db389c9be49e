// SPDX-License-Identifier: Apache-2.0
// Bodies of args.hpp.
#ifndef KDLIB_TOOLS_ARGS_INL_HPP
#define KDLIB_TOOLS_ARGS_INL_HPP

#include <charconv>

#include "kdlib/tools/args.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC Args::Args(int argc, const char* const* argv, std::initializer_list<const char*> names)
    : names_(names.begin(), names.end()) {
  std::string usage = concat("usage: ", argc > 0 ? argv[0] : "program");
  for (const std::string& name : names_) usage += " <" + name + ">";
  for (int i = 1; i < argc; ++i) {
    values_.emplace_back(argv[i]);
    if (values_.back() == "--help" || values_.back() == "-h") throw HelpRequested(usage + "\n");
    require<UsageError>(values_.back().rfind("--", 0) != 0, "unknown option ", values_.back(), "\n", usage);
  }
  require<UsageError>(values_.size() == names_.size(), "got ", values_.size(), " arguments, need ", names_.size(), "\n",
                      usage);
}

KDLIB_FUNC const std::string& Args::operator[](std::string_view name) const {
  for (std::size_t i = 0; i < names_.size(); ++i)
    if (names_[i] == name) return values_[i];
  fail<Error>("[Args] no argument is called '", name, "'");
}

KDLIB_FUNC std::int64_t Args::count(std::string_view name) const {
  const std::string& value = (*this)[name];
  const char* end = value.data() + value.size();
  std::int64_t number = 0;
  const auto read = std::from_chars(value.data(), end, number);
  require<UsageError>(read.ec == std::errc() && read.ptr == end && number >= 1, "<", name, "> is '", value,
                      "'; it must be a whole number of 1 or more");
  return number;
}

KDLIB_NAMESPACE_END

#endif
