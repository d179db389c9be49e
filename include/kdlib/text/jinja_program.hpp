// SPDX-License-Identifier: Apache-2.0
// A parsed Jinja template: the syntax tree and the texts to which the tree points.
#ifndef KDLIB_TEXT_JINJA_PROGRAM_HPP
#define KDLIB_TEXT_JINJA_PROGRAM_HPP

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/text/jinja_value.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

class JinjaRun;
class JinjaArguments;
using JinjaFilter = JinjaValue (*)(JinjaRun&, const JinjaValue& subject, const JinjaArguments&);
using JinjaTest = bool (*)(JinjaRun&, const JinjaValue& subject, const JinjaArguments&);

enum class JinjaOp : std::uint8_t {
  none,
  add,
  subtract,
  multiply,
  divide,
  floor_divide,
  modulo,
  power,
  negate,
  plus,
  logical_not,
  logical_and,
  logical_or,
  equal,
  not_equal,
  less,
  less_equal,
  greater,
  greater_equal,
  in,
  not_in
};

/// One node of the syntax tree. The comment behind each kind lists the elements of `kids`.
struct JinjaNode {
  enum class Kind : std::uint8_t {
    // Expressions
    constant,     // `value`
    name,         // `name`; `value` is the undefined value for this name
    list,         // elements
    tuple,        // elements
    dict,         // key, value, key, value ...
    attribute,    // object; `value`: the attribute
    item,         // object, index
    slice,        // object, start, stop, step; each of the last three may be nullptr
    call,         // callee, arguments ...
    filter,       // subject (nullptr in a block), arguments ...; `value`: name of the filter
    test,         // subject, arguments ...; `value`: name of the test
    unary,        // operand
    binary,       // left, right
    compare,      // first operand, then operand nodes of kind `operand`
    operand,      // the right side of a comparison by `op`
    conditional,  // condition, value if true, value if false (may be nullptr)
    concat,       // operands of the operator ~
    // Statements
    body,          // statements
    text,          // `value`
    print,         // expression
    if_else,       // condition, body, condition, body ..., optionally a last body
    for_loop,      // target, iterable, condition (or nullptr), body, else body (or nullptr)
    set,           // target, value
    set_block,     // target, filter (or nullptr), body
    macro,         // body, then the defaults of the last parameters; `parameters`: numbers of their names
    call_block,    // call, then the block as a macro node
    filter_block,  // filter, body
    generation,    // body
    break_loop,
    continue_loop
  };
  Kind kind = Kind::constant;
  JinjaOp op = JinjaOp::none;
  bool varargs = false, kwargs = false;  // a macro that reads these takes any number of arguments
  std::uint32_t place = 0;               // byte in the source where the node begins
  int name = -1;                         // index into JinjaProgram::names
  JinjaValue value = {};
  std::vector<JinjaNode*> kids = {};
  std::vector<int> parameters = {};
  std::vector<std::pair<std::string_view, JinjaNode*>> keywords = {};
  JinjaNode *spread = nullptr, *spread_keywords = nullptr;  // *a, **b
  JinjaFilter run_filter = nullptr;                         // nullptr: the filter is unknown
  JinjaTest run_test = nullptr;
};

struct JinjaProgram {
  std::string name, source;
  std::vector<std::unique_ptr<JinjaNode>> nodes;
  std::vector<std::unique_ptr<std::string>> strings;  // texts of literals with escapes, of names and of messages
  std::vector<std::string_view> names;
  std::vector<bool> global;  // for each name: true if the template reads this variable
  int loop_name = -1;        // number of the name "loop"; -1 if the template does not use it
  const JinjaNode* root = nullptr;
  bool has_generation = false;

  JinjaProgram() = default;
  JinjaProgram(const JinjaProgram&) = delete;
  JinjaProgram& operator=(const JinjaProgram&) = delete;

  std::string_view store(std::string text) {
    return *strings.emplace_back(std::make_unique<std::string>(std::move(text)));
  }
  /// Returns the number of a name; -1 if the template has no such name.
  int find_name(std::string_view wanted) const {
    for (std::size_t i = 0; i < names.size(); ++i)
      if (names[i] == wanted) return static_cast<int>(i);
    return -1;
  }
  int name_number(std::string_view wanted) {
    if (const int found = find_name(wanted); found >= 0) return found;
    names.push_back(store(std::string(wanted)));
    return static_cast<int>(names.size()) - 1;
  }
  [[noreturn]] void fail(JinjaError::Kind kind, std::string words, std::size_t place) const {
    std::size_t line = 1, begin = 0;
    for (std::size_t i = 0; i < place && i < source.size(); ++i)
      if (source[i] == '\n') {
        ++line;
        begin = i + 1;
      }
    throw JinjaError(kind, std::move(words), name, line, std::max(place, begin) - begin + 1);
  }
};

/// A token of a template's source. jinja_tokens() cuts the source into tokens and applies the rules for white space.
struct JinjaToken {
  enum class Kind : std::uint8_t {
    text,
    print_begin,
    print_end,
    block_begin,
    block_end,
    name,
    string,
    number,
    sign,
    end
  };
  Kind kind = Kind::end;
  /// The text of the token; of a string with escapes replaced. The number of a number token is in `value`.
  std::string_view text = {};
  std::uint32_t place = 0;
  JinjaValue value = {};
};
std::vector<JinjaToken> jinja_tokens(JinjaProgram& program);

/// Parses the source and fills `nodes` and `root`.
void parse_jinja(JinjaProgram& program);

JinjaFilter find_filter(std::string_view name);  // nullptr: there is no such filter
JinjaTest find_test(std::string_view name);

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
