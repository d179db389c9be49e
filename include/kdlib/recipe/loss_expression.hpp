// SPDX-License-Identifier: Apache-2.0
// Losses as a user writes them: "0.8 reverse_kl(temperature=2) + 0.2 cross_entropy".
//
//   sum    = [sign] term { sign term }         sign = "+" or "-"
//   term   = [weight ["*"]] name ["(" field "=" value { "," field "=" value } ")"]
//
// A weight is a number, 1 if it is left out. Names are those of docs/losses.md in small letters, with _ between the
// words: top_k_forward_kl. jsd means jensen_shannon. label_smoothing(epsilon=0.1) means the sum of cross_entropy and
// uniform_cross_entropy to which it is equal. Fields are those of the loss types; switches are on and off, choices are
// words.
#ifndef KDLIB_RECIPE_LOSS_EXPRESSION_HPP
#define KDLIB_RECIPE_LOSS_EXPRESSION_HPP

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/loss/any_loss.hpp"

KDLIB_NAMESPACE_BEGIN

/// Values for fields that the text leaves open in divergences, that is in losses that read the teacher's distribution,
/// whole or top-k. Other losses, such as cross-entropy, keep their own defaults.
struct OpenLossFields {
  std::optional<double> temperature{}, beta{};
  std::optional<bool> t_squared{};
};

/// A weighted sum of at least one loss.
struct LossExpression {
  std::vector<AnyTerm> terms{{1, ForwardKl{}}};

  /// Returns the kind of targets that all terms together need.
  LossNeeds needs() const;
  /// Returns the whole text again, with every field that is not at its default. It reads back as the same expression.
  std::string text() const;
  /// Returns one text for each term, as in a YAML list.
  std::vector<std::string> term_texts() const;
  /// Returns names, weights and fields for a report.
  SettingsList describe() const;
};

/// Reads an expression. Throws ConfigError, which names the place (in characters from 1), the text there and the
/// nearest names, for unknown losses and fields, weights that are 0 or negative, values outside their range, terms
/// whose targets exclude each other, more than 8 terms, and a value of `open` that no term takes.
LossExpression parse_loss(std::string_view text, const OpenLossFields& open = {});
/// The same for single terms, as in a YAML list.
LossExpression parse_loss(const std::vector<std::string>& terms, const OpenLossFields& open = {});

/// Throws ConfigError, which names the loss, for a weight that cannot be meant: one that is 0, not finite, or below 0
/// for a loss other than the entropy, whose weight may have either sign. parse_loss() calls this.
void check_weights(const LossExpression& loss);

/// Returns a line for each loss with its fields and ranges, for --help and messages.
std::string loss_help();

namespace detail {
/// Returns the word for a loss: the name of its type, except jsd.
std::string loss_word(const std::string& name);

/// Calls f(word, loss) for every word that --loss takes, with a loss at its defaults.
template <class F>
void each_named_loss(F&& f) {
  std::vector<std::string> seen;
  AllLosses::for_each([&]<class L>(const L& loss) {
    std::string word = loss_word(snake_case(plain_type_name<L>()));
    if (std::find(seen.begin(), seen.end(), word) != seen.end()) return;
    f(word, loss);
    seen.push_back(std::move(word));
  });
}
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/loss_expression_inl.hpp"
#endif

#endif
