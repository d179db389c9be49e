// SPDX-License-Identifier: Apache-2.0
// Bodies of teacher_cache.hpp: from documents to rows.
#ifndef KDLIB_TEACHER_TEACHER_CACHE_ROWS_INL_HPP
#define KDLIB_TEACHER_TEACHER_CACHE_ROWS_INL_HPP

#include <algorithm>

#include "kdlib/teacher/teacher_cache.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Places of the tokens of document b that count, from its first token on.
KDLIB_FUNC std::vector<std::int32_t> counted_tokens(const TokenBatch& batch, std::int64_t b) {
  const auto begin = batch.offsets[static_cast<std::size_t>(b)], end = batch.offsets[static_cast<std::size_t>(b + 1)];
  std::vector<std::int32_t> out;
  for (std::int64_t i = begin; i + 1 < end; ++i)
    if (batch.weights.empty() || batch.weights[static_cast<std::size_t>(i)] != 0)
      out.push_back(static_cast<std::int32_t>(i - begin));
  return out;
}

KDLIB_FUNC std::span<const std::int32_t> ids_of_document(const TokenBatch& batch, std::int64_t b) {
  return std::span(batch.ids).subspan(static_cast<std::size_t>(batch.offsets[static_cast<std::size_t>(b)]),
                                      static_cast<std::size_t>(batch.length(b)));
}

KDLIB_FUNC std::size_t common_length(std::span<const std::int32_t> a, std::span<const std::int32_t> b) {
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

}  // namespace detail

KDLIB_FUNC std::span<const std::int32_t> TeacherCache::ids_of(const Document& d) const {
  return std::span(ids_).subspan(static_cast<std::size_t>(d.begin), static_cast<std::size_t>(d.length));
}

KDLIB_FUNC std::span<const std::int32_t> TeacherCache::beginning_with(std::span<const std::int32_t> ids) const {
  const auto text = [this](std::int32_t n) { return ids_of(documents_[static_cast<std::size_t>(n)]); };
  const auto before = [&](std::int32_t n, std::span<const std::int32_t> query) {
    const auto x = text(n);
    return std::lexicographical_compare(x.begin(), x.end(), query.begin(), query.end());
  };
  const auto first = std::lower_bound(sorted_.begin(), sorted_.end(), ids, before);
  auto last = first;
  while (last != sorted_.end() && detail::common_length(ids, text(*last)) == ids.size()) ++last;
  return {first, last};
}

KDLIB_FUNC bool TeacherCache::append_places(const Document& d, std::span<const std::int32_t> wanted,
                                            std::vector<Place>& out) const {
  const auto rows =
      std::span(row_positions_).subspan(static_cast<std::size_t>(d.rows_begin), static_cast<std::size_t>(d.rows));
  const std::size_t before = out.size();
  std::size_t at = 0;
  for (const std::int32_t token : wanted) {
    while (at < rows.size() && rows[at] < token) ++at;
    if (at == rows.size() || rows[at] != token) return out.resize(before), false;
    out.push_back({d.segment, d.row + static_cast<std::int64_t>(at)});
  }
  return true;
}

KDLIB_FUNC bool TeacherCache::append_rows(const TokenBatch& batch, std::int64_t b, std::vector<Place>& out) const {
  const auto wanted = detail::counted_tokens(batch, b);
  if (wanted.empty()) return true;
  const auto same = beginning_with(detail::ids_of_document(batch, b));
  return std::any_of(same.begin(), same.end(), [&](std::int32_t n) {
    return append_places(documents_[static_cast<std::size_t>(n)], wanted, out);
  });
}

KDLIB_FUNC bool TeacherCache::holds(const TokenBatch& batch) const {
  std::vector<Place> places;
  for (std::int64_t b = 0; b < batch.documents(); ++b)
    if (!append_rows(batch, b, places)) return false;
  return true;
}

