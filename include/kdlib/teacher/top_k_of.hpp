// SPDX-License-Identifier: Apache-2.0
// Reduces a teacher of hidden states to its most probable tokens, so that it can be mixed with teachers that give only
// these.
#ifndef KDLIB_TEACHER_TOP_K_OF_HPP
#define KDLIB_TEACHER_TOP_K_OF_HPP

#include <type_traits>
#include <utility>
#include <vector>

#include "kdlib/core/fields.hpp"
#include "kdlib/loss/top_k.hpp"
#include "kdlib/teacher/concepts.hpp"
#include "kdlib/teacher/write_cache.hpp"

KDLIB_NAMESPACE_BEGIN

/// Settings of TopKOf.
struct TopKOfSettings {
  std::int64_t top_k = 20;  // K, from 1 to the number of ids that the softmax of the teacher's head runs over
  double temperature = 1;   // > 0; the temperature of the loss
  std::int64_t workspace_bytes = std::int64_t{256} << 20;  // bytes for chunks of logits
};

/// A TeacherSource of TopKTargets around a TeacherSource of HiddenTargets. It gives the same numbers as a cache of kind
/// logprobs in f32 for the same rows; the mass of the tail is an exact sum. A copy starts without a prepared batch.
template <class Teacher>
class TopKOf {
  using Hidden = typename Teacher::targets_type;
  using T = std::remove_const_t<typename decltype(Hidden::hidden)::scalar_type>;
  using D = typename decltype(Hidden::hidden)::device_type;
  using L = logit_t<D, T>;

 public:
  using targets_type = TopKTargets<L, D>;

  /// ConfigError: `top_k` or `temperature` is not above 0.
  explicit TopKOf(Teacher teacher, TopKOfSettings settings = {}) : teacher_(std::move(teacher)), settings_(settings) {
    require<ConfigError>(settings_.top_k >= 1 && settings_.temperature > 0, "[TopKOf] top_k is ", settings_.top_k,
                         " and temperature ", settings_.temperature, "; both must be above 0");
  }
  TopKOf(const TopKOf& other) : teacher_(other.teacher_), settings_(other.settings_) {}
  TopKOf& operator=(const TopKOf& other) { return *this = TopKOf(other); }
  TopKOf(TopKOf&&) noexcept = default;
  TopKOf& operator=(TopKOf&&) noexcept = default;

  std::int64_t vocab_size() const { return teacher_.vocab_size(); }
  void announce(const TokenBatch& batch) {
    if constexpr (requires { teacher_.announce(batch); }) teacher_.announce(batch);
  }
  /// Prepares the teacher and finds the K most probable tokens of each row. ConfigError: the head has fewer than K
  /// tokens. Error: a logit is not a finite number.
  void prepare(const TokenBatch& batch);
  /// Returns rows [begin, begin + count) of the prepared batch, valid until the next prepare().
  targets_type targets(std::int64_t begin, std::int64_t count) const;
  SettingsList describe() const;

 private:
  void keep(const std::vector<TopKRow>& rows);

  Teacher teacher_;
  TopKOfSettings settings_;
  Tensor<std::int32_t, D> ids_;        // [rows_, K]
  Tensor<L, D> log_probs_, log_tail_;  // [rows_, K] and [rows_]
  std::int64_t rows_ = 0;
};

template <class Teacher>
void TopKOf<Teacher>::prepare(const TokenBatch& batch) {
  rows_ = 0;
  teacher_.prepare(batch);
  const TokenBatch::Rows rows = batch.rows();
  const auto count = static_cast<std::int64_t>(rows.token.size());
  if (count == 0) return;
  const Hidden hidden = teacher_.targets(0, count);
  const std::int64_t columns = hidden.head.columns();
  require<ConfigError>(settings_.top_k <= columns, "[TopKOf] ", settings_.top_k,
                       " tokens of a row are asked for, and the teacher has ", columns);
  const std::vector<double> temperatures{settings_.temperature};
  std::vector<TopKRow> found(static_cast<std::size_t>(count));
  detail::visit_logits<T, D>(hidden.head, hidden.hidden, columns, settings_.workspace_bytes,
                             [&](std::int64_t r, auto logits) {
                               const auto at = static_cast<std::size_t>(r);
                               found[at] = top_k_row(logits, settings_.top_k, temperatures, rows.label[at]);
                             });
  for (std::size_t r = 0; r < found.size(); ++r)
    require<Error>(found[r].finite, "[TopKOf] a logit of the teacher at ", batch.place_of(rows.token[r]),
                   " is not a finite number");
  keep(found);
}

template <class Teacher>
void TopKOf<Teacher>::keep(const std::vector<TopKRow>& rows) {
  const auto count = static_cast<std::int64_t>(rows.size()), K = settings_.top_k;
  std::vector<std::int32_t> ids;
  std::vector<L> log_probs, log_tail;
  for (const TopKRow& row : rows) {
    ids.insert(ids.end(), row.ids.begin(), row.ids.end());
    for (const float at_one : row.log_probs)
      log_probs.push_back(
          static_cast<L>(static_cast<double>(at_one) / settings_.temperature - static_cast<double>(row.log_norm[0])));
    log_tail.push_back(static_cast<L>(row.log_tail[0]));
  }
  ids_ = Tensor<std::int32_t, D>(Shape{count, K});
  log_probs_ = Tensor<L, D>(Shape{count, K});
  log_tail_ = Tensor<L, D>(Shape{count});
  Memory<D>::from_host(ids_.data(), ids.data(), ids.size() * sizeof(std::int32_t));
  Memory<D>::from_host(log_probs_.data(), log_probs.data(), log_probs.size() * sizeof(L));
  Memory<D>::from_host(log_tail_.data(), log_tail.data(), log_tail.size() * sizeof(L));
  rows_ = count;
}

template <class Teacher>
typename TopKOf<Teacher>::targets_type TopKOf<Teacher>::targets(std::int64_t begin, std::int64_t count) const {
  require<ShapeError>(begin >= 0 && count >= 0 && begin + count <= rows_, "[TopKOf] rows ", begin, " to ",
                      begin + count, " of ", rows_, ": prepare(batch) comes first, targets stay within its rows");
  return targets_type{ids_.view(), log_probs_.view(), log_tail_.view(), static_cast<float>(settings_.temperature)}.rows(
      begin, count);
}

template <class Teacher>
SettingsList TopKOf<Teacher>::describe() const {
  SettingsList list;
  if constexpr (requires { teacher_.describe(); }) list = teacher_.describe();
  list.emplace_back("teacher.top_k", setting_text(settings_.top_k));
  list.emplace_back("teacher.temperature", setting_text(settings_.temperature));
  return list;
}

KDLIB_NAMESPACE_END

#endif
