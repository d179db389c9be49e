// SPDX-License-Identifier: Apache-2.0
// A teacher that is read from a top-k cache. It allows losses on the teacher's K most probable tokens without the model
// in memory.
#ifndef KDLIB_TEACHER_CACHED_HPP
#define KDLIB_TEACHER_CACHED_HPP

#include "kdlib/loss/top_k.hpp"
#include "kdlib/teacher/concepts.hpp"
#include "kdlib/teacher/top_k_cache.hpp"
#include "kdlib/tensor/tensor.hpp"

KDLIB_NAMESPACE_BEGIN

/// Which part of a top-k cache is used.
struct CachedTeacherSettings {
  double temperature = 0;  // the temperature of the loss, which the cache must have; 0: the only one of the cache
  std::int64_t top_k = 0;  // tokens that are used of each row, at most the K of the cache; 0: all K. The tail takes the
                           // mass of the others
  /// Number of ids that the student's tokenizer has. Ids at or above this number are marked absent (-1) in the rows,
  /// and the mass that the rows show for these ids is divided among the other tokens. 0: the student has every id of
  /// the cache.
  std::int64_t real_vocabulary = 0;
};

/// A TeacherSource that finds the cached rows of a document by the document's ids. The cache is borrowed and must
/// outlive the teacher; temporaries are refused. Memory: [R, K] for the R rows of the micro-batch, however large the
/// cache is.
template <class D, class T = float>
class CachedTeacher {
 public:
  using scalar_type = logit_t<D, T>;  // the scalar type of log-probabilities
  using targets_type = TopKTargets<scalar_type, D>;

  /// ConfigError, with both values: the cache lacks the temperature (K tokens are not enough to form the softmax at
  /// another temperature), or `top_k` is above the K of the cache.
  explicit CachedTeacher(const TopKCache& cache, CachedTeacherSettings settings = {});
  CachedTeacher(const TopKCache&& cache, CachedTeacherSettings settings = {}) = delete;
  /// A copy reads the same cache and starts without a prepared batch.
  CachedTeacher(const CachedTeacher& other);
  CachedTeacher& operator=(const CachedTeacher& other);
  CachedTeacher(CachedTeacher&&) noexcept = default;
  CachedTeacher& operator=(CachedTeacher&&) noexcept = default;

  std::int64_t vocab_size() const { return cache_->vocab_size(); }
  std::int64_t top_k() const { return top_k_; }

  /// Finds, reads and checks the rows of the batch. InputError as in TeacherCache::find_rows. FormatError names file
  /// and row: a number is not finite, the log-probabilities do not fall, an id is outside the vocabulary or comes
  /// twice, or the probabilities do not add up to 1 (within 1e-3, or 5e-3 if they are stored as f16).
  void prepare(const TokenBatch& batch);
  /// Returns rows [begin, begin + count) of the prepared batch, valid until the next prepare().
  targets_type targets(std::int64_t begin, std::int64_t count) const;

  /// Returns the size of the vocabulary (and how many of its ids count), K, the temperature and the run hash of the
  /// cache, so that a resumed run notices another cache.
  SettingsList describe() const;

 private:
  const TopKCache* cache_;
  double temperature_ = 1;
  std::int64_t place_ = 0;  // index of the temperature in the cache's list
  std::int64_t top_k_ = 0;
  std::int64_t real_vocabulary_ = 0;             // 0: all
  Tensor<std::int32_t, D> ids_;                  // [at least rows_, K]
  Tensor<scalar_type, D> log_probs_, log_tail_;  // [at least rows_, K] and [at least rows_]
  std::int64_t rows_ = 0;
};

KDLIB_NAMESPACE_END

#include "kdlib/teacher/cached_inl.hpp"

#endif
