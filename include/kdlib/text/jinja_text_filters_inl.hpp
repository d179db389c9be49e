// SPDX-License-Identifier: Apache-2.0
// Filters of Jinja that work on texts and numbers, and printf's formats.
#ifndef KDLIB_TEXT_JINJA_TEXT_FILTERS_INL_HPP
#define KDLIB_TEXT_JINJA_TEXT_FILTERS_INL_HPP

#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "kdlib/text/jinja_methods_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A value as a string; markup stays markup.
KDLIB_FUNC JinjaValue soft_string(JinjaRun& run, const JinjaValue& v) {
  return v.is_string() ? v : JinjaValue::of(run.string_of(v));
}

template <std::string (*change)(std::string_view)>
JinjaValue case_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  return change_method<change>(run, soft_string(run, v), arguments);
}

KDLIB_FUNC JinjaValue trim_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  return strip_method<Sides::both>(run, soft_string(run, v), arguments);
}

KDLIB_FUNC JinjaValue string_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  arguments.none();
  return soft_string(run, v);
}

KDLIB_FUNC JinjaValue safe_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  arguments.none();
  JinjaValue out = soft_string(run, v);
  out.markup = true;
  return out;
}

KDLIB_FUNC JinjaValue escape_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  arguments.none();
  const JinjaValue words = soft_string(run, v);
  return words.markup ? words : run.text(escape_markup(words.view()), true);
}

KDLIB_FUNC JinjaValue replace_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  const auto given = arguments.bind<3>({"old", "new", "count"}, 2);
  const JinjaValue values[] = {JinjaValue::of(run.string_of(*given[0])), JinjaValue::of(run.string_of(*given[1])),
                               given[2] == nullptr ? JinjaValue::none() : *given[2]};
  return replace_method(run, JinjaValue::of(run.string_of(v)), {"replace", values, {}});
}

KDLIB_FUNC JinjaValue join_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  const auto given = arguments.bind<2>({"d", "attribute"});
  const std::string_view between = given[0] == nullptr ? std::string_view() : run.string_of(*given[0]);
  std::string words;
  bool first = true;
  for (const JinjaValue& element : run.elements(v)) {
    if (!std::exchange(first, false)) {
      run.heap().charge(between.size());
      words += between;
    }
    append_str(run.heap(), given[1] == nullptr ? element : run.item(element, *given[1]), words);
  }
  return run.text(words);
}

KDLIB_FUNC JinjaValue indent_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  const auto given = arguments.bind<3>({"width", "first", "blank"});
  const std::string_view text = string_argument(v, "indent");
  std::string by(4, ' ');
  if (given[0] != nullptr && given[0]->is_string()) by = given[0]->view();
  else if (given[0] != nullptr)
    by.assign(static_cast<std::size_t>(std::clamp<std::int64_t>(run.integer_of(*given[0], "indent"), 0, 100000)), ' ');
  const bool first = given[1] != nullptr && truth(*given[1]), blank = given[2] != nullptr && truth(*given[2]);
  std::string words;
  const std::string whole = concat(text, "\n");  // so that a line end at the end is a line too
  const std::vector<std::string_view> lines = split_lines(whole);
  run.heap().step(text.size());
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) words += '\n';
    if (i == 0 ? first : blank || !lines[i].empty()) {
      run.heap().charge(by.size());
      words += by;
    }
    words += lines[i];
  }
  return run.text(words, v.markup);
}

KDLIB_FUNC JinjaValue json_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  const auto given = arguments.bind<4>({"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonForm form;
  form.ascii = given[0] != nullptr && truth(*given[0]);
  form.sorted = given[3] != nullptr && truth(*given[3]);
  if (given[1] != nullptr && !given[1]->is(JinjaValue::Kind::none)) {
    form.item = ",";
    form.indent = given[1]->is_string() ? std::string(given[1]->view())
                                        : std::string(static_cast<std::size_t>(std::clamp<std::int64_t>(
                                                          run.integer_of(*given[1], "tojson: indent"), 0, 1000)),
                                                      ' ');
  }
  if (given[2] != nullptr && !given[2]->is(JinjaValue::Kind::none)) {
    const auto two = run.elements(*given[2]);
    if (two.size() != 2) jinja_fail(JinjaError::Kind::type, "tojson: separators are two strings");
    form.item = string_argument(two[0], "tojson");
    form.key = string_argument(two[1], "tojson");
  }
  std::string words;
  append_json(run.heap(), v, form, words);
  return run.text(words);
}

KDLIB_FUNC JinjaValue abs_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  arguments.none();
  if (v.is(JinjaValue::Kind::real)) return JinjaValue::of(std::fabs(v.real));
  const std::int64_t n = run.integer_of(v, "abs");
  return n < 0 ? run.arithmetic(JinjaOp::subtract, JinjaValue::of(std::int64_t{0}), v) : JinjaValue::of(n);
}

