// SPDX-License-Identifier: Apache-2.0
// A divergence over the vocabulary with a teacher that knows one token a row.
// expect: the loss reads more of the teacher than its targets tell: a divergence over the vocabulary needs the
// expect: the teacher's rows (kd::LiveTeacher, or kd::CachedHiddenTeacher on a cache of hidden states)
// expect: a cache of the most probable tokens serves kd::TopKForwardKl and kd::TopKReverseKl
#include "compile_fail/support/parts.hpp"

#if defined(KDLIB_CORRECTED)
constexpr auto size = trainer_size<Model, Batches, kdlib::Objective<Teacher, kdlib::ReverseKl>>();
#else
struct OneToken {
  using targets_type = kdlib::SampledTargets;
  std::int64_t vocab_size() const { return 8; }
  void prepare(const kdlib::TokenBatch&) {}
  targets_type targets(std::int64_t, std::int64_t) const { return {}; }
};
constexpr auto size = trainer_size<Model, Batches, kdlib::Objective<OneToken, kdlib::ReverseKl>>();
#endif
