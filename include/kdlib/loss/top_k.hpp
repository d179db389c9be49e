// SPDX-License-Identifier: Apache-2.0
// Distillation on the teacher's K most probable tokens: the shape of its targets and its loss. The computation is not built yet: it refuses.
#ifndef KDLIB_LOSS_TOP_K_HPP
#define KDLIB_LOSS_TOP_K_HPP

#include "kdlib/core/error.hpp"
#include "kdlib/loss/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// The teacher's K most probable tokens of each row and the mass of the rest.
template <class T, class D>
struct TopKTargets {
  static constexpr bool teacher_rows = false;
  static constexpr bool teacher_label = false;
  static constexpr bool teacher_top_k = true;
  View<const std::int32_t, D> ids;  // [R, K]
  View<const T, D> log_probs;       // [R, K] at the temperature of the cache, natural
  View<const T, D> log_tail;        // [R] log of the mass of all other tokens
  TopKTargets rows(std::int64_t begin, std::int64_t count) const { return {ids.rows(begin, count), log_probs.rows(begin, count), log_tail.rows(begin, count)}; }
};

/// What becomes of the mass outside the K tokens.
enum class TopKMass {
  tail,          // one further category (exact where the cache keeps the log-sum-exp)
  renormalised,  // both sides over the K tokens alone
  raw            // the K terms of the full sum
};

/// KL(teacher || student) over the teacher's K tokens and, by `mass`, the rest.
struct TopKForwardKl {
  float temperature = 1;  // > 0, that of the cache
  bool t_squared = true;
  TopKMass mass = TopKMass::tail;

  Dual at_label(const LabelPoint&) const {
    fail<Error>("[TopKForwardKl] the loss on cached top-k targets is not built yet; use ForwardKl with LiveTeacher");
  }
};

KDLIB_NAMESPACE_END

#endif
