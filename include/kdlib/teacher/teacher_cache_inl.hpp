// SPDX-License-Identifier: Apache-2.0
// Bodies of teacher_cache.hpp: opening and checking. Finding rows is in teacher_cache_rows_inl.hpp.
#ifndef KDLIB_TEACHER_TEACHER_CACHE_INL_HPP
#define KDLIB_TEACHER_TEACHER_CACHE_INL_HPP

#include <algorithm>
#include <numeric>

#include "kdlib/core/stop.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/checksum.hpp"
#include "kdlib/teacher/teacher_cache.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A tensor of a segment as numbers, of the type and shape that the format says.
template <class T>
std::vector<T> segment_numbers(const CacheSegment& file, const char* name, std::int64_t count = -1) {
  const TensorInfo& info = file.at(name);
  require<FormatError>(info.dtype == dtype_of<T>() && info.extents.size() == 1 &&
                           (count < 0 || info.count() == static_cast<std::uint64_t>(count)),
                       "[teacher cache] ", info.text(), ": ", dtype_name(dtype_of<T>()), " [",
                       count < 0 ? std::string("any") : std::to_string(count), "] is needed");
  return read_as<T>(info);
}

/// Offsets from 0 to `end` that do not fall.
KDLIB_FUNC void check_offsets(const CacheSegment& file, const char* name, const std::vector<std::int64_t>& offsets,
                              std::uint64_t end) {
  const bool ascends = std::is_sorted(offsets.begin(), offsets.end());
  require<FormatError>(
      !offsets.empty() && offsets.front() == 0 && ascends && static_cast<std::uint64_t>(offsets.back()) == end,
      "[teacher cache] ", file.path(), ": ", name, " must ascend from 0 to ", end);
}

KDLIB_FUNC void check_columns(const CacheSegment& file, const CacheMeta& meta, std::int64_t rows) {
  for (const CacheColumn& c : cache_columns(meta)) {
    const TensorInfo& info = file.at(c.name);
    std::vector<std::uint64_t> extents = {static_cast<std::uint64_t>(rows)};
    if (c.width > 0) extents.push_back(static_cast<std::uint64_t>(c.width));
    require<FormatError>(info.dtype == c.dtype && info.extents == extents, "[teacher cache] ", info.text(), ": ",
                         dtype_name(c.dtype), " [", rows, c.width > 0 ? ", " + std::to_string(c.width) : "",
                         "] is needed");
  }
}

}  // namespace detail

KDLIB_FUNC TeacherCache::TeacherCache(std::string folder)
    : folder_(std::move(folder)), meta_(CacheMeta::read(folder_)) {
  require<ConfigError>(meta_.complete, "[teacher cache] ", join_path(folder_, "meta.json"),
                       ": complete is false, true is needed: run cache_logits again with the same settings, it makes "
                       "what is missing");
  for (std::int64_t w = 0; w < meta_.settings.workers; ++w)
    for (std::int64_t s = 0; s < segment_count(meta_, w); ++s) {
      names_.push_back(segment_name(w, s, meta_.settings.container));
      require<IoError>(path_exists(join_path(folder_, names_.back())), "[teacher cache] ",
                       join_path(folder_, names_.back()),
                       " is missing: run cache_logits again with the same settings, it makes what is missing");
    }
  std::uint64_t bytes = 0;  // a text takes 8 of them and more: what meta.json says is no reason to fill the memory
  for (const std::string& name : names_) bytes += file_size(join_path(folder_, name));
  const bool packed = meta_.settings.container == CacheContainer::hdf5;  // gzip: 1032 to 1 at most
  const std::uint64_t room = packed ? bytes * 128 : bytes / 8;
  require<FormatError>(static_cast<std::uint64_t>(meta_.documents) <= room, "[teacher cache] ",
                       join_path(folder_, "meta.json"), ": documents is ", meta_.documents, ", the segments have ",
                       bytes, " bytes");
  files_.resize(names_.size());
  documents_.resize(static_cast<std::size_t>(meta_.documents));
  for (std::size_t i = 0; i < names_.size(); ++i) {
    check_stop();
    open_segment(static_cast<std::int32_t>(i));
  }
  for (std::size_t i = 0; i < documents_.size(); ++i)
    require<FormatError>(documents_[i].segment >= 0, "[teacher cache] ", folder_, ": no segment holds text ", i + 1,
                         " of ", meta_.documents);
  sorted_.resize(documents_.size());
  std::iota(sorted_.begin(), sorted_.end(), 0);
  std::sort(sorted_.begin(), sorted_.end(), [this](std::int32_t a, std::int32_t b) {
    const auto x = ids_of(documents_[static_cast<std::size_t>(a)]), y = ids_of(documents_[static_cast<std::size_t>(b)]);
    const auto [p, q] = std::mismatch(x.begin(), x.end(), y.begin(), y.end());
    if (p == x.end() || q == y.end()) return x.size() != y.size() ? x.size() < y.size() : a < b;
    return *p < *q;
  });
}

