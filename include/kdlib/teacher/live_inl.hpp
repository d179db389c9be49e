// SPDX-License-Identifier: Apache-2.0
// Bodies of live.hpp.
#ifndef KDLIB_TEACHER_LIVE_INL_HPP
#define KDLIB_TEACHER_LIVE_INL_HPP

#include "kdlib/teacher/live.hpp"
#include "kdlib/tensor/take_rows.hpp"

KDLIB_NAMESPACE_BEGIN

template <class M>
LiveTeacher<M>& LiveTeacher<M>::operator=(const LiveTeacher& other) {
  model_ = other.model_;
  hidden_.reset();
  rows_ = 0;
  return *this;
}

template <class M>
void LiveTeacher<M>::prepare(const TokenBatch& batch) {
  batch.check(vocab_size());
  const std::vector<std::int64_t> token = batch.rows().token;
  rows_ = static_cast<std::int64_t>(token.size());
  if (rows_ == 0) return;  // nothing reads the teacher: no forward pass
  const Tensor<T, D> hidden = model_->forward(batch);
  const std::int64_t width = hidden[1];
  if (!hidden_ || hidden_[0] < rows_ || hidden_[1] != width) {
    hidden_.reset();
    hidden_ = Tensor<T, D>(Shape{rows_, width});
  }
  take_rows<T, D>(hidden, token, hidden_);
}

template <class M>
typename LiveTeacher<M>::targets_type LiveTeacher<M>::targets(std::int64_t begin, std::int64_t count) const {
  require<ShapeError>(begin >= 0 && count >= 0 && begin + count <= rows_, "[LiveTeacher] rows ", begin, " to ",
                      begin + count, " of ", rows_, ": prepare(batch) comes first, targets stay within its rows");
  return {View<const T, D>(hidden_.data(), hidden_.shape()).rows(begin, count), model_->head()};
}

KDLIB_NAMESPACE_END

#endif
