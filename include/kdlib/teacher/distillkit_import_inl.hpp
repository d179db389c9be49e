// SPDX-License-Identifier: Apache-2.0
// Bodies of distillkit.hpp: from JSON lines to a cache.
#ifndef KDLIB_TEACHER_DISTILLKIT_IMPORT_INL_HPP
#define KDLIB_TEACHER_DISTILLKIT_IMPORT_INL_HPP

#include <algorithm>

#include "kdlib/teacher/distillkit.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// One token's K most probable next ones, falling.
struct DistillKitRow {
  std::vector<float> log_probs;
  std::vector<std::int32_t> ids;
};

/// A line of the file.
struct DistillKitText {
  std::vector<std::int32_t> ids;
  std::vector<float> weights;       // [ids] of the row at each token
  std::vector<DistillKitRow> rows;  // of the tokens but the last
};

KDLIB_FUNC std::vector<std::uint8_t> json_bytes(const Json& list) {
  std::vector<std::uint8_t> out;
  for (const Json& value : list) {
    const std::int64_t byte = value.as_int();
    if (byte < 0 || byte > 255) value.refuse(concat("is ", byte, ", a byte is from 0 to 255"));
    out.push_back(static_cast<std::uint8_t>(byte));
  }
  return out;
}

KDLIB_FUNC std::int32_t distillkit_id(const DistillKitFormat& f, const Json& id) {
  const std::int64_t value = id.as_int();
  if (value < 0 || value >= f.vocabulary) id.refuse(concat("is ", value, ", d is ", f.vocabulary));
  return static_cast<std::int32_t>(value);
}

/// true and 1, false and 0.
KDLIB_FUNC bool distillkit_flag(const Json& flag) {
  if (flag.is_bool()) return flag.as_bool();
  const std::int64_t value = flag.as_int();
  if (value != 0 && value != 1) flag.refuse(concat("is ", value, ", 0 or 1 is needed"));
  return value == 1;
}

/// Values and ids of entry `i`, sorted; the sum of their probabilities is at most 1 afterwards.
KDLIB_FUNC DistillKitRow distillkit_row(const DistillKitFormat& f, const Json& line, std::size_t i) {
  std::vector<double> values;
  std::vector<std::int32_t> ids;
  const bool packed = line.contains("compressed_logprobs");
  const Json place = line.at(packed ? "compressed_logprobs" : "top_values")[i];
  if (packed) {
    values = decode_distillkit_values(f, json_bytes(place));
    ids = decode_distillkit_ids(f, json_bytes(line.at("bytepacked_indices")[i]));
  } else {
    for (const Json& v : place) values.push_back(v.as_double());
    for (const Json& id : line.at("top_indices")[i]) ids.push_back(distillkit_id(f, id));
  }
  const auto k = static_cast<std::size_t>(f.top_k);
  if (values.size() != k || ids.size() != k)
    place.refuse(concat("has ", values.size(), " values and ", ids.size(), " ids, k is ", f.top_k));
  for (const double v : values)
    if (!(v >= -1e30)) place.refuse(concat("holds ", setting_text(v), ", which is no log-probability"));
  std::vector<std::size_t> order(k);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return values[a] > values[b]; });
  double mass = 0;
  for (const double v : values) mass += std::exp(v);
  if (!(mass <= 1.05)) place.refuse(concat("has probabilities that add up to ", setting_text(mass)));
  const double over = mass > 1 ? std::log(mass) : 0;
  DistillKitRow row;
  for (const std::size_t at : order) {
    row.log_probs.push_back(static_cast<float>(values[at] - over));
    row.ids.push_back(ids[at]);
  }
  std::sort(ids.begin(), ids.end());
  if (ids.front() < 0 || ids.back() >= f.vocabulary || std::adjacent_find(ids.begin(), ids.end()) != ids.end())
    place.refuse(
        concat("has ids from ", ids.front(), " to ", ids.back(), "; they must differ and be below d ", f.vocabulary));
  return row;
}

