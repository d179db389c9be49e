// SPDX-License-Identifier: Apache-2.0
// A small cache of a toy model for tests, and ways to damage it.
#ifndef KDLIB_TESTS_TEACHER_CACHE_SUPPORT_HPP
#define KDLIB_TESTS_TEACHER_CACHE_SUPPORT_HPP

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/safetensors.hpp"
#include "kdlib/teacher/cached.hpp"
#include "kdlib/teacher/cached_hidden.hpp"
#include "kdlib/teacher/write_cache.hpp"
#include "support/shared.hpp"
#include "support/toy_model.hpp"
#include "support/training_parts.hpp"

namespace kdlib_tests {

using Toy = ToyModel<float>;
constexpr std::int64_t toy_vocabulary = 17, toy_width = 6;

/// 12 documents of 2 to 9 tokens, some of which do not count.
inline kdlib::TokenBatch toy_documents(std::uint64_t seed = 5) {
  kdlib::TokenBatch out;
  RaggedDocuments source({.vocabulary = toy_vocabulary, .documents = 3, .seed = seed});
  for (int i = 0; i < 4; ++i) out.append(*source.next());
  return out;
}

inline kdlib::CacheSettings hidden_settings() { return {.kind = kdlib::CacheKind::hidden, .batch = 2, .segment = 4}; }
inline kdlib::CacheSettings top_k_settings(std::int64_t top_k = 5) {
  return {.top_k = top_k, .temperatures = {1, 2}, .batch = 2, .segment = 4};
}

/// Writes the cache of one teacher, all workers one after the other.
inline void make_cache(Toy& teacher, const std::string& folder, const kdlib::CacheSettings& settings,
                       const kdlib::TokenBatch& documents, const std::function<void(kdlib::CacheFacts&)>& change = {}) {
  kdlib::CacheFacts facts = kdlib::facts_of(teacher);
  if (change) change(facts);
  for (std::int64_t w = 0; w < settings.workers; ++w) {
    kdlib::CacheWriter writer(folder, facts, settings, documents);
    kdlib::write_teacher_cache(teacher, writer, w);
  }
}

/// Overwrites element `index` of a tensor in a safetensors file.
template <class T>
void patch(const std::string& path, const char* tensor, std::size_t index, T value) {
  std::string bytes = kdlib::read_file(path);
  const auto header = kdlib::parse_safetensors(std::as_bytes(std::span(bytes)), path);
  for (const kdlib::TensorInfo& info : header.tensors)
    if (info.name == tensor)
      std::memcpy(
          bytes.data() + (reinterpret_cast<const char*>(info.data.data()) - bytes.data()) + index * sizeof value,
          &value, sizeof value);
  kdlib::write_file_atomically(path, bytes);
}

/// Replaces a piece of a text file.
inline void edit(const std::string& path, const std::string& from, const std::string& to) {
  std::string text = kdlib::read_file(path);
  const std::size_t at = text.find(from);
  if (at == std::string::npos) throw std::runtime_error(path + " does not hold " + from);
  kdlib::write_file_atomically(path, text.replace(at, from.size(), to));
}

}  // namespace kdlib_tests

#endif
