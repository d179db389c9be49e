// SPDX-License-Identifier: Apache-2.0
// One rendering of a parsed template.
#ifndef KDLIB_TEXT_JINJA_RUN_HPP
#define KDLIB_TEXT_JINJA_RUN_HPP

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/text/jinja_program.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

struct JinjaNamed {
  std::string_view name;
  JinjaValue value;
};

/// What a call was given. `what` names the callee in messages.
class JinjaArguments {
 public:
  std::string_view what;
  std::span<const JinjaValue> positional;
  std::span<const JinjaNamed> named = {};

  /// The values of the parameters `names`, nullptr where none was given. Fails for others and for two of one name.
  template <std::size_t N>
  std::array<const JinjaValue*, N> bind(const std::string_view (&names)[N]) const {
    std::array<const JinjaValue*, N> out{};
    if (positional.size() > N)
      jinja_fail(JinjaError::Kind::type, what, " takes at most ", N, " arguments, here are ", positional.size());
    for (std::size_t i = 0; i < positional.size(); ++i) out[i] = &positional[i];
    for (const JinjaNamed& n : named) {
      std::size_t i = 0;
      while (i < N && names[i] != n.name) ++i;
      if (i == N || out[i] != nullptr)
        jinja_fail(JinjaError::Kind::type, what, i == N ? " has no parameter " : " is given twice the parameter ",
                   n.name);
      out[i] = &n.value;
    }
    return out;
  }
  /// The same where the first `needed` must be there.
  template <std::size_t N>
  std::array<const JinjaValue*, N> bind(const std::string_view (&names)[N], std::size_t needed) const {
    const auto out = bind(names);
    for (std::size_t i = 0; i < needed; ++i)
      if (out[i] == nullptr) jinja_fail(JinjaError::Kind::type, what, " needs the argument ", names[i]);
    return out;
  }
  void none() const {
    if (!positional.empty() || !named.empty()) jinja_fail(JinjaError::Kind::type, what, " takes no arguments");
  }
};

/// A variable inside a loop, macro or block.
struct JinjaBinding {
  int name;
  JinjaValue value;
};

struct JinjaMacro {
  const JinjaNode* node;
  std::span<const JinjaBinding> captured;  // variables around it, if it does not stand at the top
};

class JinjaRun {
 public:
  JinjaRun(const JinjaProgram& program, const JinjaClock& clock, const JinjaLimits& limits);

  JinjaHeap& heap() { return heap_; }
  /// Sets a variable; names that the template does not have are left out.
  void set(std::string_view name, JinjaValue value);
  /// Runs the template after `set_variables(*this)`. JinjaError names the template and the place.
  template <class Variables>
  JinjaOutput render(Variables&& set_variables);

  // For filters, tests and functions:
  JinjaValue text(std::string_view words, bool markup = false) {
    JinjaValue v = heap_.copy(words);
    v.markup = markup;
    return v;
  }
  /// str() of a value without a copy of what is a string already.
  std::string_view string_of(const JinjaValue& v);
  /// The elements that a loop over `v` sees. Fails for what has none.
  std::span<const JinjaValue> elements(const JinjaValue& v);
  std::size_t length(const JinjaValue& v);
  JinjaValue attribute(const JinjaValue& object, std::string_view name);
  JinjaValue item(const JinjaValue& object, const JinjaValue& key);
  JinjaValue slice(const JinjaValue& object, const JinjaValue& start, const JinjaValue& stop, const JinjaValue& step);
  JinjaValue call(const JinjaValue& callee, const JinjaArguments& arguments);
  JinjaValue add(const JinjaValue& a, const JinjaValue& b);
  JinjaValue arithmetic(JinjaOp op, const JinjaValue& a, const JinjaValue& b);
  bool contains(const JinjaValue& container, const JinjaValue& element);
  /// printf's formats as Python's % has them.
  JinjaValue format(const JinjaValue& form, const JinjaArguments& values);
  JinjaValue filter(std::string_view name, const JinjaValue& subject, std::span<const JinjaValue> arguments,
                    std::span<const JinjaNamed> named = {});
  bool test(std::string_view name, const JinjaValue& subject, std::span<const JinjaValue> arguments);
  const JinjaClock& clock() const { return clock_; }
  std::int64_t integer_of(const JinjaValue& v, std::string_view what) const;

 private:
  using Kind = JinjaNode::Kind;
  enum class Flow { on, leave, again };
  class Depth;
  class Scope;

