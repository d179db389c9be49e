// SPDX-License-Identifier: Apache-2.0
// Executes one rendering of a parsed template.
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

/// The arguments of a call. `what` names the called function in messages.
class JinjaArguments {
 public:
  std::string_view what;
  std::span<const JinjaValue> positional;
  std::span<const JinjaNamed> named = {};

  /// Returns the values of the parameters `names`, with nullptr for a parameter that was not given. Fails if an
  /// argument has another name, if a parameter is given twice, or if there are too many arguments.
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
  /// Does the same and fails if one of the first `needed` parameters is not given.
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
  std::span<const JinjaBinding> captured;  // the variables around the macro, if the macro is defined inside a block
};

class JinjaRun {
 public:
  JinjaRun(const JinjaProgram& program, const JinjaClock& clock, const JinjaLimits& limits);

  JinjaHeap& heap() { return heap_; }
  /// Sets a variable. A name that the template does not use is ignored.
  void set(std::string_view name, JinjaValue value);
  /// Calls `set_variables(*this)` and runs the template. JinjaError names the template and the place.
  template <class Variables>
  JinjaOutput render(Variables&& set_variables);

  // The following functions serve filters, tests and functions of the template:
  JinjaValue text(std::string_view words, bool markup = false) {
    JinjaValue v = heap_.copy(words);
    v.markup = markup;
    return v;
  }
  /// Returns Python's str() of a value. A value that is a string is not copied.
  std::string_view string_of(const JinjaValue& v);
  /// Returns the elements that a loop over `v` visits. Fails if `v` has no elements.
  std::span<const JinjaValue> elements(const JinjaValue& v);
  std::size_t length(const JinjaValue& v);
  JinjaValue attribute(const JinjaValue& object, std::string_view name);
  JinjaValue item(const JinjaValue& object, const JinjaValue& key);
  JinjaValue slice(const JinjaValue& object, const JinjaValue& start, const JinjaValue& stop, const JinjaValue& step);
  JinjaValue call(const JinjaValue& callee, const JinjaArguments& arguments);
  JinjaValue add(const JinjaValue& a, const JinjaValue& b);
  JinjaValue arithmetic(JinjaOp op, const JinjaValue& a, const JinjaValue& b);
  bool contains(const JinjaValue& container, const JinjaValue& element);
  /// Formats values as Python's operator % does.
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
  /// Runs a body in a new scope and returns the text that the body prints.
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
  std::vector<JinjaValue> top_;       // values by number of the name; a variable that is not set is undefined
  std::vector<JinjaBinding> locals_;  // variables of loops and macros, the innermost last
  std::size_t base_ = 0;              // where the variables of the running macro begin in locals_
  bool inside_ = false;               // true: new names are bound in locals_
  std::string output_;
  std::string* out_ = &output_;
  std::vector<std::pair<std::size_t, std::size_t>> spans_;
  std::uint32_t place_ = 0;  // place in the source of the node that is being evaluated
};

/// Limits the depth of the interpreter's recursion.
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

/// A scope for variables: names that are set inside the scope are removed at its end.
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

/// Sets an attribute of a namespace. Names that begin with an underscore are refused, as in transformers.
void set_member(JinjaHeap& heap, JinjaSpace& space, const JinjaValue& name, const JinjaValue& value);
JinjaValue call_method(JinjaRun& run, const JinjaValue& self, std::string_view name, const JinjaArguments& arguments);
bool has_method(const JinjaValue& v, std::string_view name);
/// True for methods of Python that change their object. Templates may not call such methods.
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
