// SPDX-License-Identifier: Apache-2.0
// A teacher read from a top-k cache: losses on its K most probable tokens without the model in memory.
#ifndef KDLIB_TEACHER_CACHED_HPP
#define KDLIB_TEACHER_CACHED_HPP

#include "kdlib/loss/top_k.hpp"
#include "kdlib/teacher/concepts.hpp"
#include "kdlib/teacher/top_k_cache.hpp"
#include "kdlib/tensor/tensor.hpp"

KDLIB_NAMESPACE_BEGIN

/// Which part of a top-k cache is used.
struct CachedTeacherSettings {
  double temperature = 0;  // one of the cache's, that of the loss; 0: the cache's only one
  std::int64_t top_k = 0;  // tokens that are used of each row, at most the cache's; 0: all. The tail takes the others
  /// Ids from it on, which the student's tokenizer lacks, are absent from the rows, and their mass is taken out of the
  /// softmax as far as the rows show it; 0: every id of the cache is the student's, too.
  std::int64_t real_vocabulary = 0;
};

/// A TeacherSource of the cached rows of documents, found by their content. The cache is borrowed; temporaries are
/// refused. Memory: [R, K] for the R rows of the micro-batch, however large the cache is.
template <class D, class T = float>
class CachedTeacher {
 public:
  using scalar_type = logit_t<D, T>;  // of log-probabilities
  using targets_type = TopKTargets<scalar_type, D>;

  /// ConfigError, with both values: a temperature that the cache does not have (a softmax at another one cannot be made
  /// from K tokens), more tokens than it has.
  explicit CachedTeacher(const TopKCache& cache, CachedTeacherSettings settings = {});
  CachedTeacher(const TopKCache&& cache, CachedTeacherSettings settings = {}) = delete;
  /// A copy reads the same cache and starts without a prepared batch.
  CachedTeacher(const CachedTeacher& other);
  CachedTeacher& operator=(const CachedTeacher& other);
  CachedTeacher(CachedTeacher&&) noexcept = default;
  CachedTeacher& operator=(CachedTeacher&&) noexcept = default;

  std::int64_t vocab_size() const { return cache_->vocab_size(); }
  std::int64_t top_k() const { return top_k_; }

  /// Finds, reads and checks the rows of the batch. InputError as TeacherCache::find_rows. FormatError naming file and
  /// row: numbers that are not finite or do not fall, ids outside the vocabulary or twice, masses that do not add up to
  /// 1 (within 1e-3, 5e-3 where they are stored as f16).
  void prepare(const TokenBatch& batch);
  /// Rows [begin, begin + count) of the prepared batch; valid until the next prepare().
  targets_type targets(std::int64_t begin, std::int64_t count) const;

  /// The vocabulary (and how much of it counts), K, the temperature and the cache's run hash, so that a run does not go
  /// on with another one.
  SettingsList describe() const;

 private:
  const TopKCache* cache_;
  double temperature_ = 1;
  std::int64_t place_ = 0;  // of the temperature in the cache's list
  std::int64_t top_k_ = 0;
  std::int64_t real_vocabulary_ = 0;             // 0: all
  Tensor<std::int32_t, D> ids_;                  // [at least rows_, K]
  Tensor<scalar_type, D> log_probs_, log_tail_;  // [the same, K] and [the same]
  std::int64_t rows_ = 0;
};

KDLIB_NAMESPACE_END

#include "kdlib/teacher/cached_inl.hpp"

#endif
