// SPDX-License-Identifier: Apache-2.0
// Distillation on the teacher's K most probable tokens (or K drawn ones) of each row, with a declared rule for the mass
// outside them.
#ifndef KDLIB_LOSS_TOP_K_HPP
#define KDLIB_LOSS_TOP_K_HPP

#include <array>

#include "kdlib/core/error.hpp"
#include "kdlib/loss/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// The teacher's K tokens of each row and the mass of the rest. An id of -1 is absent; an id that comes twice has the
/// mass of both.
template <class T, class D>
struct TopKTargets {
  static constexpr bool teacher_rows = false;
  static constexpr bool teacher_label = false;
  static constexpr bool teacher_top_k = true;
  View<const std::int32_t, D> ids;  // [R, K] in [-1, V)
  View<const T, D> log_probs;  // [R, K] natural, of the whole softmax at `temperature`; for drawn tokens the logarithm
                               // of their weight
  View<const T, D> log_tail;   // [R] log of the mass of all other tokens, -infinity for none
  float temperature = 1;       // what the log-probabilities were made at: the loss must have the same
  TopKTargets rows(std::int64_t begin, std::int64_t count) const {
    return {ids.rows(begin, count), log_probs.rows(begin, count), log_tail.rows(begin, count), temperature};
  }
};

/// What becomes of the mass outside the K tokens.
enum class TopKMass {
  tail,          // one further category: a true divergence of K + 1 outcomes, never above the whole one
  renormalised,  // both sides over the K tokens alone: blind to the mass outside; K = 1 is refused (it is always 0)
  raw,           // the K terms of the whole sum: not a divergence, may be negative
  sampled        // K draws from p_t with weights that add up to 1: -sum w log p_s, whose expected gradient is the whole
                 // forward KL's
};
constexpr std::array<const char*, 4> enum_names(TopKMass) { return {"tail", "renormalised", "raw", "sampled"}; }

/// KL(teacher || student) over the teacher's K tokens and, by `mass`, the rest. Gradients (without T^2): tail: p_s -
/// p_t on the K, p_s (1 - r_t / r_s) elsewhere (r: mass outside); renormalised: difference of both softmaxes over the
/// K, 0 elsewhere; raw: m p_s - p_t, m = sum p_t over the K.
struct TopKForwardKl {
  float temperature = 1;  // > 0, that of the targets
  bool t_squared = true;
  TopKMass mass = TopKMass::tail;

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(detail::temperature_field, self.temperature);
    f(detail::t_squared_field, self.t_squared);
    f(FieldInfo{"mass", "", "tail, renormalised, raw or sampled", "what becomes of the mass outside the K tokens"},
      self.mass);
  }

  KDLIB_HOST_DEVICE double on_support(SupportPoint& point) const;
  void check_support(std::int64_t size) const;
};

/// KL(student || teacher) over the teacher's K tokens. `raw` does not compile: on a cut support it is smallest where
/// the student leaves the support.
template <TopKMass Mass = TopKMass::tail>
struct TopKReverseKl {
  static_assert(Mass != TopKMass::raw && Mass != TopKMass::sampled,
                "the raw reverse KL on a cut support is no loss: it is smallest where the student drains its mass off "
                "the support. Use TopKMass::tail "
                "(default) or TopKMass::renormalised.");
  float temperature = 1;  // > 0, that of the targets
  bool t_squared = true;

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(detail::temperature_field, self.temperature);
    f(detail::t_squared_field, self.t_squared);
    constexpr TopKMass mass = Mass;
    f(FieldInfo{"mass", "", "tail or renormalised", "what becomes of the mass outside the K tokens", true}, mass);
  }

  KDLIB_HOST_DEVICE double on_support(SupportPoint& point) const;
  void check_support(std::int64_t size) const;
};

KDLIB_NAMESPACE_END

#include "kdlib/loss/top_k_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/loss/loss_checks_inl.hpp"
#endif

#endif
