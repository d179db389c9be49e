// SPDX-License-Identifier: Apache-2.0
// Distillation on the teacher's K most probable tokens of each row (or on K tokens drawn from the teacher), with a
// declared rule for the mass outside these tokens.
#ifndef KDLIB_LOSS_TOP_K_HPP
#define KDLIB_LOSS_TOP_K_HPP

#include <array>

#include "kdlib/core/error.hpp"
#include "kdlib/loss/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// The teacher's K tokens of each row and the mass of all other tokens. The id -1 means that an entry is absent. An id
/// that occurs twice has the mass of both entries.
template <class T, class D>
struct TopKTargets {
  static constexpr bool teacher_rows = false;
  static constexpr bool teacher_label = false;
  static constexpr bool teacher_top_k = true;
  View<const std::int32_t, D> ids;  // [R, K] in [-1, V)
  View<const T, D> log_probs;       // [R, K] natural log-probabilities in the whole softmax at `temperature`; for drawn
                                    // tokens the logarithms of their weights
  View<const T, D> log_tail;        // [R] log of the mass of all other tokens, -infinity for none
  float temperature = 1;            // temperature of the log-probabilities; the loss must have the same
  TopKTargets rows(std::int64_t begin, std::int64_t count) const {
    return {ids.rows(begin, count), log_probs.rows(begin, count), log_tail.rows(begin, count), temperature};
  }
};

/// How a loss treats the mass outside the K tokens.
enum class TopKMass {
  tail,          // as one more category: a true divergence of K + 1 outcomes, never above that of all tokens
  renormalised,  // both models over the K tokens alone; mass outside has no effect; K = 1 is refused (always 0)
  raw,           // only the K terms of the sum over all tokens: no divergence, may be negative
  sampled        // K tokens drawn from p_t with weights w that add up to 1: -sum w log p_s, whose expected gradient is
                 // that of the forward KL over all tokens
};
constexpr std::array<const char*, 4> enum_names(TopKMass) { return {"tail", "renormalised", "raw", "sampled"}; }

/// KL(teacher || student) over the teacher's K tokens; `mass` says how the mass outside them is treated. The gradients
/// (without the factors T^2 and 1 / T) are, with r_t and r_s the mass outside under teacher and student: tail: p_s -
/// p_t on the K tokens and p_s (1 - r_t / r_s) elsewhere; renormalised: the difference of both softmaxes over the K
/// tokens and 0 elsewhere; raw: m p_s - p_t with m = sum of p_t over the K tokens.
struct TopKForwardKl {
  float temperature = 1;  // > 0, must be that of the targets
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

/// KL(student || teacher) over the teacher's K tokens. TopKMass::raw and TopKMass::sampled do not compile: the raw sum
/// over only K tokens is smallest if the student moves its mass off these tokens.
template <TopKMass Mass = TopKMass::tail>
struct TopKReverseKl {
  static_assert(Mass != TopKMass::raw && Mass != TopKMass::sampled,
                "the raw reverse KL on a cut support is no loss: it is smallest where the student drains its mass off "
                "the support. Use TopKMass::tail "
                "(default) or TopKMass::renormalised.");
  float temperature = 1;  // > 0, must be that of the targets
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
