// SPDX-License-Identifier: Apache-2.0
// Bodies of teacher/by_row.hpp.
#ifndef KDLIB_TEACHER_BY_ROW_INL_HPP
#define KDLIB_TEACHER_BY_ROW_INL_HPP

#include "kdlib/io/content_hash.hpp"
#include "kdlib/io/jsonl.hpp"
#include "kdlib/teacher/by_row.hpp"

KDLIB_NAMESPACE_BEGIN

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

/// Row by row in the order of documents; neighbours of one teacher are one run.
template <class Teacher>
auto TeacherByRow<Teacher>::runs_of(const TokenBatch& batch, const std::vector<Part>& parts) const -> std::vector<Run> {
  std::vector<std::size_t> owner(static_cast<std::size_t>(batch.documents()), 0);
  for (std::size_t i = 0; i < parts.size(); ++i)
    for (const std::int64_t b : parts[i].documents) owner[static_cast<std::size_t>(b)] = i;
  std::vector<std::int64_t> taken(parts.size(), 0);  // rows of each teacher so far
  std::vector<Run> runs;
  std::int64_t begin = 0;
  for (std::int64_t b = 0; b < batch.documents(); ++b) {
    const auto count = static_cast<std::int64_t>(batch.document(b).rows().token.size());
    const std::size_t teacher = owner[static_cast<std::size_t>(b)];
    if (count == 0) continue;
    if (!runs.empty() && runs.back().teacher == teacher) runs.back().rows.count += count;
    else runs.push_back({{begin, count}, teacher, taken[teacher]});
    taken[teacher] += count;
    begin += count;
  }
  return runs;
}

template <class Teacher>
void TeacherByRow<Teacher>::prepare(const TokenBatch& batch) {
  rows_ = 0, alone_ = teachers_.size();
  runs_.clear();
  const std::vector<Part> parts = parts_of(batch);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].documents.empty()) continue;
    if (!parts[i].is_whole(batch)) {
      rows_ += prepare_part(i, parts[i].batch);
      continue;
    }
    rows_ = prepare_part(i, batch);  // the batch as it is: the bits that this teacher gives without the others
    alone_ = i;
    return;
  }
  runs_ = runs_of(batch, parts);
  if (runs_.empty()) alone_ = 0;  // no document has a row
  else gather();
}

template <class Teacher>
void TeacherByRow<Teacher>::gather() {
  if constexpr (mixes) {
    const Run& first = runs_.front();
    mixed_.begin(rows_, teachers_[first.teacher].second.targets(first.from, first.rows.count));
    for (const Run& run : runs_)
      mixed_.take(teachers_[run.teacher].second.targets(run.from, run.rows.count), run.rows.begin);
  }
}

template <class Teacher>
std::vector<RowRun> TeacherByRow<Teacher>::row_runs() const {
  std::vector<RowRun> out;
  if (!mixes)
    for (const Run& run : runs_) out.push_back(run.rows);
  return out;
}

template <class Teacher>
auto TeacherByRow<Teacher>::targets(std::int64_t begin, std::int64_t count) const -> targets_type {
  require<ShapeError>(begin >= 0 && count >= 0 && begin + count <= rows_, "[TeacherByRow] rows ", begin, " to ",
                      begin + count, " of ", rows_, ": prepare(batch) comes first, targets stay within its rows");
  if (alone_ < teachers_.size()) return teachers_[alone_].second.targets(begin, count);
  if constexpr (mixes) {
    return mixed_.targets().rows(begin, count);
  } else {
    for (const Run& run : runs_)
      if (begin >= run.rows.begin && begin + count <= run.rows.begin + run.rows.count)
        return teachers_[run.teacher].second.targets(run.from + begin - run.rows.begin, count);
    fail<InputError>("[TeacherByRow] rows ", begin, " to ", begin + count,
                     " belong to several teachers, and each has a head of its own: ask for the runs of row_runs()");
  }
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
