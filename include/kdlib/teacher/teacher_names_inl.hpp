// SPDX-License-Identifier: Apache-2.0
// Which teacher marks a document (by_row.hpp).
#ifndef KDLIB_TEACHER_TEACHER_NAMES_INL_HPP
#define KDLIB_TEACHER_TEACHER_NAMES_INL_HPP

#include <algorithm>
#include <utility>

#include "kdlib/core/error.hpp"
#include "kdlib/io/content_hash.hpp"
#include "kdlib/io/jsonl.hpp"
#include "kdlib/teacher/by_row.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC auto TeacherNames::find(const std::string& source) const -> std::vector<Entry>::const_iterator {
  const auto at = std::lower_bound(of_.begin(), of_.end(), source,
                                   [](const Entry& entry, const std::string& text) { return entry.first < text; });
  return at != of_.end() && at->first == source ? at : of_.end();
}

KDLIB_FUNC void TeacherNames::set(std::string source, std::string teacher) {
  const auto found = find(source);
  if (found != of_.end()) {
    of_[static_cast<std::size_t>(found - of_.begin())].second = std::move(teacher);
    return;
  }
  const Entry entry(std::move(source), std::move(teacher));
  of_.insert(std::upper_bound(of_.begin(), of_.end(), entry), entry);
}

KDLIB_FUNC void TeacherNames::read(const std::string& path) {
  JsonlReader reader(path);
  std::vector<Entry> all;
  while (const std::optional<Json> line = reader.next()) {
    const std::optional<Json> name = line->find("teacher");
    require<InputError>(name || !otherwise_.empty(), "[TeacherByRow] ", reader.place(),
                        " has no \"teacher\", and no teacher is named for such lines");
    all.emplace_back(reader.place(), name ? std::string(name->as_string()) : otherwise_);
  }
  // What is read now comes before what was known of the same line.
  all.insert(all.end(), of_.begin(), of_.end());
  std::stable_sort(all.begin(), all.end(), [](const Entry& a, const Entry& b) { return a.first < b.first; });
  all.erase(std::unique(all.begin(), all.end(), [](const Entry& a, const Entry& b) { return a.first == b.first; }),
            all.end());
  of_ = std::move(all);
}

KDLIB_FUNC std::int64_t TeacherNames::count(const std::string& teacher) const {
  return std::count_if(of_.begin(), of_.end(), [&](const Entry& entry) { return entry.second == teacher; });
}

KDLIB_FUNC void TeacherNames::require_among(const std::vector<std::string>& teachers) const {
  std::string known;
  for (const std::string& name : teachers) known += (known.empty() ? "" : ", ") + name;
  for (const auto& [source, teacher] : of_)
    require<InputError>(std::find(teachers.begin(), teachers.end(), teacher) != teachers.end(), "[TeacherByRow] ",
                        source, " asks for the teacher ", teacher, ", which is none of ", known);
}

KDLIB_FUNC const std::string& TeacherNames::of(const TokenBatch& batch, std::int64_t document) const {
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

KDLIB_FUNC std::string TeacherNames::digest() const {
  Sha256 hash;
  const auto add = [&](const std::string& text) { hash.add(concat(text.size(), ":", text)); };
  add(otherwise_);
  for (const auto& [source, teacher] : of_) add(source), add(teacher);
  return hash.digest();
}

KDLIB_NAMESPACE_END

#endif
