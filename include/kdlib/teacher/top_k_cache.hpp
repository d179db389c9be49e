// SPDX-License-Identifier: Apache-2.0
// A teacher's top-k log-probabilities on disk. The format is not built yet: open() refuses and says so.
#ifndef KDLIB_TEACHER_TOP_K_CACHE_HPP
#define KDLIB_TEACHER_TOP_K_CACHE_HPP

#include <string>

#include "kdlib/tensor/token_batch.hpp"

KDLIB_NAMESPACE_BEGIN

/// Documents with, for each of their tokens, the teacher's K most probable next tokens, their log-probabilities and the
/// log-sum-exp.
class TopKCache {
 public:
  /// Opens a cache that was written before. Throws Error: not built yet.
  static TopKCache open(const std::string& path);

  const TokenBatch& tokens() const { return tokens_; }
  std::int64_t top_k() const { return top_k_; }
  std::int64_t vocab_size() const { return vocab_size_; }
  double temperature() const { return temperature_; }
  const std::string& path() const { return path_; }

 private:
  TopKCache() = default;

  TokenBatch tokens_;
  std::int64_t top_k_ = 0, vocab_size_ = 0;
  double temperature_ = 1;
  std::string path_;
};

inline TopKCache TopKCache::open(const std::string& path) {
  fail<Error>(
      "[TopKCache] ", path,
      ": the on-disk top-k cache is not built yet in this version; run the teacher beside the student (LiveTeacher)");
}

KDLIB_NAMESPACE_END

#endif
