// SPDX-License-Identifier: Apache-2.0
// Bodies of cache_writer.hpp.
#ifndef KDLIB_TEACHER_CACHE_WRITER_INL_HPP
#define KDLIB_TEACHER_CACHE_WRITER_INL_HPP

#include <algorithm>
#include <numeric>
#include <utility>

#include "kdlib/core/settings_error.hpp"
#include "kdlib/core/stop.hpp"
#include "kdlib/data/order.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/checksum.hpp"
#include "kdlib/teacher/cache_segment.hpp"
#include "kdlib/teacher/cache_writer.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC DType store_dtype(CacheStore store) {
  return store == CacheStore::f32 ? DType::f32 : store == CacheStore::bf16 ? DType::bf16 : DType::f16;
}

/// The rows of some documents as a segment lists them.
struct SegmentIndex {
  std::vector<std::int64_t> offsets{0}, row_offsets{0}, ordinals;
  std::vector<std::int32_t> ids, row_positions;
  std::vector<float> weights;

  void add(const TokenBatch& documents, std::int64_t b) {
    const TokenBatch one = documents.document(b);
    const TokenBatch::Rows rows = one.rows();
    ids.insert(ids.end(), one.ids.begin(), one.ids.end());
    for (const std::int64_t token : rows.token) row_positions.push_back(static_cast<std::int32_t>(token));
    weights.insert(weights.end(), rows.weight.begin(), rows.weight.end());
    offsets.push_back(static_cast<std::int64_t>(ids.size()));
    row_offsets.push_back(static_cast<std::int64_t>(row_positions.size()));
    ordinals.push_back(b);
  }
};

/// Refuses the folder of a cache that was made with other settings.
KDLIB_FUNC void check_same_cache(const std::string& path, const CacheMeta& there, const CacheMeta& wanted) {
  require<SettingsError>(there.settings.container == wanted.settings.container, "[teacher cache] ", path,
                         ": the files are ", setting_text(there.settings.container), ", now --format is ",
                         setting_text(wanted.settings.container),
                         ": the folder holds another cache; use another folder");
  const SettingsList before = there.describe(), now = wanted.describe();
  for (std::size_t i = 0; i < now.size(); ++i)
    require<SettingsError>(before[i].second == now[i].second, "[teacher cache] ", path, ": ", now[i].first, " is \"",
                           before[i].second, "\", now it is \"", now[i].second,
                           "\": the folder holds another cache; use another folder, or the settings that began it");
}

}  // namespace detail

KDLIB_FUNC std::int64_t CacheColumn::row_bytes() const {
  return std::max<std::int64_t>(width, 1) * static_cast<std::int64_t>(dtype_bits(dtype) / 8);
}

KDLIB_FUNC std::vector<CacheColumn> cache_columns(const CacheMeta& meta) {
  const CacheSettings& s = meta.settings;
  const DType store = detail::store_dtype(s.store);
  if (s.kind == CacheKind::hidden) return {{"hidden", store, meta.facts.hidden_size}};
  const auto temperatures = static_cast<std::int64_t>(s.temperatures.size());
  return {{"values", store, s.top_k},
          {"indices", DType::i32, s.top_k},
          {"log_norm", DType::f32, temperatures},
          {"tail_logmass", DType::f32, temperatures},
          {"label_logprob", DType::f32, 0}};
}

KDLIB_FUNC std::string CacheWriter::path(const std::string& name) const { return join_path(folder_, name); }

