// SPDX-License-Identifier: Apache-2.0
// The files that a run leaves, in a form in which two equal runs are equal: times are taken out.
#ifndef KDLIB_TESTS_SUPPORT_RUN_FILES_HPP
#define KDLIB_TESTS_SUPPORT_RUN_FILES_HPP

#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/jsonl.hpp"
#include "kdlib/io/paths.hpp"

namespace kdlib_tests {

/// The values of one key in a run's metrics.jsonl, in order.
inline std::vector<double> metric_of_run(const std::string& folder, const char* key) {
  std::vector<double> values;
  kdlib::JsonlReader reader(folder + "/metrics.jsonl");
  while (const auto line = reader.next())
    if (const auto value = line->find(key)) values.push_back(value->as_double());
  return values;
}

/// A number as text that differs when a bit does.
inline std::string exact(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%.17g", value);
  return text;
}

/// One line of metrics without the values that may differ.
inline std::string timeless(std::string_view line, const std::string& place) {
  std::string out;
  const kdlib::Json json = kdlib::Json::parse(std::string(line), place);
  for (const auto& member : json.members()) {
    const std::string_view key = member.key;
    const auto ends = [&](std::string_view end) {
      return key.size() >= end.size() && key.substr(key.size() - end.size()) == end;
    };
    if (key == "time" || key.starts_with("dp/") || key.starts_with("device/") || ends("_seconds") || ends("_per_s"))
      continue;
    out += std::string(key) + "=" + exact(member.value.as_double()) + " ";
  }
  return out + "\n";
}

/// Every file below a folder with its bytes; times are taken out.
inline void collect(const std::string& folder, const std::string& prefix, std::map<std::string, std::string>& files) {
  for (const std::string& name : kdlib::list_directory(folder)) {
    const std::string path = folder + "/" + name;
    if (kdlib::is_directory(path)) {
      collect(path, prefix + name + "/", files);
    } else if (name == "elapsed.json") {
      files[prefix + name] = "a time";
    } else if (name == "metrics.jsonl") {
      kdlib::LineReader lines(path);
      while (const auto line = lines.next()) files[prefix + name] += timeless(*line, lines.place());
    } else {
      files[prefix + name] = kdlib::read_file(path);
    }
  }
}
/// Every file of a run's folder with its bytes, but for what two equal runs may differ in.
inline std::map<std::string, std::string> run_files(const std::string& folder) {
  std::map<std::string, std::string> files;
  collect(folder, "", files);
  return files;
}

/// Names of the files that differ: a short message where a whole map would be unreadable.
inline std::string differences(const std::map<std::string, std::string>& a,
                               const std::map<std::string, std::string>& b) {
  std::string out;
  for (const auto& [name, text] : a)
    if (b.count(name) == 0 || b.at(name) != text) out += name + " ";
  for (const auto& entry : b)
    if (a.count(entry.first) == 0) out += entry.first + " ";
  return out;
}

}  // namespace kdlib_tests

#endif
