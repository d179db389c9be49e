// SPDX-License-Identifier: Apache-2.0
// Bodies of tool_host.hpp.
#ifndef KDLIB_ROLLOUT_TOOL_HOST_INL_HPP
#define KDLIB_ROLLOUT_TOOL_HOST_INL_HPP

#include <algorithm>

#include "kdlib/core/error.hpp"
#include "kdlib/core/fingerprint.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/jsonl.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/rollout/calculator_inl.hpp"
#include "kdlib/rollout/tool_host.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A value as JSON in which the members of objects are sorted.
KDLIB_FUNC std::string sorted_json(const Json& value) {
  if (!value.is_object() && !value.is_array()) return python_json(value);
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < value.size(); ++i) {
    std::string part = sorted_json(value[i]);
    if (value.is_object()) {
      std::string key;
      append_python_string(value.key(i), key);
      part = key + ": " + part;
    }
    parts.push_back(std::move(part));
  }
  if (value.is_object()) std::sort(parts.begin(), parts.end());
  std::string out(1, value.is_object() ? '{' : '[');
  for (std::size_t i = 0; i < parts.size(); ++i) out.append(i > 0 ? ", " : "").append(parts[i]);
  return out += value.is_object() ? '}' : ']';
}

/// Name and arguments; without arguments the answer for all of them.
KDLIB_FUNC std::string canned_key(std::string_view name, const std::optional<Json>& arguments) {
  return concat(name, "\n", arguments ? sorted_json(*arguments) : std::string());
}

KDLIB_FUNC std::string tool_name(const Json& tool) {
  return std::string(tool.find_set("function").value_or(tool).at("name").as_string());
}

}  // namespace detail

KDLIB_FUNC CannedAnswers::CannedAnswers(const std::string& path) : path_(path) {
  JsonlReader lines(path);
  Fingerprint print;
  while (const auto line = lines.next()) {
    print.add(std::string_view(python_json(*line)));
    if (const auto tool = line->find("tool")) {
      names_.push_back(detail::tool_name(*tool));
      tools_.push_back(python_json(*tool));
      continue;
    }
    for (const JsonMember& member : line->members())
      if (member.key != "name" && member.key != "arguments" && member.key != "answer")
        member.value.refuse("is an unknown key; a line has name, arguments and answer, or tool");
    const auto arguments = line->find_set("arguments");
    if (arguments && !arguments->is_object()) arguments->refuse("is no object; give the arguments by name");
    const std::string_view name = line->at("name").as_string();
    names_.emplace_back(name);
    answers_.emplace_back(detail::canned_key(name, arguments), line->at("answer").as_string());
  }
  require<FormatError>(!answers_.empty(), "[tools] ", path,
                       " has no answers: write lines {\"name\": ..., "
                       "\"arguments\": {...}, \"answer\": \"...\"}");
  std::sort(answers_.begin(), answers_.end());
  for (std::size_t i = 1; i < answers_.size(); ++i)
    require<FormatError>(answers_[i].first != answers_[i - 1].first, "[tools] ", path,
                         " answers the same call twice: ", printable(answers_[i].first));
  fingerprint_ = concat("canned ", print.text());
}

KDLIB_FUNC bool CannedAnswers::knows(std::string_view name) const {
  return std::find(names_.begin(), names_.end(), name) != names_.end();
}

KDLIB_FUNC std::string CannedAnswers::answer(const ToolCall& call, Deadline) {
  const Json arguments = Json::parse(call.arguments, call.name);
  for (const std::string& key : {detail::canned_key(call.name, arguments), detail::canned_key(call.name, {})}) {
    const auto at = std::lower_bound(answers_.begin(), answers_.end(), key,
                                     [](const auto& entry, const std::string& k) { return entry.first < k; });
    if (at != answers_.end() && at->first == key) return at->second;
  }
  fail<InputError>("there is no answer for ", call.name, " with ", python_json(arguments));
}

KDLIB_FUNC std::vector<std::string> ToolHosts::tools() const {
  std::vector<std::string> out;
  for (const auto& host : hosts_)
    for (std::string& tool : host->tools()) out.push_back(std::move(tool));
  return out;
}

KDLIB_FUNC bool ToolHosts::knows(std::string_view name) const {
  return std::any_of(hosts_.begin(), hosts_.end(), [&](const auto& host) { return host->knows(name); });
}

KDLIB_FUNC std::string ToolHosts::answer(const ToolCall& call, Deadline deadline) {
  for (const auto& host : hosts_)
    if (host->knows(call.name)) return host->answer(call, deadline);
  fail<InputError>("there is no tool \"", printable(call.name), "\"");
}

KDLIB_FUNC std::string ToolHosts::fingerprint() const {
  std::string out;
  for (const auto& host : hosts_) out += concat(out.empty() ? "" : ", ", host->fingerprint());
  return out;
}

KDLIB_FUNC std::shared_ptr<ToolHost> make_tool_host(const std::vector<std::string>& words) {
  std::vector<std::shared_ptr<ToolHost>> hosts;
  std::vector<std::string> names;
  for (const std::string& word : words) {
    if (word == "calculator") {
      hosts.push_back(std::make_shared<Calculator>());
    } else {
      require<ConfigError>(path_exists(word) && !is_directory(word), "[tools] \"", printable(word),
                           "\" is no tool: calculator is built in, and a file has canned answers");
      hosts.push_back(std::make_shared<CannedAnswers>(word));
    }
    for (const std::string& tool : hosts.back()->tools()) {
      names.push_back(detail::tool_name(Json::parse(tool, word)));
      require<ConfigError>(std::count(names.begin(), names.end(), names.back()) == 1, "[tools] ", printable(word),
                           " has a tool \"", printable(names.back()), "\", which another one has already");
    }
  }
  return std::make_shared<ToolHosts>(std::move(hosts));
}

KDLIB_NAMESPACE_END

#endif
