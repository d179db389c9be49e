// SPDX-License-Identifier: Apache-2.0
// Bodies of loss_expression.hpp: losses as text, and the weights that they may have. The parser is in
// loss_expression_inl.hpp.
#ifndef KDLIB_RECIPE_LOSS_TEXT_INL_HPP
#define KDLIB_RECIPE_LOSS_TEXT_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/recipe/loss_expression.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC std::string loss_word(const std::string& name) { return name == "jensen_shannon" ? "jsd" : name; }

/// The text of a value as this grammar has it: switches are on and off.
template <class V>
std::string loss_value_text(const V& value) {
  if constexpr (std::is_same_v<V, bool>) return value ? "on" : "off";
  else return setting_text(value);
}

/// Why a loss cannot have this weight, or an empty text. Losses are made small, so that a negative weight would make a
/// divergence large; the entropy alone may be wanted either way.
KDLIB_FUNC std::string weight_problem(double weight, const AnyLoss& loss) {
  const bool either = loss.is<NegativeEntropy>();
  constexpr double most = 1e30;  // sums of weighted terms stay within float32
  if (std::abs(weight) <= most && weight != 0 && (weight > 0 || either)) return {};
  return concat("the weight of ", loss_word(loss.name()), " is ", setting_text(weight), "; it must be ",
                either ? "from -1e30 to 1e30 and not 0" : "above 0 and at most 1e30",
                weight == 0             ? ": leave the term out"
                : weight < 0 && !either ? ": a loss is made small, never large"
                                        : "");
}

/// "reverse_kl(temperature=2)": what differs from the type's defaults, and what is fixed.
KDLIB_FUNC std::string loss_text(const AnyLoss& any) {
  std::string fields;
  any.visit([&]<class L>(const L& loss) {
    const L usual;
    SettingsList before;
    visit_fields(usual,
                 [&](const FieldInfo& field, auto& value) { before.emplace_back(field.name, loss_value_text(value)); });
    std::size_t i = 0;
    visit_fields(loss, [&](const FieldInfo& field, auto& value) {
      const std::string text = loss_value_text(value);
      if (before[i++].second != text || field.fixed)
        fields += concat(fields.empty() ? "" : ", ", field.name, "=", text);
    });
  });
  return loss_word(any.name()) + (fields.empty() ? "" : "(" + fields + ")");
}

}  // namespace detail

KDLIB_FUNC void check_weights(const LossExpression& loss) {
  require<ConfigError>(!loss.terms.empty(), "[loss] --loss has no terms; give one, as in forward_kl");
  for (const AnyTerm& term : loss.terms) {
    const std::string problem = detail::weight_problem(term.weight, term.loss);
    require<ConfigError>(problem.empty(), "[loss] --loss: ", problem);
  }
}

KDLIB_FUNC LossNeeds LossExpression::needs() const {
  LossNeeds needs = LossNeeds::labels;
  for (const AnyTerm& term : terms) needs = combined_needs(needs, term.loss.needs());
  return needs;
}

KDLIB_FUNC std::vector<std::string> LossExpression::term_texts() const {
  std::vector<std::string> out;
  for (const AnyTerm& term : terms)
    out.push_back(
        concat(term.weight == 1 ? std::string() : setting_text(term.weight) + " ", detail::loss_text(term.loss)));
  return out;
}

KDLIB_FUNC std::string LossExpression::text() const {
  std::string out;
  for (const std::string& term : term_texts()) {
    const bool minus = term[0] == '-';
    out += out.empty() ? term : minus ? " - " + term.substr(1) : " + " + term;
  }
  return out;
}

KDLIB_FUNC SettingsList LossExpression::describe() const {
  SettingsList list;
  for (std::size_t i = 0; i < terms.size(); ++i) {
    const std::string name = concat("loss.", i);
    list.emplace_back(name, detail::loss_word(terms[i].loss.name()));
    list.emplace_back(name + ".weight", setting_text(terms[i].weight));
    terms[i].loss.visit([&](const auto& loss) { append_fields(list, name, loss); });
  }
  return list;
}

KDLIB_FUNC std::string loss_help() {
  std::string out;
  detail::each_named_loss([&]<class L>(const std::string& name, const L& loss) {
    std::string fields;
    visit_fields(loss, [&](const FieldInfo& field, auto&) {
      fields +=
          concat(fields.empty() ? "" : ", ", field.name, *field.range != 0 ? concat(" ", field.range) : std::string());
    });
    out += concat("  ", name, fields.empty() ? "" : "(" + fields + ")", "; reads ", setting_text(needs_of<L>), "\n");
  });
  return out + "  label_smoothing(epsilon in [0, 1]); reads labels\n";
}

KDLIB_NAMESPACE_END

#endif
