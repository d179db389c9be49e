// SPDX-License-Identifier: Apache-2.0
// Bodies of loss_expression.hpp.
#ifndef KDLIB_RECIPE_LOSS_EXPRESSION_INL_HPP
#define KDLIB_RECIPE_LOSS_EXPRESSION_INL_HPP

#include <algorithm>
#include <charconv>
#include <cmath>

#include "kdlib/io/utf8.hpp"
#include "kdlib/recipe/loss_expression.hpp"
#include "kdlib/recipe/loss_text_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

constexpr std::size_t most_loss_terms = 8;  // as AnySum takes

/// Every word that begins a term.
KDLIB_FUNC std::vector<std::string> loss_words() {
  std::vector<std::string> words{"jsd", "label_smoothing"};
  AllLosses::for_each([&]<class L>(const L&) {
    const std::string name = snake_case(plain_type_name<L>());
    if (std::find(words.begin(), words.end(), name) == words.end()) words.push_back(name);
  });
  return words;
}

/// A field that was written, with its place.
struct WrittenField {
  std::string name, value;
  std::size_t name_at = 0, value_at = 0;
  bool taken = false;
};

/// Reads one text from left to right.
class LossParser {
 public:
  LossParser(std::string_view text, const OpenLossFields& open) : text_(text), open_(open) {}

  LossExpression parse();

 private:
  template <class... Parts>
  [[noreturn]] void refuse(std::size_t at, const Parts&... parts) const {
    fail<ConfigError>("[loss] at character ", at + 1, " of \"", std::string(text_), "\": ", parts...);
  }
  void skip_blanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n')) ++at_;
  }
  bool take(char c) {
    skip_blanks();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    return ++at_, true;
  }
  std::string next_text() const;
  std::string word(const char* what);
  double weight();
  std::vector<WrittenField> fields();
  void term(double sign);
  void add_label_smoothing(double weight, std::vector<WrittenField>& fields, std::size_t at);
  void add_named(double weight, const std::string& name, std::vector<WrittenField>& fields, std::size_t at);
  template <class L>
  AnyLoss filled(L loss, const std::string& name, std::vector<WrittenField>& fields, std::size_t at);
  template <class V>
  void read_value(const FieldInfo& field, WrittenField& written, V& value);
  template <class L>
  void fill_open(L& loss, const std::vector<WrittenField>& fields);
  void check_open() const;

  std::string_view text_;
  const OpenLossFields& open_;
  std::size_t at_ = 0;
  bool took_temperature_ = false, took_beta_ = false, took_t_squared_ = false;
  LossExpression out_{{}};
};

/// What stands at the place, for messages.
KDLIB_FUNC std::string LossParser::next_text() const {
  if (at_ >= text_.size()) return "the end of the text";
  std::size_t end = at_;
  const auto in_word = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
  };
  while (end < text_.size() && in_word(text_[end])) ++end;
  if (end == at_)  // one character, which may be several bytes
    do ++end;
    while (end < text_.size() && (static_cast<unsigned char>(text_[end]) & 0xC0) == 0x80);
  return concat("'", printable(text_.substr(at_, end - at_)), "'");
}

KDLIB_FUNC std::string LossParser::word(const char* what) {
  skip_blanks();
  std::size_t end = at_;
  while (end < text_.size() && ((text_[end] >= 'a' && text_[end] <= 'z') || (text_[end] >= 'A' && text_[end] <= 'Z') ||
                                text_[end] == '_' || (end > at_ && text_[end] >= '0' && text_[end] <= '9')))
    ++end;
  if (end == at_) refuse(at_, what, " is needed, not ", next_text());
  const std::string out(text_.substr(at_, end - at_));
  at_ = end;
  return out;
}

/// A number before a name, or 1.
KDLIB_FUNC double LossParser::weight() {
  skip_blanks();
  const bool number = at_ < text_.size() && ((text_[at_] >= '0' && text_[at_] <= '9') || text_[at_] == '.');
  const std::string next = next_text();
  if (next == "'inf'" || next == "'infinity'" || next == "'nan'")
    refuse(at_, next, " is no weight: give a finite number");
  if (!number) return 1;
  double value = 0;
  const auto end = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
  if (end.ec != std::errc() || !std::isfinite(value)) refuse(at_, next_text(), " is no weight: give a finite number");
  at_ = static_cast<std::size_t>(end.ptr - text_.data());
  take('*');
  return value;
}

