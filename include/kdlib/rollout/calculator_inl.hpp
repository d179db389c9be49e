// SPDX-License-Identifier: Apache-2.0
// Bodies of tool_host.hpp: the calculator.
#ifndef KDLIB_ROLLOUT_CALCULATOR_INL_HPP
#define KDLIB_ROLLOUT_CALCULATOR_INL_HPP

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numbers>

#include "kdlib/core/error.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/rollout/tool_host.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Recursive descent with a bound on its depth.
class Expression {
 public:
  explicit Expression(std::string_view text) : text_(text) {}

  double value() {
    require<InputError>(text_.size() <= longest, "the expression has ", text_.size(), " bytes; at most ", longest,
                        " are read");
    const double out = sum();
    if (at_ < text_.size()) refuse();
    require<InputError>(!std::isnan(out), "the result is not a number");
    require<InputError>(std::isfinite(out), "the result is too large");
    return out;
  }

 private:
  static constexpr std::size_t longest = 1000;
  static constexpr unsigned deepest = 100;

  [[noreturn]] void refuse() const {
    if (at_ >= text_.size()) fail<InputError>("the expression ends too early");
    std::size_t end = at_ + 1;
    while (end < text_.size() && (static_cast<unsigned char>(text_[end]) & 0xC0) == 0x80) ++end;
    fail<InputError>("\"", printable(text_.substr(at_, end - at_)), "\" at byte ", at_,
                     " of the expression is not understood");
  }

  char peek() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t')) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  bool take(std::string_view symbol) {
    peek();
    if (text_.substr(at_, symbol.size()) != symbol) return false;
    at_ += symbol.size();
    return true;
  }

  double sum() {
    double out = product();
    for (;;) {
      if (take("+")) out += product();
      else if (take("-")) out -= product();
      else return out;
    }
  }

  double product() {
    double out = sign();
    for (;;) {
      const char c = peek();
      if (c == '*' && text_.substr(at_, 2) != "**") {
        ++at_;
        out *= sign();
      } else if (c == '/' || c == '%') {
        ++at_;
        const double by = sign();
        require<InputError>(by != 0, "division by zero");
        out = c == '/' ? out / by : out - by * std::floor(out / by);  // the sign of %'s result is that of `by`
      } else {
        return out;
      }
    }
  }

  /// -2 ^ 2 is -4, 2 ^ -1 is 0.5.
  double sign() {
    const Level level(depth_);
    if (take("-")) return -sign();
    if (take("+")) return sign();
    const double base = operand();
    if (take("**") || take("^")) return std::pow(base, sign());
    return base;
  }

  double operand() {
    const char c = peek();
    if (take("(")) {
      const double out = sum();
      if (!take(")")) refuse();
      return out;
    }
    if ((c >= '0' && c <= '9') || c == '.') return number();
    const std::size_t begin = at_;
    while (at_ < text_.size() && ((text_[at_] >= 'a' && text_[at_] <= 'z') || (at_ > begin && digit(text_[at_]))))
      ++at_;
    if (at_ == begin) refuse();
    return named(text_.substr(begin, at_ - begin));
  }

  static bool digit(char c) { return c >= '0' && c <= '9'; }

  double number() {
    double out = 0;
    const auto end = std::from_chars(text_.data() + at_, text_.data() + text_.size(), out);
    if (end.ec == std::errc::result_out_of_range) fail<InputError>("a number at byte ", at_, " is too large");
    if (end.ec != std::errc()) refuse();
    at_ = static_cast<std::size_t>(end.ptr - text_.data());
    return out;
  }

  double named(std::string_view name) {
    if (name == "pi") return std::numbers::pi;
    if (name == "e") return std::numbers::e;
    std::vector<double> values;
    if (!take("(")) fail<InputError>("\"", name, "\" is no name that the calculator knows");
    do values.push_back(sum());
    while (take(","));
    if (!take(")")) refuse();
    if (name == "max") return *std::max_element(values.begin(), values.end());
    if (name == "min") return *std::min_element(values.begin(), values.end());
    static constexpr std::pair<std::string_view, double (*)(double)> functions[] = {
        {"abs", std::fabs},    {"ceil", std::ceil}, {"cos", std::cos},     {"exp", std::exp},
        {"floor", std::floor}, {"ln", std::log},    {"log10", std::log10}, {"log2", std::log2},
        {"round", std::round}, {"sin", std::sin},   {"sqrt", std::sqrt},   {"tan", std::tan}};
    for (const auto& [known, function] : functions) {
      if (known != name) continue;
      require<InputError>(values.size() == 1, name, " takes one number, not ", values.size());
      return function(values[0]);
    }
    fail<InputError>("\"", name, "\" is no function that the calculator knows");
  }

  struct Level {
    explicit Level(unsigned& depth) : depth_(depth) {
      require<InputError>(++depth_ <= deepest, "the expression has more than ", deepest, " levels");
    }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    ~Level() { --depth_; }
    unsigned& depth_;
  };

  std::string_view text_;
  std::size_t at_ = 0;
  unsigned depth_ = 0;
};

}  // namespace detail

KDLIB_FUNC std::string calculate(std::string_view expression) {
  const double value = detail::Expression(expression).value();
  // Twelve digits: 0.1 + 0.2 is 0.3.
  char text[64];
  const auto end = std::to_chars(text, text + sizeof text, value == 0 ? 0.0 : value, std::chars_format::general,
                                 std::fabs(value) < 1e15 && value == std::floor(value) ? 17 : 12);
  return std::string(text, end.ptr);
}

KDLIB_FUNC std::vector<std::string> Calculator::tools() const {
  constexpr std::string_view about = R"json({"type": "function", "function": {"name": "calculator",
 "description": "Computes an arithmetic expression.", "parameters": {"type": "object", "properties": {"expression":
 {"type": "string", "description": "For example 2 * (3 + 4)"}}, "required": ["expression"]}}})json";
  return {python_json(Json::parse(std::string(about), "calculator"))};
}

KDLIB_FUNC std::string Calculator::answer(const ToolCall& call, Deadline) {
  const Json arguments = Json::parse(call.arguments, "calculator");
  const auto expression = arguments.find("expression");
  require<InputError>(expression && expression->is_string(), "calculator needs \"expression\", a text");
  return calculate(expression->as_string());
}

KDLIB_NAMESPACE_END

#endif
