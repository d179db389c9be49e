// SPDX-License-Identifier: Apache-2.0
// What the parser of Jinja stands on: the next token, errors with their place, new nodes.
#ifndef KDLIB_TEXT_JINJA_TOKEN_READER_INL_HPP
#define KDLIB_TEXT_JINJA_TOKEN_READER_INL_HPP

#include <algorithm>
#include <utility>

#include "kdlib/text/jinja_program.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

class JinjaTokenReader {
 public:
  explicit JinjaTokenReader(JinjaProgram& program) : program_(program), tokens_(jinja_tokens(program)) {}

 protected:
  using Token = JinjaToken;
  using Kind = JinjaNode::Kind;
  static constexpr int max_depth = 100;  // brackets and blocks in each other

  class Depth {
   public:
    explicit Depth(JinjaTokenReader& parser) : parser_(parser) {
      if (++parser_.depth_ > max_depth) {
        --parser_.depth_;  // this object's destructor does not run
        parser_.program_.fail(JinjaError::Kind::limit,
                              concat("more than ", max_depth, " brackets or blocks in each other"),
                              parser_.token().place);
      }
    }
    ~Depth() { --parser_.depth_; }
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;

   private:
    JinjaTokenReader& parser_;
  };

  const Token& token(std::size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  const Token& next() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool is_name(std::string_view name, std::size_t ahead = 0) const {
    return token(ahead).kind == Token::Kind::name && token(ahead).text == name;
  }
  bool is_sign(std::string_view sign, std::size_t ahead = 0) const {
    return token(ahead).kind == Token::Kind::sign && token(ahead).text == sign;
  }
  bool skip_name(std::string_view name) { return is_name(name) && (next(), true); }
  bool skip_sign(std::string_view sign) { return is_sign(sign) && (next(), true); }
  [[noreturn]] void fail(std::string words) const {
    program_.fail(JinjaError::Kind::syntax, std::move(words), token().place);
  }
  [[noreturn]] void unexpected(std::string_view needed) const {
    const bool end = token().kind == Token::Kind::end;
    fail(concat(end ? "the template ends" : "found ", end ? "" : printable(token().text), ", needed is ", needed));
  }
  void expect(Token::Kind kind, std::string_view shown) {
    if (token().kind != kind) unexpected(shown);
    next();
  }
  void expect_sign(std::string_view sign) {
    if (!skip_sign(sign)) unexpected(sign);
  }

  JinjaNode* node(Kind kind) const {
    JinjaNode& out = *program_.nodes.emplace_back(std::make_unique<JinjaNode>());
    out.kind = kind;
    out.place = token().place;
    return &out;
  }
  int name_number(std::string_view name) const { return program_.name_number(name); }
  std::string_view store(std::string text) const { return program_.store(std::move(text)); }
  void undefined_name(JinjaNode* name) const {
    name->value =
        JinjaValue::of(store(concat("'", program_.names[static_cast<std::size_t>(name->name)], "' is undefined")),
                       JinjaValue::Kind::undefined);
  }

  JinjaProgram& program_;

 private:
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