KDLIB_FUNC std::vector<TeacherCache::Place> TeacherCache::find_rows(const TokenBatch& batch) const {
  std::vector<Place> places;
  for (std::int64_t b = 0; b < batch.documents(); ++b) {
    if (!batch.positions.empty() && !detail::counted_tokens(batch, b).empty())
      for (std::int64_t i = 0; i < batch.length(b); ++i)
        require<InputError>(
            batch.positions[static_cast<std::size_t>(batch.offsets[static_cast<std::size_t>(b)] + i)] == i,
            "[teacher cache] ", folder_, ": document ", b,
            " of the batch has positions of its own; the cache was made with 0, 1, ... in each "
            "document");
    if (!append_rows(batch, b, places)) refuse_document(batch, b);
  }
  return places;
}

/// Says why a document is not found: the nearest cached text, or a longer one that it was cut from.
KDLIB_FUNC void TeacherCache::refuse_document(const TokenBatch& batch, std::int64_t b) const {
  const auto ids = detail::ids_of_document(batch, b);
  const std::string source = batch.sources.empty() ? "" : batch.sources[static_cast<std::size_t>(b)];
  const std::string what = concat("[teacher cache] ", folder_, ": document ", b, " of the batch (",
                                  source.empty() ? "" : source + ", ", ids.size(), " tokens) ");
  if (!beginning_with(ids).empty())
    fail<InputError>(what, "counts tokens that did not count when the cache was made: cache with the same loss mask");
  std::size_t nearest = 0;
  for (const std::int32_t n : sorted_) {
    const auto cached = ids_of(documents_[static_cast<std::size_t>(n)]);
    const std::size_t common = detail::common_length(ids, cached);
    require<InputError>(common < cached.size(), what, "goes on behind the ", cached.size(), " tokens of text ", n + 1,
                        ": its rows have a longer context than the cache (max_length ", meta_.facts.max_length,
                        "): cache longer texts, or cut at --max-length ", cached.size());
    nearest = std::max(nearest, common);
  }
  const auto key = ids.first(std::min<std::size_t>(ids.size(), 64));
  auto at = ids_.begin();
  for (int found = 0; found < 100; ++found, ++at) {  // bounded: text of one id repeated matches everywhere
    at = std::search(at, ids_.end(), key.begin(), key.end());
    if (at == ids_.end()) break;
    const auto place = at - ids_.begin();
    for (std::size_t n = 0; n < documents_.size(); ++n) {
      const Document& d = documents_[n];
      const std::int64_t inside = place - d.begin;
      if (inside < 0 || inside >= d.length) continue;
      const auto rest = ids_of(d).subspan(static_cast<std::size_t>(inside));
      require<InputError>(detail::common_length(ids, rest) < ids.size(), what, "stands at token ", inside, " of text ",
                          n + 1, ": the cache's rows were made behind a longer context, the ", inside,
                          " tokens before it. Train on whole texts (DocumentDataset)");
    }
  }
  fail<InputError>(what, "is not in the cache; of all texts the nearest agrees in its first ", nearest,
                   " tokens: cache the text that is trained on, or leave such documents out (--missing skip)");
}

KDLIB_FUNC const TensorInfo& TeacherCache::column(std::int32_t segment, const char* name) const {
  return file(segment).at(name);
}

KDLIB_FUNC std::string TeacherCache::place_text(const Place& place) const {
  for (std::size_t n = 0; n < documents_.size(); ++n) {
    const Document& d = documents_[n];
    if (d.segment != place.segment || place.row < d.row || place.row >= d.row + d.rows) continue;
    const std::int32_t token = row_positions_[static_cast<std::size_t>(d.rows_begin + place.row - d.row)];
    return concat(path(place.segment), ": row ", place.row, " (text ", n + 1, ", token ", token, ")");
  }
  return concat(path(place.segment), ": row ", place.row);
}

KDLIB_NAMESPACE_END

#endif