KDLIB_FUNC DistillKitText distillkit_text(const DistillKitFormat& f, const Json& line) {
  DistillKitText out;
  for (const Json& id : line.at("input_ids")) out.ids.push_back(distillkit_id(f, id));
  const std::size_t length = out.ids.size();
  if (length < 2) line.at("input_ids").refuse(concat("has ", length, " ids; a text needs two"));
  const Json entries = line.at(line.contains("compressed_logprobs") ? "compressed_logprobs" : "top_values");
  const Json names = line.at(line.contains("compressed_logprobs") ? "bytepacked_indices" : "top_indices");
  if ((entries.size() != length && entries.size() + 1 != length) || names.size() != entries.size())
    entries.refuse(concat("has ", entries.size(), " entries and ", names.size(), " lists of ids for ", length,
                          " ids; one for each or for each but the last is needed"));
  out.weights.assign(length, 0.0f);
  const std::optional<Json> mask = line.find_set("loss_mask");
  if (mask && mask->size() != length) mask->refuse(concat("has ", mask->size(), " values for ", length, " ids"));
  for (std::size_t i = 0; i + 1 < length; ++i) {
    out.weights[i] = !mask || distillkit_flag((*mask)[i + 1]) ? 1.0f : 0.0f;
    out.rows.push_back(out.weights[i] != 0 ? distillkit_row(f, line, i) : DistillKitRow());
  }
  return out;
}

/// The columns of one row: cache_columns() of kind logprobs in float32 at temperature 1.
KDLIB_FUNC void append_distillkit_row(const DistillKitRow& row, std::int32_t label,
                                      std::vector<std::vector<std::byte>>& columns) {
  double mass = 0;
  float of_label = std::numeric_limits<float>::quiet_NaN();
  for (std::size_t i = 0; i < row.ids.size(); ++i) {
    mass += std::exp(static_cast<double>(row.log_probs[i]));
    if (row.ids[i] == label) of_label = row.log_probs[i];
  }
  const float norm = 0,
              tail = mass < 1 ? static_cast<float>(std::log1p(-mass)) : -std::numeric_limits<float>::infinity();
  const auto k = static_cast<std::int64_t>(row.ids.size());
  append_values<float>(columns[0], row.log_probs.data(), k);
  append_values<std::int32_t>(columns[1], row.ids.data(), k);
  append_values<float>(columns[2], &norm, 1);
  append_values<float>(columns[3], &tail, 1);
  append_values<float>(columns[4], &of_label, 1);
}

}  // namespace detail

KDLIB_FUNC CacheMeta import_distillkit(const std::string& file, const DistillKitFormat& format, const std::string& out,
                                       CacheFacts facts, std::int64_t segment) {
  format.check();
  TokenBatch documents;
  std::vector<detail::DistillKitText> texts;
  JsonlReader reader(file);
  while (const auto line = reader.next()) {
    try {
      texts.push_back(detail::distillkit_text(format, *line));
    } catch (const FormatError& error) {
      fail<FormatError>("[distillkit] ", reader.place(), ": ", error.what());
    }
    documents.append(texts.back().ids, texts.back().weights);
    documents.sources.resize(static_cast<std::size_t>(documents.documents()));
    documents.sources.back() = reader.place();
  }
  require<InputError>(!texts.empty(), "[distillkit] ", file, " holds no line");
  facts.vocabulary = format.vocabulary;
  facts.real_vocabulary = 0;
  facts.hidden_size = std::max<std::int64_t>(1, facts.hidden_size);
  if (facts.dataset.empty()) facts.dataset = file;
  const CacheSettings settings{
      .store = CacheStore::f32, .top_k = format.top_k, .temperatures = {1}, .segment = segment};
  CacheWriter writer(out, std::move(facts), settings, documents);
  for (const std::int64_t s : writer.open_segments(0)) {
    std::vector<std::vector<std::byte>> columns(cache_columns(writer.meta()).size());
    for (const std::int64_t b : writer.documents_of(0, s)) {
      const detail::DistillKitText& text = texts[static_cast<std::size_t>(b)];
      for (std::size_t i = 0; i < text.rows.size(); ++i)
        if (text.weights[i] != 0) detail::append_distillkit_row(text.rows[i], text.ids[i + 1], columns);
    }
    writer.write_segment(0, s, columns);
  }
  writer.finish();
  return writer.meta();
}

KDLIB_NAMESPACE_END

#endif
