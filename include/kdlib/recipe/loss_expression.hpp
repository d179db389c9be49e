// SPDX-License-Identifier: Apache-2.0
// Losses as a user writes them: "0.8 reverse_kl(temperature=2) + 0.2 cross_entropy".
//
//   sum    = [sign] term { sign term }         sign = "+" or "-"
//   term   = [weight ["*"]] name ["(" field "=" value { "," field "=" value } ")"]
//
// A weight is a number, 1 where there is none. Names are those of docs/losses.md in small letters, with _ between the
// words: top_k_forward_kl. jsd is jensen_shannon. label_smoothing(epsilon=0.1) stands for the sum of cross_entropy and
// uniform_cross_entropy that it is. Fields are those of the types; switches are on and off, choices are words.
#ifndef KDLIB_RECIPE_LOSS_EXPRESSION_HPP
#define KDLIB_RECIPE_LOSS_EXPRESSION_HPP

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/loss/any_loss.hpp"

KDLIB_NAMESPACE_BEGIN

/// Values for fields that the text leaves open in divergences: losses that read the teacher's distribution, whole or
/// top-k. The others, cross-entropy among them, keep their own defaults.
struct OpenLossFields {
  std::optional<double> temperature{}, beta{};
  std::optional<bool> t_squared{};
};

/// A weighted sum of losses: at least one term.
struct LossExpression {
  std::vector<AnyTerm> terms{{1, ForwardKl{}}};

  /// The kind of targets that all terms together need.
  LossNeeds needs() const;
  /// The whole text again, every field that is not at its default in it: reads back as the same expression.
  std::string text() const;
  /// One text a term, as a list in YAML has them.
  std::vector<std::string> term_texts() const;
  /// Names, weights and fields, as a report shows them.
  SettingsList describe() const;
};

/// ConfigError names the place (characters from 1 on), what stands there, and the nearest names: unknown losses and
/// fields, weights that are 0 or negative, values outside their range, terms that need targets which exclude each
/// other, more than 8 terms, a value of `open` that no term takes.
LossExpression parse_loss(std::string_view text, const OpenLossFields& open = {});
/// Terms one by one, as a list in YAML has them.
LossExpression parse_loss(const std::vector<std::string>& terms, const OpenLossFields& open = {});

/// Refuses weights that no run could mean, naming the loss: 0, not finite, or below 0 where the loss is not the
/// entropy, which may be wanted either way. parse_loss() does so itself. ConfigError.
void check_weights(const LossExpression& loss);

/// A line for each loss with its fields and ranges: for --help and messages.
std::string loss_help();

namespace detail {
/// The word for a loss: that of its type, but jsd.
std::string loss_word(const std::string& name);

/// f(word, loss) for every word that --loss takes, with a loss at its defaults.
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
