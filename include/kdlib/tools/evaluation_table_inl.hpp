// SPDX-License-Identifier: Apache-2.0
// Bodies of evaluation_table.hpp.
#ifndef KDLIB_TOOLS_EVALUATION_TABLE_INL_HPP
#define KDLIB_TOOLS_EVALUATION_TABLE_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/recipe/number_text.hpp"
#include "kdlib/tools/evaluation_table.hpp"
#include "kdlib/tools/report.hpp"
#include "kdlib/tools/report_html.hpp"
#include "kdlib/tools/task_text.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Text in columns: the first to the left, the others to the right, two spaces between.
KDLIB_TOOLS_FUNC std::string aligned_table(const std::vector<std::vector<std::string>>& lines) {
  std::vector<std::int64_t> widths;
  for (const auto& line : lines)
    for (std::size_t i = 0; i < line.size(); ++i) {
      if (widths.size() <= i) widths.push_back(0);
      widths[i] = std::max(widths[i], count_characters(line[i]));
    }
  std::string out;
  for (const auto& line : lines) {
    std::string text;
    for (std::size_t i = 0; i < line.size(); ++i) {
      const std::string pad(static_cast<std::size_t>(widths[i] - count_characters(line[i])), ' ');
      text += i == 0 ? line[i] + pad : "  " + pad + line[i];
    }
    out += text.substr(0, text.find_last_not_of(' ') + 1) + "\n";
  }
  return out;
}

KDLIB_TOOLS_FUNC std::string task_cell(const TaskNumber& n) {
  if (!std::isfinite(n.value)) return "-";
  const std::string text = number_text(n.format, n.value);
  return std::isfinite(n.error) ? text + " \xC2\xB1 " + number_text(n.format, n.error) : text;
}

}  // namespace detail

KDLIB_TOOLS_FUNC std::string doubled_value(std::vector<std::string> list) {
  std::sort(list.begin(), list.end());
  const auto at = std::adjacent_find(list.begin(), list.end());
  return at == list.end() ? std::string() : *at;
}

KDLIB_TOOLS_FUNC std::vector<std::string> column_names(const std::vector<std::string>& models,
                                                       const std::vector<std::string>& adapters,
                                                       const std::vector<std::string>& given) {
  const std::size_t count = std::max(models.size(), adapters.size());
  const auto check = [&](const std::vector<std::string>& names, const char* what) {
    const std::string twice = doubled_value(names);
    require<UsageError>(twice.empty(), what, " ", twice, " twice; each column of the table needs a name of its own");
    return names;
  };
  if (!given.empty()) {
    require<UsageError>(given.size() == count, "--names: ", given.size(), " for ", count,
                        " columns (one for each model, or for each adapter of one model)");
    for (const std::string& name : given)
      require<UsageError>(!name.empty(), "--names has an empty name; each column of the table needs one");
    return check(given, "--names has");
  }
  const auto names = [&](bool whole) {
    std::vector<std::string> out;
    for (std::size_t i = 0; i < count; ++i) {
      const std::string& model = models[models.size() == 1 ? 0 : i];
      out.push_back(whole ? model : file_name(model));
      if (!adapters.empty() && adapters[i] != "none")
        out.back() += "+" + (whole ? adapters[i] : file_name(adapters[i]));
    }
    return out;
  };
  const std::vector<std::string> last = names(false);
  return doubled_value(last).empty() ? last : check(names(true), "--models has");
}

KDLIB_TOOLS_FUNC std::string evaluation_table(const std::vector<ModelResult>& models) {
  std::vector<std::vector<std::string>> lines{{""}};
  for (const ModelResult& m : models) lines[0].push_back(m.name);
  if (models.empty()) return "";
  for (std::size_t t = 0; t < models[0].tasks.size(); ++t)
    for (std::size_t n = 0; n < models[0].tasks[t].numbers.size(); ++n) {
      std::vector<std::string> line{models[0].tasks[t].task + " " + models[0].tasks[t].numbers[n].name};
      for (const ModelResult& m : models) line.push_back(detail::task_cell(m.tasks[t].numbers[n]));
      lines.push_back(std::move(line));
    }
  return detail::aligned_table(lines);
}

KDLIB_TOOLS_FUNC std::string evaluation_json(const std::vector<ModelResult>& models,
                                             const std::vector<std::pair<std::string, std::string>>& settings) {
  JsonWriter json(JsonStyle{2, NonFinite::null});
  json.begin_object().key("models").begin_array();
  for (const ModelResult& m : models) {
    json.begin_object()
        .member("name", m.name)
        .member("model", m.model)
        .member("adapter", m.adapter)
        .member("seconds", m.seconds)
        .key("tasks")
        .begin_object();
    for (const TaskResult& task : m.tasks) {
      json.key(task.task).begin_object();
      for (const TaskNumber& n : task.numbers) {
        json.member(n.name, n.value);
        if (std::isfinite(n.value) && std::isfinite(n.error)) json.member(n.name + "_stderr", n.error);
      }
      for (const auto& count : task.counts) json.member(count.first, count.second);
      json.end_object();
    }
    json.end_object().end_object();
  }
  json.end_array().key("settings").begin_object();
  for (const auto& entry : settings) json.member(entry.first, entry.second);
  return json.end_object().end_object().text();
}

KDLIB_NAMESPACE_END

#endif