KDLIB_FUNC bool reads_real(std::string_view words, double& out) {
  if (!words.empty() && words[0] == '+') words.remove_prefix(1);
  const auto [end, ec] = std::from_chars(words.data(), words.data() + words.size(), out);
  return ec == std::errc() && end == words.data() + words.size() && !words.empty();
}

KDLIB_FUNC JinjaValue real_to_integer(double d, const JinjaValue& otherwise) {
  if (!(d > -9.2e18 && d < 9.2e18)) return otherwise;
  return JinjaValue::of(static_cast<std::int64_t>(d));
}

KDLIB_FUNC JinjaValue int_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  const auto given = arguments.bind<3>({"default", "base"});
  const JinjaValue otherwise = given[0] != nullptr ? *given[0] : JinjaValue::of(std::int64_t{0});
  const std::int64_t base = given[1] != nullptr ? run.integer_of(*given[1], "int") : 10;
  if (v.is(JinjaValue::Kind::undefined)) jinja_fail(JinjaError::Kind::undefined, v.view());
  if (v.is_integer()) return JinjaValue::of(v.as_integer());
  if (v.is(JinjaValue::Kind::natural)) return v;
  if (v.is(JinjaValue::Kind::real)) return real_to_integer(v.real, otherwise);
  if (!v.is_string() || base < 2 || base > 36) return otherwise;
  std::string_view words = strip(v.view());
  if (!words.empty() && words[0] == '+') words.remove_prefix(1);
  std::int64_t n = 0;
  const auto [end, ec] = std::from_chars(words.data(), words.data() + words.size(), n, static_cast<int>(base));
  if (ec == std::errc() && end == words.data() + words.size()) return JinjaValue::of(n);
  double d = 0;
  return reads_real(words, d) ? real_to_integer(d, otherwise) : otherwise;
}

KDLIB_FUNC JinjaValue float_filter(JinjaRun&, const JinjaValue& v, const JinjaArguments& arguments) {
  const auto given = arguments.bind<1>({"default"});
  if (v.is(JinjaValue::Kind::undefined)) jinja_fail(JinjaError::Kind::undefined, v.view());
  if (v.is_number()) return JinjaValue::of(v.as_real());
  double d = 0;
  if (v.is_string() && reads_real(strip(v.view()), d)) return JinjaValue::of(d);
  return given[0] != nullptr ? *given[0] : JinjaValue::of(0.0);
}

/// To a multiple of 10^digits, halves to the even one.
KDLIB_FUNC std::int64_t round_integer(std::int64_t n, int digits) {
  if (digits > 18) return 0;
  std::int64_t unit = 1;
  for (int i = 0; i < digits; ++i) unit *= 10;
  std::int64_t whole = n / unit;
  const std::int64_t rest = n % unit < 0 ? -(n % unit) : n % unit;
  if (rest > unit - rest || (rest == unit - rest && whole % 2 != 0)) whole += n < 0 ? -1 : 1;
  return whole > INT64_MAX / unit || whole < INT64_MIN / unit ? n : whole * unit;
}

KDLIB_FUNC JinjaValue round_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  const auto given = arguments.bind<2>({"precision", "method"});
  const auto digits = static_cast<int>(
      std::clamp<std::int64_t>(given[0] != nullptr ? run.integer_of(*given[0], "round") : 0, -300, 300));
  const std::string_view method = given[1] != nullptr ? string_argument(*given[1], "round") : "common";
  if (method != "common" && method != "ceil" && method != "floor")
    jinja_fail(JinjaError::Kind::type, "round: the method is common, ceil or floor, not ", method);
  if (!v.is_number()) jinja_fail(JinjaError::Kind::type, "round needs a number, this is a ", type_name(v));
  const double scale = std::pow(10.0, digits), d = v.as_real();
  if (method != "common")
    return JinjaValue::of((method == "ceil" ? std::ceil(d * scale) : std::floor(d * scale)) / scale);
  if (v.is_integer() && digits >= 0) return JinjaValue::of(v.as_integer());
  if (v.is_integer()) return JinjaValue::of(round_integer(v.as_integer(), -digits));
  if (digits < 0) return JinjaValue::of(std::nearbyint(d * scale) / scale);
  char words[700];  // 300 digits behind the point and 309 before it
  std::snprintf(words, sizeof words, "%.*f", digits, d);
  return JinjaValue::of(std::strtod(words, nullptr));
}

KDLIB_FUNC JinjaValue format_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  return run.format(soft_string(run, v), arguments);
}

