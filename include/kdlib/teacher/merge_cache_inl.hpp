// SPDX-License-Identifier: Apache-2.0
// Bodies of merge_cache.hpp.
#ifndef KDLIB_TEACHER_MERGE_CACHE_INL_HPP
#define KDLIB_TEACHER_MERGE_CACHE_INL_HPP

#include <algorithm>
#include <cstddef>
#include <memory>

#include "kdlib/core/stop.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/teacher/merge_cache.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// What the caches of one merge have in common, by the names of meta.json.
KDLIB_FUNC SettingsList common_cache_settings(const CacheMeta& m) {
  const CacheFacts& f = m.facts;
  const CacheSettings& s = m.settings;
  const bool top_k = s.kind == CacheKind::logprobs;
  SettingsList list{{"kind", setting_text(s.kind)},
                    {"store", setting_text(s.store)},
                    {"top_k", top_k ? setting_text(s.top_k) : std::string()},
                    {"temperatures", top_k ? temperatures_text(s.temperatures) : std::string()},
                    {"teacher_hash", f.teacher_hash},
                    {"tokenizer", f.tokenizer},
                    {"vocabulary", setting_text(f.vocabulary)},
                    {"real_vocabulary", setting_text(f.real_vocabulary)},
                    {"hidden_size", setting_text(f.hidden_size)},
                    {"scalar", f.scalar}};
  for (const CacheFile& file : m.files)
    if (file.name == "head.safetensors") list.emplace_back("checksum of head.safetensors", file.checksum);
  return list;
}

KDLIB_FUNC void check_mergeable(const TeacherCache& first, const TeacherCache& other) {
  const SettingsList a = common_cache_settings(first.meta()), b = common_cache_settings(other.meta());
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i)
    require<ConfigError>(a[i] == b[i], "[merge caches] ", join_path(other.folder(), "meta.json"), ": ", b[i].first,
                         " is \"", b[i].second, "\", ", join_path(first.folder(), "meta.json"), " has \"", a[i].second,
                         "\": caches of one teacher and one kind can be merged");
}

/// The bytes of the columns for some documents, found in their caches.
KDLIB_FUNC std::vector<std::vector<std::byte>> merged_columns(const std::vector<std::unique_ptr<TeacherCache>>& caches,
                                                              const std::vector<std::size_t>& cache_of,
                                                              const TokenBatch& documents,
                                                              const std::vector<std::int64_t>& wanted,
                                                              const std::vector<CacheColumn>& columns) {
  std::vector<std::vector<std::byte>> out(columns.size());
  for (const std::int64_t b : wanted) {
    const TeacherCache& cache = *caches[cache_of[static_cast<std::size_t>(b)]];
    const std::vector<TeacherCache::Place> places = cache.find_rows(documents.document(b));  // all in one segment
    for (std::size_t c = 0; c < columns.size() && !places.empty(); ++c) {
      const std::int64_t size = columns[c].row_bytes();
      const std::byte* data = cache.column(places.front().segment, columns[c].name.c_str()).data.data();
      for (const TeacherCache::Place& place : places)
        out[c].insert(out[c].end(), data + place.row * size, data + (place.row + 1) * size);
    }
  }
  return out;
}

}  // namespace detail

KDLIB_FUNC CacheMeta merge_teacher_caches(const std::vector<std::string>& folders, const std::string& out,
                                          std::int64_t segment) {
  require<ConfigError>(!folders.empty(), "[merge caches] no cache is named");
  std::vector<std::unique_ptr<TeacherCache>> caches;
  TokenBatch documents;
  std::vector<std::size_t> cache_of;  // of each document
  CacheFacts facts;
  for (const std::string& folder : folders) {
    require<ConfigError>(detail::resolved_path(folder) != detail::resolved_path(out), "[merge caches] ", out,
                         " is one of the caches; use another folder");
    caches.push_back(std::make_unique<TeacherCache>(folder));
    const TeacherCache& cache = *caches.back();
    detail::check_mergeable(*caches.front(), cache);
    const CacheFacts& f = cache.meta().facts;
    if (caches.size() == 1) {
      facts = f;
    } else {
      if (!f.dataset.empty()) facts.dataset += (facts.dataset.empty() ? "" : " + ") + f.dataset;
      if (!f.dataset_hash.empty()) facts.dataset_hash += (facts.dataset_hash.empty() ? "" : " + ") + f.dataset_hash;
      facts.max_length = std::max(facts.max_length, f.max_length);
    }
    documents.append(cache.tokens());
    cache_of.resize(static_cast<std::size_t>(documents.documents()), caches.size() - 1);
  }
  CacheSettings settings = caches.front()->meta().settings;
  settings.workers = 1;
  settings.shuffled = false;
  if (segment > 0) settings.segment = segment;
  CacheWriter writer(out, facts, settings, documents);
  const std::string head = join_path(out, "head.safetensors");
  if (settings.kind == CacheKind::hidden && !path_exists(head))
    write_file_atomically(head, read_file(join_path(folders.front(), "head.safetensors"), std::uint64_t{1} << 40));
  if (const std::string from = join_path(folders.front(), "tokenizer"); is_directory(from)) {
    make_directories(join_path(out, "tokenizer"));
    for (const std::string& name : list_directory(from))
      write_file_atomically(join_path(join_path(out, "tokenizer"), name),
                            read_file(join_path(from, name), std::uint64_t{1} << 32));
  }
  for (const std::int64_t s : writer.open_segments(0)) {
    check_stop();
    writer.write_segment(
        0, s,
        detail::merged_columns(caches, cache_of, documents, writer.documents_of(0, s), cache_columns(writer.meta())));
  }
  writer.finish();
  return writer.meta();
}

KDLIB_NAMESPACE_END

#endif
