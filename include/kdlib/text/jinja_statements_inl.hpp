// SPDX-License-Identifier: Apache-2.0
// How statements of a template run.
#ifndef KDLIB_TEXT_JINJA_STATEMENTS_INL_HPP
#define KDLIB_TEXT_JINJA_STATEMENTS_INL_HPP

#include "kdlib/text/jinja_run.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC JinjaRun::JinjaRun(const JinjaProgram& program, const JinjaClock& clock, const JinjaLimits& limits)
    : program_(program), heap_(limits), clock_(clock), max_depth_(limits.depth), top_(program.names.size()) {
  for (std::size_t i = 0; i < top_.size(); ++i)
    if (is_function(program.names[i])) top_[i] = JinjaValue::of(program.names[i], JinjaValue::Kind::function);
}

KDLIB_FUNC void JinjaRun::set(std::string_view name, JinjaValue value) {
  if (const int number = program_.find_name(name); number >= 0) top_[static_cast<std::size_t>(number)] = value;
}

template <class Variables>
JinjaOutput JinjaRun::render(Variables&& set_variables) {
  try {
    set_variables(*this);
    run_body(*program_.root);
  } catch (const JinjaFailure& failure) {
    program_.fail(failure.kind, failure.words, place_);
  }
  return {std::move(output_), std::move(spans_)};
}

KDLIB_FUNC void JinjaRun::write(std::string_view words) {
  heap_.charge(words.size());
  *out_ += words;
}

KDLIB_FUNC void JinjaRun::print(const JinjaValue& v) {
  if (v.is_string()) write(v.view());
  else append_str(heap_, v, *out_);
}

KDLIB_FUNC JinjaRun::Flow JinjaRun::run_body(const JinjaNode& node) {
  const Depth depth(*this);
  for (const JinjaNode* kid : node.kids)
    if (const Flow flow = statement(*kid); flow != Flow::on) return flow;
  return Flow::on;
}

KDLIB_FUNC JinjaRun::Flow JinjaRun::statement(const JinjaNode& node) {
  heap_.step();
  place_ = node.place;
  switch (node.kind) {
    case Kind::text:
      write(node.value.view());
      break;
    case Kind::print:
      print(value(*node.kids[0]));
      break;
    case Kind::if_else:
      return branches(node);
    case Kind::for_loop:
      return loop(node);
    case Kind::set:
      assign(*node.kids[0], value(*node.kids[1]));
      break;
    case Kind::set_block: {
      JinjaValue v = captured(*node.kids[2]);
      if (node.kids[1] != nullptr) v = filter_node(*node.kids[1], &v);
      assign(*node.kids[0], v);
      break;
    }
    case Kind::macro:
      bind(node.name, macro_value(node));
      break;
    case Kind::call_block: {
      const JinjaValue caller = macro_value(*node.kids[1]);
      print(call_node(*node.kids[0], &caller));
      break;
    }
    case Kind::filter_block: {
      const JinjaValue v = captured(*node.kids[1]);
      print(filter_node(*node.kids[0], &v));
      break;
    }
    case Kind::generation:
      generation(node);
      break;
    default:
      return node.kind == Kind::break_loop ? Flow::leave : Flow::again;
  }
  return Flow::on;
}

KDLIB_FUNC JinjaRun::Flow JinjaRun::branches(const JinjaNode& node) {
  for (std::size_t i = 0; i + 1 < node.kids.size(); i += 2)
    if (truth(value(*node.kids[i]))) return run_body(*node.kids[i + 1]);
  return node.kids.size() % 2 == 1 ? run_body(*node.kids.back()) : Flow::on;
}

KDLIB_FUNC std::vector<JinjaValue> JinjaRun::kept(const JinjaNode& node, std::span<const JinjaValue> items) {
  std::vector<JinjaValue> out;
  for (const JinjaValue& item : items) {
    const Scope scope(*this);
    assign(*node.kids[0], item);
    if (truth(value(*node.kids[2]))) out.push_back(item);
  }
  return out;
}

KDLIB_FUNC JinjaRun::Flow JinjaRun::loop(const JinjaNode& node) {
  std::span<const JinjaValue> items = elements(value(*node.kids[1]));
  if (node.kids[2] != nullptr) items = heap_.list(kept(node, items)).list->elements();
  if (items.empty()) {
    if (node.kids[4] == nullptr) return Flow::on;
    const Scope scope(*this);
    return run_body(*node.kids[4]);
  }
  JinjaLoop* state = heap_.loop();
  state->items = items;
  JinjaValue loop_value = JinjaValue::of_kind(JinjaValue::Kind::loop);
  loop_value.loop = state;
  const int loop_name = program_.loop_name;
  for (std::size_t i = 0; i < items.size(); ++i) {
    const Scope scope(*this);
    heap_.step();
    state->index = i;
    if (loop_name >= 0) locals_.push_back({loop_name, loop_value});
    assign(*node.kids[0], items[i]);
    if (run_body(*node.kids[3]) == Flow::leave) break;
  }
  return Flow::on;
}

KDLIB_FUNC void JinjaRun::bind(int name, const JinjaValue& value) {
  if (!inside_) {
    top_[static_cast<std::size_t>(name)] = value;
    return;
  }
  heap_.step();
  locals_.push_back({name, value});
}

KDLIB_FUNC void JinjaRun::assign(const JinjaNode& target, const JinjaValue& v) {
  if (target.kind == Kind::name) return bind(target.name, v);
  if (target.kind == Kind::attribute) {
    const JinjaValue space = value(*target.kids[0]);
    if (!space.is(JinjaValue::Kind::space))
      jinja_fail(JinjaError::Kind::type, "only a namespace has attributes that can be set; this is a ",
                 type_name(space));
    set_member(heap_, *space.space, target.value, v);
    return;
  }
  const std::span<const JinjaValue> parts = elements(v);
  if (parts.size() != target.kids.size())
    jinja_fail(JinjaError::Kind::type, "a value of ", parts.size(), " elements cannot be given to ", target.kids.size(),
               " names");
  for (std::size_t i = 0; i < parts.size(); ++i) assign(*target.kids[i], parts[i]);
}

KDLIB_FUNC JinjaValue JinjaRun::captured(const JinjaNode& node) {
  const Scope scope(*this);
  std::string words;
  std::string* around = std::exchange(out_, &words);
  try {
    run_body(node);
  } catch (...) {
    out_ = around;
    throw;
  }
  out_ = around;
  return text(words);
}

/// As transformers counts: the text printed so far at the top, and what the block printed.
KDLIB_FUNC void JinjaRun::generation(const JinjaNode& node) {
  const JinjaValue words = captured(*node.kids[0]);
  spans_.emplace_back(output_.size(), output_.size() + words.size);
  write(words.view());
}

KDLIB_FUNC JinjaValue JinjaRun::macro_value(const JinjaNode& node) {
  auto* macro = heap_.make<JinjaMacro>();
  macro->node = &node;
  if (const std::size_t count = locals_.size() - base_; inside_ && count > 0) {
    auto* kept = static_cast<JinjaBinding*>(heap_.allocate(count * sizeof(JinjaBinding)));
    std::uninitialized_copy_n(locals_.data() + base_, count, kept);
    macro->captured = {kept, count};
  }
  JinjaValue out = JinjaValue::of_kind(JinjaValue::Kind::macro);
  out.macro = macro;
  return out;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
