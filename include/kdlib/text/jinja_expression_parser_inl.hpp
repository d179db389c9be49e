// SPDX-License-Identifier: Apache-2.0
// Expressions of Jinja as a tree. Each function parses one level of precedence.
#ifndef KDLIB_TEXT_JINJA_EXPRESSION_PARSER_INL_HPP
#define KDLIB_TEXT_JINJA_EXPRESSION_PARSER_INL_HPP

#include "kdlib/text/jinja_token_reader_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

class JinjaExpressionParser : protected JinjaTokenReader {
 public:
  using JinjaTokenReader::JinjaTokenReader;

 protected:
  using Kind = JinjaNode::Kind;
  using Op = JinjaOp;

  /// One expression, or several with commas as a tuple.
  JinjaNode* tuple(bool conditionals = true) {
    JinjaNode* first = expression(conditionals);
    if (!is_sign(",")) return first;
    JinjaNode* out = node(Kind::tuple);
    out->kids.push_back(first);
    while (skip_sign(",") && !ends_tuple()) out->kids.push_back(expression(conditionals));
    return out;
  }
  bool ends_tuple() const {
    return token().kind == Token::Kind::block_end || token().kind == Token::Kind::print_end || is_sign(")");
  }

  JinjaNode* expression(bool conditionals = true) {
    const Depth depth(*this);
    JinjaNode* out = either();
    while (conditionals && is_name("if")) {
      JinjaNode* choice = node(Kind::conditional);
      next();
      JinjaNode* condition = either();
      choice->kids = {condition, out, skip_name("else") ? expression() : nullptr};
      choice->value = JinjaValue::of("the condition of an if without else was false", JinjaValue::Kind::undefined);
      out = choice;
    }
    return out;
  }

  JinjaNode* join(Kind kind, Op op, JinjaNode* left, JinjaNode* (JinjaExpressionParser::*right)()) {
    JinjaNode* out = node(kind);
    next();
    out->op = op;
    out->kids = {left, (this->*right)()};
    return out;
  }

  JinjaNode* either() {
    JinjaNode* out = both();
    while (is_name("or")) out = join(Kind::binary, Op::logical_or, out, &JinjaExpressionParser::both);
    return out;
  }
  JinjaNode* both() {
    JinjaNode* out = negation();
    while (is_name("and")) out = join(Kind::binary, Op::logical_and, out, &JinjaExpressionParser::negation);
    return out;
  }
  JinjaNode* negation() {
    if (!is_name("not")) return comparison();
    const Depth depth(*this);
    JinjaNode* out = node(Kind::unary);
    next();
    out->op = Op::logical_not;
    out->kids = {negation()};
    return out;
  }

  Op comparing() const {
    constexpr std::pair<std::string_view, Op> signs[] = {{"==", Op::equal},  {"!=", Op::not_equal},
                                                         {"<", Op::less},    {"<=", Op::less_equal},
                                                         {">", Op::greater}, {">=", Op::greater_equal}};
    for (const auto& [sign, op] : signs)
      if (is_sign(sign)) return op;
    if (is_name("in")) return Op::in;
    return is_name("not") && is_name("in", 1) ? Op::not_in : Op::none;
  }

  JinjaNode* comparison() {
    JinjaNode* first = sum();
    if (comparing() == Op::none) return first;
    JinjaNode* out = node(Kind::compare);
    out->kids = {first};
    for (Op op; (op = comparing()) != Op::none;) {
      JinjaNode* operand = node(Kind::operand);
      next();
      if (op == Op::not_in) next();
      operand->op = op;
      operand->kids = {sum()};
      out->kids.push_back(operand);
    }
    return out;
  }

  JinjaNode* sum() {
    JinjaNode* out = joined();
    while (is_sign("+") || is_sign("-"))
      out = join(Kind::binary, is_sign("+") ? Op::add : Op::subtract, out, &JinjaExpressionParser::joined);
    return out;
  }

  JinjaNode* joined() {
    JinjaNode* first = product();
    if (!is_sign("~")) return first;
    JinjaNode* out = node(Kind::concat);
    out->kids = {first};
    while (skip_sign("~")) out->kids.push_back(product());
    return out;
  }

