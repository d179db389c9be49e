// SPDX-License-Identifier: Apache-2.0
// An interpreter for the parts of the template language Jinja that published chat templates use. Its settings are those
// of transformers (trim_blocks, lstrip_blocks, loop controls, {% generation %}, a plain tojson, raise_exception,
// strftime_now). docs/formats.md lists the supported parts and the limits.
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

/// A parsed template. Copies share the parsed template; several threads may render at once.
class JinjaTemplate {
 public:
  static constexpr std::size_t max_source = std::size_t{1} << 20;  // bytes

  /// Parses `source`. `name` stands at the beginning of every error message. JinjaError: the source is not a valid
  /// template. Unknown filters, tests and functions are reported only when the rendering reaches them.
  JinjaTemplate(std::string source, std::string name);

  JinjaOutput render(std::span<const JinjaVariable> variables, const JinjaClock& clock = JinjaClock::local_now(),
                     const JinjaLimits& limits = {}) const;

  const std::string& name() const;
  const std::string& source() const;  // the source with \n as the only line end
  bool has_generation() const;
  /// True if the template reads a variable of this name.
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