KDLIB_FUNC std::vector<WrittenField> LossParser::fields() {
  std::vector<WrittenField> out;
  if (!take('(')) return out;
  if (take(')')) return out;
  do {
    WrittenField field;
    skip_blanks();
    field.name_at = at_;
    field.name = word("the name of a field");
    for (const WrittenField& before : out)
      if (before.name == field.name) refuse(field.name_at, "the field ", field.name, " is given twice");
    if (!take('=')) refuse(at_, "the field ", field.name, " needs '=' and a value, not ", next_text());
    skip_blanks();
    field.value_at = at_;
    const std::size_t end = std::min(text_.find_first_of(",)", at_), text_.size());
    std::size_t last = end;
    while (last > at_ && (text_[last - 1] == ' ' || text_[last - 1] == '\t')) --last;
    field.value = std::string(text_.substr(at_, last - at_));
    if (field.value.empty()) refuse(at_, "the field ", field.name, " needs a value");
    at_ = end;
    out.push_back(std::move(field));
  } while (take(','));
  if (!take(')')) refuse(at_, "')' or ',' is needed behind the fields, not ", next_text());
  return out;
}

template <class V>
void LossParser::read_value(const FieldInfo& field, WrittenField& written, V& value) {
  const std::string& text = written.value;
  if constexpr (std::is_same_v<V, bool>) {
    if (text == "on" || text == "true" || text == "yes") value = true;
    else if (text == "off" || text == "false" || text == "no") value = false;
    else refuse(written.value_at, field.name, " is '", text, "'; it must be on or off");
  } else if constexpr (std::is_enum_v<V>) {
    const std::optional<V> named = enum_value<V>(text);
    if (!named) {
      const auto names = enum_names(value);
      refuse(written.value_at, field.name, " is '", text, "'; it must be ", field.range,
             did_you_mean(text, std::vector<std::string>(names.begin(), names.end())));
    }
    value = *named;
  } else {
    const char *begin = text.data(), *end = begin + text.size();
    const auto read = std::from_chars(begin, end, value);
    if (read.ec != std::errc() || read.ptr != end || !std::isfinite(value))
      refuse(written.value_at, field.name, " is '", text, "'; it must be a number",
             *field.range != 0 ? concat(", ", field.range) : std::string());
  }
  written.taken = true;
}

/// Takes what the text leaves open of a divergence from the program's other options.
template <class L>
void LossParser::fill_open(L& loss, const std::vector<WrittenField>& fields) {
  if constexpr (needs_of<L> == LossNeeds::vocabulary || needs_of<L> == LossNeeds::top_k) {
    const auto open = [&](const char* name) {
      return std::none_of(fields.begin(), fields.end(), [&](const WrittenField& f) { return f.name == name; });
    };
    if constexpr (requires { loss.temperature; })
      if (open_.temperature && open("temperature"))
        loss.temperature = static_cast<float>(*open_.temperature), took_temperature_ = true;
    if constexpr (requires { loss.t_squared; })
      if (open_.t_squared && open("t_squared")) loss.t_squared = *open_.t_squared, took_t_squared_ = true;
    if constexpr (requires { loss.beta; })
      if (open_.beta && open("beta")) loss.beta = *open_.beta, took_beta_ = true;
  }
}

template <class L>
AnyLoss LossParser::filled(L loss, const std::string& name, std::vector<WrittenField>& fields, std::size_t at) {
  std::vector<std::string> names;
  visit_fields(loss, [&](const FieldInfo& field, auto& value) {
    names.emplace_back(field.name);
    for (WrittenField& written : fields) {
      if (written.name != field.name) continue;
      if constexpr (std::is_const_v<std::remove_reference_t<decltype(value)>>) written.taken = true;
      else read_value(field, written, value);
    }
  });
  for (const WrittenField& written : fields) {
    if (written.taken) continue;
    std::string all;
    for (const std::string& known : names) all += (all.empty() ? "" : ", ") + known;
    refuse(written.name_at, name, " has no field ", written.name, did_you_mean(written.name, names),
           names.empty() ? "; it has none" : concat(" (it has ", all, ")"));
  }
  fill_open(loss, fields);
  const double t = temperature_of(loss);
  if (!(t > 0) || !std::isfinite(t)) refuse(at, name, ": temperature is ", setting_text(t), "; it must be positive");
  try {
    if constexpr (requires { loss.validate(); }) loss.validate();
  } catch (const ConfigError& error) {
    refuse(at, error.what());
  }
  return loss;
}

KDLIB_FUNC void LossParser::add_label_smoothing(double weight, std::vector<WrittenField>& fields, std::size_t at) {
  double epsilon = 0.1;
  for (WrittenField& written : fields) {
    if (written.name != "epsilon")
      refuse(written.name_at, "label_smoothing has no field ", written.name, "; it has epsilon");
    read_value(FieldInfo{"epsilon", "", "in [0, 1]"}, written, epsilon);
  }
  if (epsilon < 0 || epsilon > 1)
    refuse(at, "label_smoothing: epsilon is ", setting_text(epsilon), "; it must lie in [0, 1]");
  if (epsilon < 1) out_.terms.push_back({weight * (1 - epsilon), CrossEntropy{}});
  if (epsilon > 0) out_.terms.push_back({weight * epsilon, UniformCrossEntropy{}});
}

