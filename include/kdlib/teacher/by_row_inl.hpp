// SPDX-License-Identifier: Apache-2.0
// Bodies of teacher/by_row.hpp.
#ifndef KDLIB_TEACHER_BY_ROW_INL_HPP
#define KDLIB_TEACHER_BY_ROW_INL_HPP

#include "kdlib/io/content_hash.hpp"
#include "kdlib/io/jsonl.hpp"
#include "kdlib/teacher/by_row.hpp"

KDLIB_NAMESPACE_BEGIN

inline auto TeacherNames::find(const std::string& source) const -> std::vector<Entry>::const_iterator {
  const auto at = std::lower_bound(of_.begin(), of_.end(), source,
                                   [](const Entry& entry, const std::string& text) { return entry.first < text; });
  return at != of_.end() && at->first == source ? at : of_.end();
}

inline void TeacherNames::set(std::string source, std::string teacher) {
  const auto found = find(source);
  if (found != of_.end()) {
    of_[static_cast<std::size_t>(found - of_.begin())].second = std::move(teacher);
    return;
  }
  const Entry entry(std::move(source), std::move(teacher));
  of_.insert(std::upper_bound(of_.begin(), of_.end(), entry), entry);
}

inline void TeacherNames::read(const std::string& path) {
  JsonlReader reader(path);
  std::vector<Entry> all;
  while (const std::optional<Json> line = reader.next()) {
    const std::optional<Json> name = line->find("teacher");
    if (name) all.emplace_back(reader.place(), std::string(name->as_string()));
    else
      require<InputError>(!otherwise_.empty(), "[TeacherByRow] ", reader.place(),
                          " has no \"teacher\", and no teacher is named for such lines");
  }
  // What is read now comes before what was known of the same line.
  all.insert(all.end(), of_.begin(), of_.end());
  std::stable_sort(all.begin(), all.end(), [](const Entry& a, const Entry& b) { return a.first < b.first; });
  all.erase(std::unique(all.begin(), all.end(), [](const Entry& a, const Entry& b) { return a.first == b.first; }),
            all.end());
  of_ = std::move(all);
}

inline const std::string& TeacherNames::of(const TokenBatch& batch, std::int64_t document) const {
  const auto b = static_cast<std::size_t>(document);
  if (b < batch.sources.size()) {
    const auto found = find(batch.sources[b]);
    if (found != of_.end()) return found->second;
  }
  require<InputError>(!otherwise_.empty(), "[TeacherByRow] document ", document, " of the batch ",
                      b < batch.sources.size() ? concat("is ", batch.sources[b], ", which no teacher is named for")
                                               : std::string("has no name, so that its teacher cannot be looked up"));
  return otherwise_;
}

inline std::string TeacherNames::digest() const {
  Sha256 hash;
  const auto add = [&](const std::string& text) { hash.add(concat(text.size(), ":", text)); };
  add(otherwise_);
  for (const auto& [source, teacher] : of_) add(source), add(teacher);
  return hash.digest();
}

template <class Teacher>
TeacherByRow<Teacher>::TeacherByRow(std::vector<std::pair<std::string, Teacher>> teachers, TeacherNames names)
    : teachers_(std::move(teachers)), names_(std::move(names)), marked_(teachers_.size(), 0) {
  require<ConfigError>(!teachers_.empty(), "[TeacherByRow] no teacher is given: it needs one at least");
  for (std::size_t i = 0; i < teachers_.size(); ++i) {
    require<ConfigError>(!teachers_[i].first.empty(), "[TeacherByRow] teacher ", i, " has no name");
    for (std::size_t j = 0; j < i; ++j)
      require<ConfigError>(teachers_[j].first != teachers_[i].first, "[TeacherByRow] two teachers are called ",
                           teachers_[i].first);
    require<ConfigError>(teachers_[i].second.vocab_size() == vocab_size(), "[TeacherByRow] ", teachers_[0].first,
                         " has ", vocab_size(), " tokens and ", teachers_[i].first, " has ",
                         teachers_[i].second.vocab_size(), ": all must share a vocabulary");
  }
}

template <class Teacher>
auto TeacherByRow<Teacher>::parts_of(const TokenBatch& batch) const -> std::vector<Part> {
  std::vector<Part> parts(teachers_.size());
  for (std::int64_t b = 0; b < batch.documents(); ++b) {
    const std::string& name = names_.of(batch, b);
    const auto found = std::find_if(teachers_.begin(), teachers_.end(), [&](const auto& t) { return t.first == name; });
    require<InputError>(found != teachers_.end(), "[TeacherByRow] document ", b, " of the batch asks for the teacher ",
                        name, ", which is not among those given");
    parts[static_cast<std::size_t>(found - teachers_.begin())].documents.push_back(b);
  }
  for (Part& part : parts)
    if (!part.is_whole(batch))
      for (const std::int64_t b : part.documents) part.batch.append(batch.document(b));
  return parts;
}

