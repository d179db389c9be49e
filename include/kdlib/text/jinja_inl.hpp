// SPDX-License-Identifier: Apache-2.0
// Bodies of jinja.hpp.
#ifndef KDLIB_TEXT_JINJA_INL_HPP
#define KDLIB_TEXT_JINJA_INL_HPP

#include "kdlib/text/jinja.hpp"
#include "kdlib/text/jinja_lexer_inl.hpp"
#include "kdlib/text/jinja_parser_inl.hpp"
#include "kdlib/text/jinja_run.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC JinjaTemplate::JinjaTemplate(std::string source, std::string name) {
  auto program = std::make_shared<detail::JinjaProgram>();
  program->name = std::move(name);
  program->source = detail::jinja_source(source);
  if (source.size() > max_source)
    program->fail(JinjaError::Kind::limit,
                  concat("the template has ", source.size(), " bytes, at most ", max_source, " are read"), 0);
  if (const std::size_t bad = find_invalid_utf8(program->source); bad != std::string::npos)
    program->fail(JinjaError::Kind::syntax, "the template is not UTF-8", bad);
  detail::parse_jinja(*program);
  program->global.resize(program->names.size());
  program->loop_name = program->find_name("loop");
  program_ = std::move(program);
}

KDLIB_FUNC JinjaOutput JinjaTemplate::render(std::span<const JinjaVariable> variables, const JinjaClock& clock,
                                             const JinjaLimits& limits) const {
  return detail::JinjaRun(*program_, clock, limits).render([&](detail::JinjaRun& run) {
    for (const JinjaVariable& v : variables)
      if (program_->find_name(v.name) >= 0) run.set(v.name, run.heap().from_json(v.value));
  });
}

KDLIB_FUNC const std::string& JinjaTemplate::name() const { return program_->name; }
KDLIB_FUNC const std::string& JinjaTemplate::source() const { return program_->source; }
KDLIB_FUNC bool JinjaTemplate::has_generation() const { return program_->has_generation; }
KDLIB_FUNC bool JinjaTemplate::reads(std::string_view variable) const {
  const int number = program_->find_name(variable);
  return number >= 0 && program_->global[static_cast<std::size_t>(number)];
}

KDLIB_NAMESPACE_END

#endif