KDLIB_FUNC std::string TeacherCache::path(std::int32_t segment) const {
  return join_path(folder_, names_[static_cast<std::size_t>(segment)]);
}

KDLIB_FUNC const CacheSegment& TeacherCache::file(std::int32_t segment) const {
  // The system limits mappings of a process; what is in memory takes more than addresses.
  const std::size_t most_mapped = meta_.settings.container == CacheContainer::hdf5 ? 16 : 1024;
  auto& slot = files_[static_cast<std::size_t>(segment)];
  if (slot) return *slot;
  if (mapped_.size() >= most_mapped) {
    files_[static_cast<std::size_t>(mapped_.front())].reset();
    mapped_.erase(mapped_.begin());
  }
  slot = std::make_unique<CacheSegment>(path(segment));
  mapped_.push_back(segment);
  return *slot;
}

KDLIB_FUNC void TeacherCache::open_segment(std::int32_t segment) {
  const CacheSegment& f = file(segment);
  const std::string run(f.metadata("run_hash").value_or(""));
  require<ConfigError>(run == meta_.run_hash(), "[teacher cache] ", f.path(), ": run_hash is \"", run,
                       "\", meta.json has \"", meta_.run_hash(), "\": the segment belongs to another cache");
  const auto ordinals = detail::segment_numbers<std::int64_t>(f, "ordinals");
  const auto count = static_cast<std::int64_t>(ordinals.size());
  const auto offsets = detail::segment_numbers<std::int64_t>(f, "offsets", count + 1);
  const auto row_offsets = detail::segment_numbers<std::int64_t>(f, "row_offsets", count + 1);
  const auto ids = detail::segment_numbers<std::int32_t>(f, "token_ids");
  const auto positions = detail::segment_numbers<std::int32_t>(f, "row_positions");
  detail::check_offsets(f, "offsets", offsets, ids.size());
  detail::check_offsets(f, "row_offsets", row_offsets, positions.size());
  detail::check_columns(f, meta_, static_cast<std::int64_t>(positions.size()));
  for (const std::int32_t id : ids)
    require<FormatError>(id >= 0 && id < meta_.facts.vocabulary, "[teacher cache] ", f.path(), ": token_ids has ", id,
                         ", outside the vocabulary of ", meta_.facts.vocabulary);
  for (std::size_t i = 0; i < ordinals.size(); ++i) {
    const std::int64_t n = ordinals[i];
    require<FormatError>(n >= 0 && n < meta_.documents, "[teacher cache] ", f.path(), ": ordinals has ", n, " of ",
                         meta_.documents, " texts");
    Document& d = documents_[static_cast<std::size_t>(n)];
    require<FormatError>(d.segment < 0, "[teacher cache] ", f.path(), ": text ", n + 1, " is in ",
                         d.segment < 0 ? f.path() : path(d.segment), " too");
    d = {static_cast<std::int64_t>(ids_.size()) + offsets[i],
         static_cast<std::int64_t>(row_positions_.size()) + row_offsets[i],
         static_cast<std::int32_t>(offsets[i + 1] - offsets[i]),
         static_cast<std::int32_t>(row_offsets[i + 1] - row_offsets[i]),
         segment,
         row_offsets[i]};
    for (std::int64_t r = row_offsets[i]; r < row_offsets[i + 1]; ++r) {
      const std::int32_t at = positions[static_cast<std::size_t>(r)];
      const bool ascends = r == row_offsets[i] || at > positions[static_cast<std::size_t>(r - 1)];
      require<FormatError>(at >= 0 && at + 1 < d.length && ascends, "[teacher cache] ", f.path(),
                           ": row_positions of text ", n + 1, " has ", at, "; places must ascend within ", d.length,
                           " tokens and have a next one");
    }
  }
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  row_positions_.insert(row_positions_.end(), positions.begin(), positions.end());
}

