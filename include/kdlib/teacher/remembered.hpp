// SPDX-License-Identifier: Apache-2.0
// A live teacher that keeps the hidden states of every batch that it has seen. This is useful for held-out text that is
// evaluated again and again.
#ifndef KDLIB_TEACHER_REMEMBERED_HPP
#define KDLIB_TEACHER_REMEMBERED_HPP

#include <vector>

#include "kdlib/teacher/live.hpp"

KDLIB_NAMESPACE_BEGIN

/// A TeacherSource that gives the same targets as LiveTeacher. A batch with the same ids, documents, positions and
/// weights as an earlier batch costs no forward pass. Memory: [R, H] and a copy of the batch for every different batch.
/// The model is borrowed and must outlive the teacher; the model's weights must not change. Temporaries are refused.
template <class M>
class RememberedTeacher {
 public:
  using T = typename M::scalar_type;
  using D = typename M::device_type;
  using targets_type = HiddenTargets<T, D>;

  explicit RememberedTeacher(M& model) : model_(&model) {}
  RememberedTeacher(const M&& model) = delete;

  std::int64_t vocab_size() const { return model_->vocab_size(); }

  void prepare(const TokenBatch& batch) {
    for (current_ = 0; current_ < kept_.size(); ++current_)
      if (same(kept_[current_].batch, batch)) return;
    kept_.push_back({batch, LiveTeacher<M>(*model_)});
    try {
      kept_.back().teacher.prepare(batch);
    } catch (...) {
      kept_.pop_back();
      throw;
    }
  }

  targets_type targets(std::int64_t begin, std::int64_t count) const {
    require<Error>(current_ < kept_.size(), "[RememberedTeacher::targets] call prepare(batch) first");
    return kept_[current_].teacher.targets(begin, count);
  }

  /// Returns the same description as LiveTeacher, because both give the same targets.
  SettingsList describe() const { return describe_teacher(*model_, "live"); }

 private:
  struct Kept {
    TokenBatch batch;
    LiveTeacher<M> teacher;
  };
  static bool same(const TokenBatch& a, const TokenBatch& b) {
    return a.ids == b.ids && a.offsets == b.offsets && a.weights == b.weights && a.positions == b.positions;
  }

  M* model_;
  std::vector<Kept> kept_;
  std::size_t current_ = 0;
};

KDLIB_NAMESPACE_END

#endif
