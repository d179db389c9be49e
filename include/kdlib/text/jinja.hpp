// SPDX-License-Identifier: Apache-2.0
// An interpreter for the Jinja that published chat templates use, set up as transformers does (trim_blocks,
// lstrip_blocks, loop controls, {% generation %}, a plain tojson, raise_exception, strftime_now).
// docs/formats.md lists what it knows and its limits.
#ifndef KDLIB_TEXT_JINJA_HPP
#define KDLIB_TEXT_JINJA_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/text/jinja_types.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
struct JinjaProgram;
}

/// A parsed template. Copies share it; rendering may go on in several threads at once.
class JinjaTemplate {
 public:
  static constexpr std::size_t max_source = std::size_t{1} << 20;  // bytes

  /// `name` opens every message. JinjaError for what is no template; unknown filters, tests and functions are only
  /// found when they are reached.
  JinjaTemplate(std::string source, std::string name);

  JinjaOutput render(std::span<const JinjaVariable> variables, const JinjaClock& clock = JinjaClock::local_now(),
                     const JinjaLimits& limits = {}) const;

  const std::string& name() const;
  const std::string& source() const;  // with \n as the only line end
  bool has_generation() const;
  /// True if the template reads a variable of that name.
  bool reads(std::string_view variable) const;

  const detail::JinjaProgram& program() const { return *program_; }

 private:
  std::shared_ptr<const detail::JinjaProgram> program_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/jinja_inl.hpp"
#endif

#endif
