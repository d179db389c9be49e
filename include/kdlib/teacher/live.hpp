// SPDX-License-Identifier: Apache-2.0
// A teacher that runs beside the student. It gives its hidden states of each micro-batch; the loss forms the logits
// from them, chunk by chunk.
#ifndef KDLIB_TEACHER_LIVE_HPP
#define KDLIB_TEACHER_LIVE_HPP

#include "kdlib/loss/concepts.hpp"
#include "kdlib/teacher/concepts.hpp"
#include "kdlib/teacher/describe.hpp"
#include "kdlib/tensor/tensor.hpp"

KDLIB_NAMESPACE_BEGIN

/// A TeacherSource around a model whose weights are only read. The model is borrowed and must outlive the teacher;
/// temporaries are refused. Memory: [R, H] for the R rows of the micro-batch, besides what the model's forward pass
/// needs.
template <class M>
class LiveTeacher {
  static_assert(
      requires(M & model, const M& constant, const TokenBatch& batch) {
        typename M::scalar_type;
        typename M::device_type;
        {model.forward(batch).view()};
        constant.head();
        constant.vocab_size();
      },
      "kdlib: LiveTeacher needs a language model (scalar_type, device_type, vocab_size(), forward(batch), head()): "
      "give a kd::Decoder");

 public:
  using T = typename M::scalar_type;
  using D = typename M::device_type;
  using targets_type = HiddenTargets<T, D>;

  explicit LiveTeacher(M& model) : model_(&model) {}
  LiveTeacher(const M&& model) = delete;
  /// A copy reads the same model and starts without a prepared batch.
  LiveTeacher(const LiveTeacher& other) : model_(other.model_) {}
  LiveTeacher& operator=(const LiveTeacher& other);
  LiveTeacher(LiveTeacher&&) noexcept = default;
  LiveTeacher& operator=(LiveTeacher&&) noexcept = default;

  std::int64_t vocab_size() const { return model_->vocab_size(); }

  /// Runs the model on the batch and keeps the hidden states of the rows that count, in the order of batch.rows().
  /// InputError: an id is outside the teacher's vocabulary.
  void prepare(const TokenBatch& batch);

  /// Returns rows [begin, begin + count) of the prepared batch, valid until the next prepare().
  targets_type targets(std::int64_t begin, std::int64_t count) const;

  /// Returns the number of rows of the prepared batch.
  std::int64_t rows() const { return rows_; }

  /// Returns the size of the vocabulary and a fingerprint of the weights (the first and last elements of every tensor),
  /// so that a resumed run notices another teacher.
  SettingsList describe() const { return describe_teacher(*model_, "live"); }

 private:
  M* model_;
  Tensor<T, D> hidden_;  // [at least rows_, H]
  std::int64_t rows_ = 0;
};

KDLIB_NAMESPACE_END

#include "kdlib/teacher/live_inl.hpp"

#endif
