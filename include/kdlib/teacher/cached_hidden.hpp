// SPDX-License-Identifier: Apache-2.0
// A teacher that is read from a cache of its hidden states. It allows losses over the whole vocabulary without the
// teacher's layers in memory.
#ifndef KDLIB_TEACHER_CACHED_HIDDEN_HPP
#define KDLIB_TEACHER_CACHED_HIDDEN_HPP

#include "kdlib/teacher/cache_head.hpp"
#include "kdlib/teacher/concepts.hpp"
#include "kdlib/teacher/teacher_cache.hpp"

KDLIB_NAMESPACE_BEGIN

/// A TeacherSource that gives the same type of targets as LiveTeacher. The cache is borrowed and must outlive the
/// teacher; temporaries are refused. Memory: the head, and [R, H] for the R rows of the micro-batch.
///
/// If the cache is stored in f32 and was written in the same batches as those of the run, the targets are equal to
/// LiveTeacher's, bit for bit. With other batches they differ by the rounding of matrix products with another number of
/// rows.
template <class D, class T = float>
class CachedHiddenTeacher {
 public:
  using targets_type = HiddenTargets<T, D>;

  /// Reads the head. ConfigError: the cache is not of kind hidden. FormatError: the head does not fit the cache.
  explicit CachedHiddenTeacher(const TeacherCache& cache);
  CachedHiddenTeacher(const TeacherCache&&) = delete;
  /// A copy reads the same cache, shares the head and starts without a prepared batch.
  CachedHiddenTeacher(const CachedHiddenTeacher& other) : cache_(other.cache_), head_(other.head_) {}
  CachedHiddenTeacher& operator=(const CachedHiddenTeacher& other);
  CachedHiddenTeacher(CachedHiddenTeacher&&) noexcept = default;
  CachedHiddenTeacher& operator=(CachedHiddenTeacher&&) noexcept = default;

  std::int64_t vocab_size() const { return cache_->meta().facts.vocabulary; }
  /// Keeps ids at or above `ids` outside the softmax, as Decoder::set_real_vocabulary does.
  void set_real_vocabulary(std::int64_t ids) { head_.real_vocabulary = ids; }

  /// Finds and reads the rows of the batch. InputError as in TeacherCache::find_rows. FormatError names file and row if
  /// a number is NaN or an infinity.
  void prepare(const TokenBatch& batch);
  /// Returns rows [begin, begin + count) of the prepared batch, valid until the next prepare().
  targets_type targets(std::int64_t begin, std::int64_t count) const;

  /// Returns the size of the vocabulary and the run hash of the cache, so that a resumed run notices another cache.
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
