// SPDX-License-Identifier: Apache-2.0
// A parsed Jinja template: its syntax tree and the texts that the tree points to.
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

/// One node. What `kids` holds stands behind the kind.
struct JinjaNode {
  enum class Kind : std::uint8_t {
    // Expressions
    constant,     // `value`
    name,         // `name`; `value` is the undefined value of that name
    list,         // elements
    tuple,        // elements
    dict,         // key, value, key, value ...
    attribute,    // object; `value`: the attribute
    item,         // object, index
    slice,        // object, start, stop, step: each may be nullptr
    call,         // callee, arguments ...
    filter,       // subject (nullptr in a block), arguments ...; `value`: its name
    test,         // subject, arguments ...; `value`: its name
    unary,        // operand
    binary,       // left, right
    compare,      // first operand, then operand nodes of kind `operand`
    operand,      // right side of a comparison with `op`
    conditional,  // condition, value, otherwise (may be nullptr)
    concat,       // operands of ~
    // Statements
    body,          // statements
    text,          // `value`
    print,         // expression
    if_else,       // condition, body, condition, body ..., perhaps a last body
    for_loop,      // target, iterable, condition (or nullptr), body, else body (or nullptr)
    set,           // target, value
    set_block,     // target, filter (or nullptr), body
    macro,         // body, then defaults of the last parameters; `parameters`
    call_block,    // call, macro node of the block
    filter_block,  // filter, body
    generation,    // body
    break_loop,
    continue_loop
  };
  Kind kind = Kind::constant;
  JinjaOp op = JinjaOp::none;
  bool varargs = false, kwargs = false;  // a macro that reads them takes any number of arguments
  std::uint32_t place = 0;               // byte in the source
  int name = -1;                         // number of the name
  JinjaValue value = {};
  std::vector<JinjaNode*> kids = {};
  std::vector<int> parameters = {};
  std::vector<std::pair<std::string_view, JinjaNode*>> keywords = {};
  JinjaNode *spread = nullptr, *spread_keywords = nullptr;  // *a, **b
  JinjaFilter run_filter = nullptr;                         // nullptr: unknown
  JinjaTest run_test = nullptr;
};

struct JinjaProgram {
  std::string name, source;
  std::vector<std::unique_ptr<JinjaNode>> nodes;
  std::vector<std::unique_ptr<std::string>> strings;  // literals with escapes, names, messages
  std::vector<std::string_view> names;
  std::vector<bool> global;  // by name: read somewhere
  int loop_name = -1;        // number of "loop", -1 if the template never says it
  const JinjaNode* root = nullptr;
  bool has_generation = false;

  JinjaProgram() = default;
  JinjaProgram(const JinjaProgram&) = delete;
  JinjaProgram& operator=(const JinjaProgram&) = delete;

  std::string_view store(std::string text) {
    return *strings.emplace_back(std::make_unique<std::string>(std::move(text)));
  }
  /// -1: the template has no such name.
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

/// Cuts the source into tokens. White space control is done here.
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
  std::string_view text = {};  // of a string: with its escapes replaced; of a number: its value is in `value`
  std::uint32_t place = 0;
  JinjaValue value = {};
};
std::vector<JinjaToken> jinja_tokens(JinjaProgram& program);

/// Fills nodes and root from the source.
void parse_jinja(JinjaProgram& program);

JinjaFilter find_filter(std::string_view name);  // nullptr: there is none
JinjaTest find_test(std::string_view name);

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