KDLIB_FUNC CacheWriter::CacheWriter(std::string folder, CacheFacts facts, CacheSettings settings,
                                    const TokenBatch& documents)
    : folder_(std::move(folder)), documents_(documents) {
  settings.check();
  if (settings.container == CacheContainer::hdf5) static_cast<void>(hdf5_functions(folder_));
  require<ConfigError>(facts.vocabulary >= 1 && facts.hidden_size >= 1, "[teacher cache] the facts of ", folder_,
                       " have a vocabulary of ", facts.vocabulary, " and a hidden size of ", facts.hidden_size);
  require<ConfigError>(settings.kind == CacheKind::hidden || settings.top_k <= facts.columns(),
                       "[teacher cache] top_k is ", settings.top_k, ", the teacher has ", facts.columns(), " tokens");
  documents_.check(facts.columns());
  if (facts.max_length == 0)
    for (std::int64_t b = 0; b < documents_.documents(); ++b)
      facts.max_length = std::max(facts.max_length, documents_.length(b));
  meta_.facts = std::move(facts);
  meta_.settings = std::move(settings);
  meta_.documents = documents_.documents();
  meta_.tokens = documents_.tokens();
  meta_.rows = static_cast<std::int64_t>(documents_.rows().token.size());
  meta_.text_hash = cached_text_hash(documents_);
  require<ConfigError>(meta_.rows > 0, "[teacher cache] no token of the text counts: there is nothing to cache in ",
                       folder_);
  order_.resize(static_cast<std::size_t>(meta_.documents));
  std::iota(order_.begin(), order_.end(), std::int64_t{0});
  if (meta_.settings.shuffled) {
    ShuffledOrder order(meta_.documents, meta_.settings.seed);
    for (std::size_t i = 0; i < order_.size(); ++i) order_[i] = order.at(static_cast<std::int64_t>(i));
  }
  adopt_or_begin();
}

KDLIB_FUNC void CacheWriter::adopt_or_begin() {
  if (path_exists(path("meta.json"))) {
    const CacheMeta there = CacheMeta::read(folder_);
    detail::check_same_cache(path("meta.json"), there, meta_);
    meta_.facts = there.facts;  // paths stay as they were said first, so that a rerun changes no byte
    meta_.complete = there.complete;
    meta_.files = there.files;
  } else {
    make_directories(folder_);
    for (const std::string& name : list_directory(folder_))
      require<ConfigError>(name.find(".tmp-") != std::string::npos, "[teacher cache] ", folder_, " holds ", name,
                           " and no meta.json of a cache: use an empty folder");
    write_file_atomically(path("meta.json"), meta_.json());
  }
  make_directories(path("segments"));
  remove_stale_temporaries_below(folder_);
}

KDLIB_FUNC bool CacheWriter::segment_is_there(std::int64_t worker, std::int64_t segment) {
  const std::string name = segment_file(worker, segment);
  if (!path_exists(path(name))) return false;
  try {
    const CacheSegment file(path(name));
    if (file.metadata("run_hash") == meta_.run_hash()) return true;
    notes_.push_back(concat(path(name), " is of another run: it is made again"));
  } catch (const FormatError& error) {
    notes_.push_back(concat(error.what(), ": it is made again"));
  }
  return false;
}

KDLIB_FUNC std::vector<std::int64_t> CacheWriter::open_segments(std::int64_t worker) {
  require<ConfigError>(worker >= 0 && worker < meta_.settings.workers, "[teacher cache] worker ", worker + 1, " of ",
                       meta_.settings.workers);
  std::vector<std::int64_t> open;
  for (std::int64_t s = 0; s < segment_count(meta_, worker); ++s)
    if (!segment_is_there(worker, s)) open.push_back(s);
  return open;
}

KDLIB_FUNC std::vector<std::int64_t> CacheWriter::documents_of(std::int64_t worker, std::int64_t segment) const {
  std::vector<std::int64_t> documents = segment_places(meta_, worker, segment);
  for (std::int64_t& place : documents) place = order_[static_cast<std::size_t>(place)];
  return documents;
}

KDLIB_FUNC std::vector<TokenBatch> CacheWriter::batches_of(std::int64_t worker, std::int64_t segment) const {
  std::vector<TokenBatch> batches;
  for (const std::int64_t b : documents_of(worker, segment)) {
    if (batches.empty() || batches.back().documents() == meta_.settings.batch) batches.emplace_back();
    batches.back().append(documents_.document(b));
  }
  return batches;
}

