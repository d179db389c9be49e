// SPDX-License-Identifier: Apache-2.0
// Statements of Jinja as a tree. Expressions are in jinja_expression_parser_inl.hpp.
#ifndef KDLIB_TEXT_JINJA_PARSER_INL_HPP
#define KDLIB_TEXT_JINJA_PARSER_INL_HPP

#include "kdlib/text/jinja_expression_parser_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

class JinjaParser : private JinjaExpressionParser {
 public:
  using JinjaExpressionParser::JinjaExpressionParser;

  void parse() {
    program_.root = body({});
    if (token().kind != Token::Kind::end) unexpected("the end of the template");
  }

 private:
  using Names = std::initializer_list<std::string_view>;

  /// Statements up to a tag that begins with one of `ends`; the tag's name is then the next token.
  JinjaNode* body(Names ends) {
    const Depth depth(*this);
    JinjaNode* out = node(Kind::body);
    for (;;) {
      switch (token().kind) {
        case Token::Kind::end:
          if (ends.size() > 0) fail(concat("the template ends, but {% ", *(ends.end() - 1), " %} is missing"));
          return out;
        case Token::Kind::text:
          out->kids.push_back(node(Kind::text));
          out->kids.back()->value = JinjaValue::of(next().text);
          break;
        case Token::Kind::print_begin: {
          JinjaNode* print = node(Kind::print);
          next();
          print->kids = {tuple()};
          expect(Token::Kind::print_end, "}}");
          out->kids.push_back(print);
          break;
        }
        default:
          next();
          for (const std::string_view end : ends)
            if (is_name(end)) return out;
          out->kids.push_back(statement());
          expect(Token::Kind::block_end, "%}");
      }
    }
  }

  /// A body behind the tag that has just been read, up to {% `end` %} (its name is taken).
  JinjaNode* closed_body(std::string_view end) {
    expect(Token::Kind::block_end, "%}");
    JinjaNode* out = body({end});
    next();
    return out;
  }

  JinjaNode* statement() {
    if (token().kind != Token::Kind::name) unexpected("the name of a statement");
    const std::uint32_t place = token().place;
    const std::string_view name = next().text;
    JinjaNode* out = nullptr;
    if (name == "if") out = if_else();
    else if (name == "for") out = for_loop();
    else if (name == "set") out = set();
    else if (name == "macro") out = macro();
    else if (name == "call") out = call_block();
    else if (name == "filter") out = filter_block();
    else if (name == "generation") out = generation();
    else if (name == "break" || name == "continue") out = jump(name == "break");
    else
      program_.fail(JinjaError::Kind::syntax,
                    concat("{% ", name,
                           " %} is not known here; the interpreter knows if, for, set, macro, call, filter, "
                           "generation, break, continue and raw"),
                    place);
    out->place = place;
    return out;
  }

  JinjaNode* if_else() {
    JinjaNode* out = node(Kind::if_else);
    for (;;) {
      out->kids.push_back(expression(false));
      expect(Token::Kind::block_end, "%}");
      out->kids.push_back(body({"elif", "else", "endif"}));
      const std::string_view end = next().text;
      if (end == "elif") continue;
      if (end == "else") out->kids.push_back(closed_body("endif"));
      return out;
    }
  }

  JinjaNode* for_loop() {
    JinjaNode* out = node(Kind::for_loop);
    JinjaNode* target = targets(false);
    if (!skip_name("in")) unexpected("in");
    JinjaNode* items = tuple(false);
    JinjaNode* condition = skip_name("if") ? expression() : nullptr;
    if (is_name("recursive")) fail("recursive loops are not known here");
    expect(Token::Kind::block_end, "%}");
    ++loops_;
    JinjaNode* each = body({"else", "endfor"});
    --loops_;
    JinjaNode* otherwise = nullptr;
    if (next().text == "else") otherwise = closed_body("endfor");
    out->kids = {target, items, condition, each, otherwise};
    return out;
  }

