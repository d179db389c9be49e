// SPDX-License-Identifier: Apache-2.0
// A teacher read from a cache of its hidden states: losses over the whole vocabulary without its layers in memory.
#ifndef KDLIB_TEACHER_CACHED_HIDDEN_HPP
#define KDLIB_TEACHER_CACHED_HIDDEN_HPP

#include "kdlib/teacher/cache_head.hpp"
#include "kdlib/teacher/concepts.hpp"
#include "kdlib/teacher/teacher_cache.hpp"

KDLIB_NAMESPACE_BEGIN

/// A TeacherSource with the targets of LiveTeacher. The cache is borrowed and must outlive the teacher; temporaries are
/// refused. Memory: the head, and [R, H] for the R rows of the micro-batch.
///
/// From a cache in f32 that was written in the batches of the run the targets are LiveTeacher's, bit for bit; from
/// other batches they differ as products of other numbers of rows do.
template <class D, class T = float>
class CachedHiddenTeacher {
 public:
  using targets_type = HiddenTargets<T, D>;

  /// Reads the head. ConfigError: the cache is of another kind. FormatError: the head does not fit.
  explicit CachedHiddenTeacher(const TeacherCache& cache);
  CachedHiddenTeacher(const TeacherCache&&) = delete;
  /// A copy reads the same cache and shares the head; it starts without a prepared batch.
  CachedHiddenTeacher(const CachedHiddenTeacher& other) : cache_(other.cache_), head_(other.head_) {}
  CachedHiddenTeacher& operator=(const CachedHiddenTeacher& other);
  CachedHiddenTeacher(CachedHiddenTeacher&&) noexcept = default;
  CachedHiddenTeacher& operator=(CachedHiddenTeacher&&) noexcept = default;

  std::int64_t vocab_size() const { return cache_->meta().facts.vocabulary; }
  /// As Decoder::set_real_vocabulary: ids from `ids` on stay outside the softmax.
  void set_real_vocabulary(std::int64_t ids) { head_.real_vocabulary = ids; }

  /// Finds and reads the rows of the batch. InputError as TeacherCache::find_rows; FormatError naming file and row that
  /// holds NaN or an infinity.
  void prepare(const TokenBatch& batch);
  /// Rows [begin, begin + count) of the prepared batch; valid until the next prepare().
  targets_type targets(std::int64_t begin, std::int64_t count) const;

  /// The vocabulary and the cache's run hash, so that a run does not go on with another one.
  SettingsList describe() const;

 private:
  const TeacherCache* cache_;
  CachedHead<T, D> head_;
  Tensor<T, D> hidden_;  // [at least rows_, H]
  std::int64_t rows_ = 0;
};

KDLIB_NAMESPACE_END

#include "kdlib/teacher/cached_hidden_inl.hpp"

#endif