KDLIB_FUNC void CacheWriter::write_segment(std::int64_t worker, std::int64_t segment,
                                           const std::vector<std::vector<std::byte>>& columns) {
  detail::SegmentIndex index;
  for (const std::int64_t b : documents_of(worker, segment)) index.add(documents_, b);
  const auto rows = static_cast<std::int64_t>(index.row_positions.size()),
             count = static_cast<std::int64_t>(index.ordinals.size());
  const std::vector<CacheColumn> wanted = cache_columns(meta_);
  require<ShapeError>(columns.size() == wanted.size(), "[CacheWriter] ", columns.size(), " columns, ", wanted.size(),
                      " are needed");
  CacheArrays file;
  file.metadata = {{"format", "kdcache"},
                   {"version", setting_text(CacheMeta::version)},
                   {"kind", setting_text(meta_.settings.kind)},
                   {"run_hash", meta_.run_hash()},
                   {"worker", setting_text(worker)},
                   {"stride", setting_text(meta_.settings.workers)}};
  const auto add = [&file](const std::string& name, DType dtype, std::vector<std::int64_t> extents,
                           std::span<const std::byte> data) {
    file.tensors.push_back({name, dtype, {extents.begin(), extents.end()}, data, nullptr});
  };
  add("offsets", DType::i64, {count + 1}, std::as_bytes(std::span(index.offsets)));
  add("row_offsets", DType::i64, {count + 1}, std::as_bytes(std::span(index.row_offsets)));
  add("ordinals", DType::i64, {count}, std::as_bytes(std::span(index.ordinals)));
  add("token_ids", DType::i32, {static_cast<std::int64_t>(index.ids.size())}, std::as_bytes(std::span(index.ids)));
  add("row_positions", DType::i32, {rows}, std::as_bytes(std::span(index.row_positions)));
  add("weights", DType::f32, {rows}, std::as_bytes(std::span(index.weights)));
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const CacheColumn& c = wanted[i];
    require<ShapeError>(static_cast<std::int64_t>(columns[i].size()) == rows * c.row_bytes(), "[CacheWriter] ", c.name,
                        ": ", columns[i].size(), " bytes for ", rows, " rows of ", c.row_bytes());
    if (c.width > 0) add(c.name, c.dtype, {rows, c.width}, columns[i]);
    else add(c.name, c.dtype, {rows}, columns[i]);
  }
  write_cache_segment(path(segment_file(worker, segment)), file, meta_.settings.gzip);
  written_.push_back(segment_file(worker, segment));
}

/// Checksums of an earlier finish() stay where this object wrote no other file: damage since then must not be blessed.
KDLIB_FUNC bool CacheWriter::finish() {
  std::vector<std::string> names;
  if (meta_.settings.kind == CacheKind::hidden) names.emplace_back("head.safetensors");
  for (std::int64_t w = 0; w < meta_.settings.workers; ++w)
    for (std::int64_t s = 0; s < segment_count(meta_, w); ++s) names.push_back(segment_file(w, s));
  for (const std::string& name : names)
    if (!path_exists(path(name))) return false;
  std::vector<CacheFile> files;
  for (const std::string& name : names) {
    check_stop();
    const auto before = std::find_if(meta_.files.begin(), meta_.files.end(),
                                     [&name](const CacheFile& file) { return file.name == name; });
    const bool kept =
        before != meta_.files.end() && std::find(written_.begin(), written_.end(), name) == written_.end();
    files.push_back({name, kept ? before->checksum : file_checksum(path(name))});
  }
  meta_.files = std::move(files);
  meta_.complete = true;
  write_file_atomically(path("meta.json"), meta_.json());
  return true;
}

KDLIB_NAMESPACE_END

#endif