  JinjaNode* set() {
    JinjaNode* target = targets(true);
    if (skip_sign("=")) {
      JinjaNode* out = node(Kind::set);
      out->kids = {target, tuple()};
      return out;
    }
    JinjaNode* out = node(Kind::set_block);
    JinjaNode* chain = is_sign("|") ? filters(nullptr) : nullptr;
    out->kids = {target, chain, closed_body("endset")};
    return out;
  }

  /// Names that a value is given to: `a`, `a, b` or, if `spaces`, `ns.a`.
  JinjaNode* targets(bool spaces) {
    JinjaNode* out = node(Kind::tuple);
    bool several = false;
    do {
      if (!out->kids.empty() && (is_name("in") || is_sign("="))) break;  // a comma at the end
      if (skip_sign("(")) {
        const Depth depth(*this);
        out->kids.push_back(targets(spaces));
        expect_sign(")");
      } else {
        out->kids.push_back(target(spaces));
      }
      several = several || is_sign(",");
    } while (skip_sign(","));
    return several ? out : out->kids[0];
  }

  JinjaNode* target(bool spaces) {
    if (token().kind != Token::Kind::name) unexpected("a name");
    for (const std::string_view constant : {"true", "false", "none", "True", "False", "None"})
      if (is_name(constant)) unexpected("a name that can be set");
    JinjaNode* out = node(Kind::name);
    out->name = name_number(next().text);
    if (!spaces || !skip_sign(".")) return out;
    JinjaNode* member = node(Kind::attribute);
    if (token().kind != Token::Kind::name) unexpected("the name of an attribute");
    member->value = JinjaValue::of(next().text);
    member->kids = {out};
    undefined_name(out);
    return member;
  }

  /// (a, b=1): parameters, and the defaults behind kids[0].
  void signature(JinjaNode* macro) {
    expect_sign("(");
    bool defaults = false;
    while (!is_sign(")")) {
      if (!macro->parameters.empty()) expect_sign(",");
      if (is_sign(")")) break;
      if (token().kind != Token::Kind::name) unexpected("the name of a parameter");
      macro->parameters.push_back(name_number(next().text));
      if (skip_sign("=")) macro->kids.push_back(expression());
      else if (defaults) fail("a parameter without a default stands behind one with a default");
      defaults = macro->kids.size() > 1;
    }
    expect_sign(")");
  }

  void macro_body(JinjaNode* macro, std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    JinjaNode* around = std::exchange(macro_, macro);
    macro->kids[0] = closed_body(end);
    macro_ = around;
    loops_ = loops;
  }

  JinjaNode* macro() {
    JinjaNode* out = node(Kind::macro);
    if (token().kind != Token::Kind::name) unexpected("the name of a macro");
    out->kids = {nullptr};
    out->name = name_number(next().text);
    signature(out);
    macro_body(out, "endmacro");
    return out;
  }

  JinjaNode* call_block() {
    JinjaNode* out = node(Kind::call_block);
    JinjaNode* block = node(Kind::macro);
    block->kids = {nullptr};
    block->name = name_number("caller");
    if (is_sign("(")) signature(block);
    JinjaNode* call = expression();
    if (call->kind != Kind::call) fail("{% call %} needs the call of a macro");
    macro_body(block, "endcall");
    out->kids = {call, block};
    return out;
  }

  JinjaNode* filter_block() {
    JinjaNode* out = node(Kind::filter_block);
    JinjaNode* chain = filters(nullptr, true);
    out->kids = {chain, closed_body("endfilter")};
    return out;
  }

  JinjaNode* generation() {
    program_.has_generation = true;
    JinjaNode* out = node(Kind::generation);
    const int loops = std::exchange(loops_, 0);  // the block is a macro to Jinja: no loop is left from inside
    out->kids = {closed_body("endgeneration")};
    loops_ = loops;
    return out;
  }

  JinjaNode* jump(bool leaves) {
    if (loops_ == 0) fail("break and continue stand in loops only");
    return node(leaves ? Kind::break_loop : Kind::continue_loop);
  }

  int loops_ = 0;
};

KDLIB_FUNC void parse_jinja(JinjaProgram& program) { JinjaParser(program).parse(); }

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