KDLIB_FUNC TokenBatch TeacherCache::tokens() const {
  TokenBatch out;
  for (std::size_t i = 0; i < documents_.size(); ++i) {
    const Document& d = documents_[i];
    const TensorInfo& info = column(d.segment, "weights");
    std::vector<float> weights(static_cast<std::size_t>(d.length), 0.0f);
    for (std::int32_t r = 0; r < d.rows; ++r) {
      float w = 0;
      std::memcpy(&w, info.data.data() + static_cast<std::size_t>(d.row + r) * sizeof w, sizeof w);
      if (!(std::isfinite(w) && w > 0))
        fail<FormatError>("[teacher cache] ", place_text({d.segment, d.row + r}), " has weight ", w,
                          "; it must be above 0");
      weights[static_cast<std::size_t>(row_positions_[static_cast<std::size_t>(d.rows_begin + r)])] = w;
    }
    out.append(ids_of(d), weights);
    out.sources.resize(static_cast<std::size_t>(out.documents()));
    out.sources.back() = concat(folder_, ": text ", i + 1);
  }
  return out;
}

KDLIB_FUNC void TeacherCache::check(const CacheUse& use) const {
  const CacheFacts& f = meta_.facts;
  const std::string file = join_path(folder_, "meta.json");
  if (!use.tokenizer.empty() && !f.tokenizer.empty())
    require<ConfigError>(use.tokenizer == f.tokenizer, "[teacher cache] ", file, ": tokenizer is \"", f.tokenizer,
                         "\", the student's is \"", use.tokenizer,
                         "\": token by token one learns only from a teacher with the same tokens; where the cache "
                         "keeps its tokenizer (cache_logits writes tokenizer/), distil compares token by token");
  else if (use.vocabulary > 0)
    require<ConfigError>(use.vocabulary == f.vocabulary, "[teacher cache] ", file, ": vocabulary is ", f.vocabulary,
                         ", the student's is ", use.vocabulary, ", and not both have a tokenizer to compare");
  require<ConfigError>(use.teacher_hash.empty() || f.teacher_hash.empty() || use.teacher_hash == f.teacher_hash,
                       "[teacher cache] ", file, ": teacher_hash is \"", f.teacher_hash, "\" (", f.teacher,
                       "), the teacher that was named has \"", use.teacher_hash, "\"");
  require<ConfigError>(use.context_length == 0 || f.max_length <= use.context_length, "[teacher cache] ", file,
                       ": max_length is ", f.max_length, ", the student reads ", use.context_length,
                       " tokens: its longest texts have a longer context than the student; cache with --max-length ",
                       use.context_length);
}

KDLIB_FUNC void TeacherCache::verify() const {
  for (const CacheFile& f : meta_.files) {
    check_stop();
    const std::string path = join_path(folder_, f.name), now = file_checksum(path);
    require<FormatError>(now == f.checksum, "[teacher cache] ", path, ": checksum is ", now, ", meta.json has ",
                         f.checksum, ": the file is damaged; remove it, and cache_logits makes it again");
  }
}

KDLIB_NAMESPACE_END

#include "kdlib/teacher/teacher_cache_rows_inl.hpp"

#endif