template <class Teacher>
void TeacherByRow<Teacher>::announce(const TokenBatch& batch) {
  if constexpr (requires(Teacher & teacher) { teacher.announce(batch); }) {
    const std::vector<Part> parts = parts_of(batch);
    for (std::size_t i = 0; i < parts.size(); ++i)
      if (!parts[i].documents.empty()) teachers_[i].second.announce(parts[i].is_whole(batch) ? batch : parts[i].batch);
  }
}

/// The rows that the teacher has for it.
template <class Teacher>
std::int64_t TeacherByRow<Teacher>::prepare_part(std::size_t teacher, const TokenBatch& batch) {
  teachers_[teacher].second.prepare(batch);
  const auto rows = static_cast<std::int64_t>(batch.rows().token.size());
  marked_[teacher] += rows;
  return rows;
}

template <class Teacher>
void TeacherByRow<Teacher>::prepare(const TokenBatch& batch) {
  rows_ = 0, alone_ = teachers_.size();
  const std::vector<Part> parts = parts_of(batch);
  std::size_t first = teachers_.size();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].documents.empty()) continue;
    if (parts[i].is_whole(batch)) {  // the batch as it is: the bits that this teacher gives without the others
      rows_ = prepare_part(i, batch);
      alone_ = i;
      return;
    }
    if (first == teachers_.size()) first = i;
    else
      require<InputError>(mixes, "[TeacherByRow] one micro-batch has documents of ", teachers_[first].first, " and of ",
                          teachers_[i].first,
                          ": teachers that give hidden states or logits take one micro-batch each; group the lines by "
                          "teacher, or use their most probable tokens");
  }
  if (first == teachers_.size()) alone_ = 0;  // no document
  else gather(batch, parts);
}

template <class Teacher>
void TeacherByRow<Teacher>::gather(const TokenBatch& batch, const std::vector<Part>& parts) {
  if constexpr (mixes) {
    // Rows of document b are [begin[b], begin[b + 1]) of the whole batch.
    std::vector<std::int64_t> begin(static_cast<std::size_t>(batch.documents()) + 1, 0);
    for (std::int64_t b = 0; b < batch.documents(); ++b)
      begin[static_cast<std::size_t>(b + 1)] =
          begin[static_cast<std::size_t>(b)] + static_cast<std::int64_t>(batch.document(b).rows().token.size());
    rows_ = begin.back();
    bool begun = false;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (parts[i].documents.empty()) continue;
      const std::int64_t rows = prepare_part(i, parts[i].batch);
      if (rows == 0) continue;
      if (!begun) mixed_.begin(rows_, teachers_[i].second.targets(0, rows));
      begun = true;
      std::int64_t from = 0;
      for (const std::int64_t b : parts[i].documents) {
        const std::int64_t to = begin[static_cast<std::size_t>(b)], count = begin[static_cast<std::size_t>(b + 1)] - to;
        if (count > 0) mixed_.take(teachers_[i].second.targets(from, count), to);
        from += count;
      }
    }
    if (!begun) alone_ = 0;  // no document has a row
  }
}

template <class Teacher>
auto TeacherByRow<Teacher>::targets(std::int64_t begin, std::int64_t count) const -> targets_type {
  require<ShapeError>(begin >= 0 && count >= 0 && begin + count <= rows_, "[TeacherByRow] rows ", begin, " to ",
                      begin + count, " of ", rows_, ": prepare(batch) comes first, targets stay within its rows");
  if constexpr (mixes)
    if (alone_ == teachers_.size()) return mixed_.targets().rows(begin, count);
  return teachers_[alone_].second.targets(begin, count);
}

template <class Teacher>
std::vector<std::pair<std::string, double>> TeacherByRow<Teacher>::step_metrics() {
  std::vector<std::pair<std::string, double>> values;
  for (std::size_t i = 0; i < teachers_.size(); ++i) {
    values.emplace_back(concat("teacher/", teachers_[i].first, "/rows"), static_cast<double>(marked_[i]));
    marked_[i] = 0;
  }
  return values;
}

template <class Teacher>
SettingsList TeacherByRow<Teacher>::describe() const {
  SettingsList list{{"teacher", "by row"}, {"teacher.names", names_.digest()}};
  for (const auto& named : teachers_)
    if constexpr (requires { named.second.describe(); })
      for (const auto& [key, value] : named.second.describe())
        list.emplace_back(concat("teacher.", named.first, ".", key), value);
  return list;
}

KDLIB_NAMESPACE_END

#endif