  Flow statement(const JinjaNode& node);
  Flow run_body(const JinjaNode& node);
  Flow loop(const JinjaNode& node);
  Flow branches(const JinjaNode& node);
  std::vector<JinjaValue> kept(const JinjaNode& node, std::span<const JinjaValue> items);
  void print(const JinjaValue& v);
  void write(std::string_view words);
  void assign(const JinjaNode& target, const JinjaValue& value);
  void bind(int name, const JinjaValue& value);
  void generation(const JinjaNode& node);
  /// Runs a body in a scope of its own; what it prints is the result.
  JinjaValue captured(const JinjaNode& node);

  JinjaValue value(const JinjaNode& node);
  JinjaValue name(const JinjaNode& node) const;
  JinjaValue collection(const JinjaNode& node);
  JinjaValue unary(const JinjaNode& node);
  JinjaValue binary(const JinjaNode& node);
  JinjaValue compare(const JinjaNode& node);
  bool compare(JinjaOp op, const JinjaValue& a, const JinjaValue& b);
  JinjaValue concatenate(const JinjaNode& node);
  JinjaValue call_node(const JinjaNode& node, const JinjaValue* caller = nullptr);
  JinjaValue filter_node(const JinjaNode& node, const JinjaValue* subject);
  JinjaArguments arguments(const JinjaNode& node, const JinjaValue* caller = nullptr);
  JinjaValue call_macro(const JinjaMacro& macro, const JinjaArguments& arguments);
  void bind_parameters(const JinjaNode& node, const JinjaArguments& arguments);
  JinjaValue macro_value(const JinjaNode& node);
  JinjaValue slice_text(std::string_view text, const JinjaValue& start, const JinjaValue& stop, std::int64_t step);

  const JinjaProgram& program_;
  JinjaHeap heap_;
  JinjaClock clock_;
  unsigned depth_ = 0, max_depth_;
  std::vector<JinjaValue> top_;       // by name; what is not set is undefined and has no text
  std::vector<JinjaBinding> locals_;  // of loops and macros, innermost last
  std::size_t base_ = 0;              // where those of the macro that runs begin
  bool inside_ = false;               // names are bound in locals_
  std::string output_;
  std::string* out_ = &output_;
  std::vector<std::pair<std::size_t, std::size_t>> spans_;
  std::uint32_t place_ = 0;  // of what is being evaluated
};

/// Bounds the recursion of the interpreter itself.
class JinjaRun::Depth {
 public:
  explicit Depth(JinjaRun& run) : run_(run) {
    if (run_.depth_ == run_.max_depth_)
      jinja_fail(JinjaError::Kind::limit, "expressions, blocks and macro calls lie more than ", run_.max_depth_,
                 " deep in each other: a macro may call itself for ever");
    ++run_.depth_;
  }
  ~Depth() { --run_.depth_; }
  Depth(const Depth&) = delete;
  Depth& operator=(const Depth&) = delete;

 private:
  JinjaRun& run_;
};

/// Names that are set inside vanish at its end.
class JinjaRun::Scope {
 public:
  explicit Scope(JinjaRun& run) : run_(run), size_(run.locals_.size()), inside_(std::exchange(run.inside_, true)) {}
  ~Scope() {
    run_.locals_.resize(size_, JinjaBinding{-1, {}});
    run_.inside_ = inside_;
  }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  JinjaRun& run_;
  std::size_t size_;
  bool inside_;
};

/// Gives a namespace an attribute. Names that begin with an underscore are refused, as in transformers.
void set_member(JinjaHeap& heap, JinjaSpace& space, const JinjaValue& name, const JinjaValue& value);
JinjaValue call_method(JinjaRun& run, const JinjaValue& self, std::string_view name, const JinjaArguments& arguments);
bool has_method(const JinjaValue& v, std::string_view name);
/// Methods of Python that change their object: templates may not call them.
bool is_changing_method(const JinjaValue& v, std::string_view name);
JinjaValue call_function(JinjaRun& run, std::string_view name, const JinjaArguments& arguments);
bool is_function(std::string_view name);
JinjaValue loop_attribute(JinjaRun& run, const JinjaLoop& loop, std::string_view name);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/jinja_calls_inl.hpp"
#include "kdlib/text/jinja_expressions_inl.hpp"
#include "kdlib/text/jinja_filters_inl.hpp"
#include "kdlib/text/jinja_methods_inl.hpp"
#include "kdlib/text/jinja_operators_inl.hpp"
#include "kdlib/text/jinja_statements_inl.hpp"
#include "kdlib/text/jinja_tests_inl.hpp"
#endif

#endif