/// One conversion of printf: %(name)-05.2f
struct PrintForm {
  std::string flags;
  std::string_view name;
  bool named = false;
  int width = 0, precision = -1;
  char type = 0;
};

KDLIB_FUNC PrintForm read_form(std::string_view form, std::size_t& at) {
  PrintForm out;
  const auto number = [&](int& to) {
    to = 0;
    while (at < form.size() && form[at] >= '0' && form[at] <= '9') {
      to = to * 10 + (form[at++] - '0');
      if (to > 1000) jinja_fail(JinjaError::Kind::limit, "a width or precision of % is above 1000");
    }
  };
  if (at < form.size() && form[at] == '(') {
    const std::size_t end = form.find(')', at);
    if (end == form.npos) jinja_fail(JinjaError::Kind::type, "%: the name in brackets has no end");
    out.name = form.substr(at + 1, end - at - 1);
    out.named = true;
    at = end + 1;
  }
  while (at < form.size() && std::string_view("-+ 0#").find(form[at]) != std::string_view::npos && out.flags.size() < 5)
    out.flags += form[at++];
  number(out.width);
  if (at < form.size() && form[at] == '.') number(out.precision = (++at, 0));
  if (at >= form.size()) jinja_fail(JinjaError::Kind::type, "%: the format ends too early");
  if (std::string_view("diuxXoeEfFgGsr%").find(form[at]) == std::string_view::npos)
    jinja_fail(JinjaError::Kind::unknown, "%", first_character(form.substr(at)), " is not known here");
  out.type = form[at++];
  return out;
}

KDLIB_FUNC std::string number_text(JinjaRun& run, const PrintForm& form, const JinjaValue& v) {
  char words[1600];
  const std::string precision = form.precision < 0 ? std::string() : concat(".", form.precision);
  const std::string start =
      concat("%", form.flags, form.width > 0 ? std::to_string(form.width) : std::string(), precision);
  const bool real = std::string_view("eEfFgG").find(form.type) != std::string_view::npos;
  if (!v.is_number()) jinja_fail(JinjaError::Kind::type, "%", form.type, " needs a number, this is a ", type_name(v));
  if (real) {
    std::snprintf(words, sizeof words, concat(start, form.type).c_str(), v.as_real());
    return words;
  }
  const std::int64_t n = v.is(JinjaValue::Kind::real) ? real_to_integer(v.real, JinjaValue::of(std::int64_t{0})).integer
                                                      : run.integer_of(v, "%");
  const char type = form.type == 'i' || form.type == 'u' ? 'd' : form.type;
  if (n < 0 && type != 'd') jinja_fail(JinjaError::Kind::unknown, "%", type, " of a negative number is not known here");
  std::snprintf(words, sizeof words, concat(start, "ll", type).c_str(), static_cast<long long>(n));
  return words;
}

KDLIB_FUNC std::string form_text(JinjaRun& run, const PrintForm& form, const JinjaValue& v) {
  if (std::string_view("diuxXoeEfFgG").find(form.type) != std::string_view::npos) return number_text(run, form, v);
  std::string words;
  if (form.type == 's') append_str(run.heap(), v, words);
  else append_repr(run.heap(), v, words);
  if (form.precision >= 0) words.resize(byte_of(words, static_cast<std::size_t>(form.precision)));
  const std::size_t size = utf8_count(words), width = static_cast<std::size_t>(form.width);
  const std::string pad(size < width ? width - size : 0, ' ');
  return form.flags.find('-') != std::string::npos ? words + pad : pad + words;
}

KDLIB_FUNC JinjaValue JinjaRun::format(const JinjaValue& form, const JinjaArguments& values) {
  const std::string_view text_form = form.view();
  std::string words;
  std::size_t next = 0;
  for (std::size_t at = 0; at < text_form.size();) {
    if (text_form[at] != '%') {
      words += text_form[at++];
      continue;
    }
    const PrintForm one = read_form(text_form, ++at);
    if (one.type == '%') {
      words += '%';
      continue;
    }
    const JinjaValue* v = nullptr;
    if (!one.named && next < values.positional.size()) v = &values.positional[next];
    for (const JinjaNamed& n : values.named)
      if (one.named && n.name == one.name) v = &n.value;
    if (v == nullptr) jinja_fail(JinjaError::Kind::type, "%: a value for the format is missing");
    next += one.named ? 0 : 1;
    std::string part = form_text(*this, one, *v);
    if (form.markup && !v->markup) part = escape_markup(part);
    heap_.charge(part.size());
    words += part;
  }
  if (next < values.positional.size()) jinja_fail(JinjaError::Kind::type, "%: there are more values than formats");
  return text(words, form.markup);
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