KDLIB_FUNC void LossParser::add_named(double weight, const std::string& name, std::vector<WrittenField>& fields,
                                      std::size_t at) {
  const std::string type = name == "jsd" ? "jensen_shannon" : name;
  bool known = false, added = false;
  std::string fixed_name, fixed_values;  // of types that differ in a template argument
  AllLosses::for_each([&]<class L>(const L& loss) {
    if (added || snake_case(plain_type_name<L>()) != type) return;
    known = true;
    bool fits = true;
    visit_fields(loss, [&](const FieldInfo& field, auto& value) {
      if (!field.fixed) return;
      fixed_name = field.name;
      fixed_values += concat(fixed_values.empty() ? "" : " or ", setting_text(value));
      for (WrittenField& written : fields)
        if (written.name == field.name) fits = written.value == setting_text(value);
    });
    const bool open = std::none_of(fields.begin(), fields.end(), [&](const auto& f) { return f.name == fixed_name; });
    if (!fixed_name.empty() && open && type == "sampled_kl") fits = false;  // neither estimator is the usual one
    if (!fits) return;
    out_.terms.push_back({weight, filled(L{}, name, fields, at)});
    added = true;
  });
  if (!known) refuse(at, "there is no loss ", name, did_you_mean(snake_case(name), loss_words()), "\n", loss_help());
  if (added) return;
  for (const WrittenField& written : fields) {
    if (written.name != fixed_name) continue;
    refuse(written.value_at, fixed_name, " of ", name, " is '", written.value, "'; it must be ", fixed_values,
           written.value == "k1" ? ". The gradient of k1 as a loss is 0 in expectation: policy_gradient takes it as an "
                                   "advantage"
                                 : "");
  }
  refuse(at, name, " needs its ", fixed_name, ": ", fixed_values);
}

KDLIB_FUNC void LossParser::term(double sign) {
  const double factor = sign * weight();
  skip_blanks();
  const std::size_t at = at_;
  const std::string name = word("the name of a loss");
  std::vector<WrittenField> written = fields();
  if (name == "label_smoothing") add_label_smoothing(factor, written, at);
  else add_named(factor, name, written, at);
  const std::string problem = weight_problem(out_.terms.back().weight, out_.terms.back().loss);
  if (!problem.empty()) refuse(at, problem);
  if (out_.terms.size() > most_loss_terms) refuse(at, "a sum has at most ", most_loss_terms, " terms");
}

KDLIB_FUNC void LossParser::check_open() const {
  const auto require_taken = [&](bool given, bool taken, const char* option, const char* what) {
    require<ConfigError>(!given || taken, "[loss] --", option, " is given, but no ", what, " of \"", std::string(text_),
                         "\" leaves its ", option, " open");
  };
  require_taken(open_.temperature.has_value(), took_temperature_, "temperature", "divergence");
  require_taken(open_.t_squared.has_value(), took_t_squared_, "t-squared", "divergence");
  require_taken(open_.beta.has_value(), took_beta_, "beta", "jsd");
}

KDLIB_FUNC LossExpression LossParser::parse() {
  skip_blanks();
  if (at_ >= text_.size()) refuse(at_, "the text is empty; give a loss, as in forward_kl");
  bool first = true;
  while (true) {
    const bool minus = take('-'), plus = !minus && take('+');
    if (!first && !minus && !plus) refuse(at_, "'+' is needed between two losses, not ", next_text());
    term(minus ? -1 : 1);
    first = false;
    skip_blanks();
    if (at_ >= text_.size()) break;
  }
  LossNeeds needs = LossNeeds::labels;
  for (const AnyTerm& term : out_.terms) needs = combined_needs(needs, term.loss.needs());
  check_open();
  return std::move(out_);
}

}  // namespace detail

KDLIB_FUNC LossExpression parse_loss(std::string_view text, const OpenLossFields& open) {
  return detail::LossParser(text, open).parse();
}

KDLIB_FUNC LossExpression parse_loss(const std::vector<std::string>& terms, const OpenLossFields& open) {
  std::string text;
  for (const std::string& term : terms) {
    const std::size_t begin = term.find_first_not_of(" \t\n");
    const bool sign = begin != std::string::npos && (term[begin] == '+' || term[begin] == '-');
    text += (text.empty() || sign ? "" : " + ") + term;
  }
  return parse_loss(text, open);
}

KDLIB_NAMESPACE_END

#endif