  JinjaNode* product() {
    JinjaNode* out = power();
    for (;;) {
      const Op op = is_sign("*")    ? Op::multiply
                    : is_sign("/")  ? Op::divide
                    : is_sign("//") ? Op::floor_divide
                    : is_sign("%")  ? Op::modulo
                                    : Op::none;
      if (op == Op::none) return out;
      out = join(Kind::binary, op, out, &JinjaExpressionParser::power);
    }
  }

  JinjaNode* power() {
    JinjaNode* out = signed_value();
    while (is_sign("**")) out = join(Kind::binary, Op::power, out, &JinjaExpressionParser::signed_value);
    return out;
  }

  JinjaNode* signed_value() { return filters(bare_signed()); }

  /// A sign binds closer than filters and tests, and the accesses behind its operand belong to the operand.
  JinjaNode* bare_signed() {
    if (!is_sign("-") && !is_sign("+")) return accesses(primary());
    const Depth depth(*this);
    JinjaNode* out = node(Kind::unary);
    out->op = next().text == "-" ? Op::negate : Op::plus;
    out->kids = {bare_signed()};
    return accesses(out);
  }

  JinjaNode* primary() {
    JinjaNode* out = node(Kind::constant);
    const Token& t = token();
    switch (t.kind) {
      case Token::Kind::name:
        next();
        return named(out, t.text);
      case Token::Kind::string:
        next();
        out->value = JinjaValue::of(t.text);
        if (token().kind == Token::Kind::string) {  // adjacent literals are one
          std::string all(t.text);
          while (token().kind == Token::Kind::string) all += next().text;
          out->value = JinjaValue::of(store(std::move(all)));
        }
        return out;
      case Token::Kind::number:
        out->value = next().value;
        return out;
      default:
        if (is_sign("(")) return parenthesis();
        if (is_sign("[")) return list();
        if (is_sign("{")) return dict();
        unexpected("an expression");
    }
  }

  JinjaNode* named(JinjaNode* out, std::string_view name) const {
    if (name == "true" || name == "True" || name == "false" || name == "False") {
      out->value = JinjaValue::of(name[0] == 't' || name[0] == 'T');
    } else if (name == "none" || name == "None") {
      out->value = JinjaValue::none();
    } else {
      out->kind = Kind::name;
      out->name = name_number(name);
      undefined_name(out);
      program_.global.resize(program_.names.size());
      program_.global[static_cast<std::size_t>(out->name)] = true;
      if (macro_ != nullptr && name == "varargs") macro_->varargs = true;
      if (macro_ != nullptr && name == "kwargs") macro_->kwargs = true;
    }
    return out;
  }

  JinjaNode* parenthesis() {
    next();
    JinjaNode* out = node(Kind::tuple);
    if (!is_sign(")")) out = tuple();
    expect_sign(")");
    return out;
  }

  JinjaNode* list() {
    JinjaNode* out = node(Kind::list);
    next();
    while (!is_sign("]")) {
      if (!out->kids.empty()) expect_sign(",");
      if (is_sign("]")) break;
      out->kids.push_back(expression());
    }
    next();
    return out;
  }

  JinjaNode* dict() {
    JinjaNode* out = node(Kind::dict);
    next();
    while (!is_sign("}")) {
      if (!out->kids.empty()) expect_sign(",");
      if (is_sign("}")) break;
      out->kids.push_back(expression());
      expect_sign(":");
      out->kids.push_back(expression());
    }
    next();
    return out;
  }

  /// .a [b] (c) behind a value.
  JinjaNode* accesses(JinjaNode* object) {
    for (;;) {
      if (is_sign("(")) {
        object = call(object);
      } else if (is_sign("[")) {
        object = item(object);
      } else if (is_sign(".")) {
        JinjaNode* out = node(token(1).kind == Token::Kind::number ? Kind::item : Kind::attribute);
        next();
        out->kids = {object};
        attribute(out);
        object = out;
      } else {
        return object;
      }
    }
  }

  void attribute(JinjaNode* out) {
    if (out->kind == Kind::item) {
      JinjaNode* index = node(Kind::constant);
      index->value = next().value;
      out->kids.push_back(index);
      return;
    }
    if (token().kind != Token::Kind::name) unexpected("the name of an attribute");
    out->value = JinjaValue::of(next().text);
  }

  JinjaNode* item(JinjaNode* object) {
    JinjaNode* out = node(Kind::item);
    next();
    JinjaNode* parts[3] = {};
    int colons = 0;
    while (!is_sign("]")) {
      if (is_sign(":") && colons < 2) {
        ++colons;
        next();
      } else if (parts[colons] == nullptr && !is_sign(":")) {
        parts[colons] = expression();
      } else {
        unexpected("]");
      }
    }
    if (colons == 0 && parts[0] == nullptr) unexpected("an index");
    next();
    out->kids = {object, parts[0]};
    if (colons > 0) {
      out->kind = Kind::slice;
      out->kids = {object, parts[0], parts[1], parts[2]};
    }
    return out;
  }

  JinjaNode* call(JinjaNode* callee) {
    JinjaNode* out = node(Kind::call);
    out->kids = {callee};
    arguments(out);
    return out;
  }

  /// (a, *b, c=d, **e)
  void arguments(JinjaNode* out) {
    expect_sign("(");
    for (bool first = true; !is_sign(")"); first = false) {
      if (!first) expect_sign(",");
      if (is_sign(")")) break;
      if (skip_sign("**")) {
        if (out->spread_keywords != nullptr) fail("a call has ** twice");
        out->spread_keywords = expression();
      } else if (skip_sign("*")) {
        if (out->spread != nullptr) fail("a call has * twice");
        out->spread = expression();
      } else if (token().kind == Token::Kind::name && is_sign("=", 1)) {
        const std::string_view name = next().text;
        next();
        out->keywords.emplace_back(name, expression());
      } else {
        if (!out->keywords.empty() || out->spread != nullptr || out->spread_keywords != nullptr)
          fail("an argument without a name stands behind one with a name");
        out->kids.push_back(expression());
      }
    }
    next();
  }

  /// | filters, is tests and calls behind a value. `subject` is nullptr for the filter of a block; `inside` if the name
  /// comes without a bar.
  JinjaNode* filters(JinjaNode* subject, bool inside = false) {
    for (;;) {
      if (inside || is_sign("|")) {
        if (!inside) next();
        inside = false;
        JinjaNode* out = node(Kind::filter);
        out->kids = {subject};
        out->value = dotted_name();
        out->run_filter = find_filter(out->value.view());
        if (is_sign("(")) arguments(out);
        subject = out;
      } else if (subject != nullptr && is_name("is")) {
        subject = test(subject);
      } else if (subject != nullptr && is_sign("(")) {
        subject = call(subject);
      } else {
        return subject;
      }
    }
  }

  JinjaValue dotted_name() {
    if (token().kind != Token::Kind::name) unexpected("a name");
    std::string name(next().text);
    while (skip_sign(".")) {
      if (token().kind != Token::Kind::name) unexpected("a name");
      name += concat(".", next().text);
    }
    return JinjaValue::of(store(std::move(name)));
  }

  JinjaNode* test(JinjaNode* subject) {
    JinjaNode* out = node(Kind::test);
    next();
    const bool negated = skip_name("not");
    out->kids = {subject};
    out->value = dotted_name();
    out->run_test = find_test(out->value.view());
    if (is_sign("(")) {
      arguments(out);
    } else if (begins_argument()) {
      if (is_name("is")) fail("tests cannot be chained with is");
      out->kids.push_back(accesses(primary()));
    }
    if (!negated) return out;
    JinjaNode* turned = node(Kind::unary);
    turned->op = Op::logical_not;
    turned->kids = {out};
    return turned;
  }

  /// A test may have one argument without brackets.
  bool begins_argument() const {
    if (is_name("else") || is_name("or") || is_name("and")) return false;
    return token().kind == Token::Kind::name || token().kind == Token::Kind::string ||
           token().kind == Token::Kind::number || is_sign("[") || is_sign("{");
  }

  JinjaNode* macro_ = nullptr;  // whose body is parsed
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
