// SPDX-License-Identifier: Apache-2.0
// Hosts that answer the calls of tools in the text that a model writes.
#ifndef KDLIB_ROLLOUT_TOOL_HOST_HPP
#define KDLIB_ROLLOUT_TOOL_HOST_HPP

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/text/chat_message.hpp"

KDLIB_NAMESPACE_BEGIN

/// The environment of a rollout: it takes text and gives text. Only one thread at a time calls an object. The same
/// calls in the same order must give the same answers; otherwise a run cannot be repeated.
class ToolHost {
 public:
  using Deadline = std::chrono::steady_clock::time_point;
  virtual ~ToolHost() = default;

  /// Returns what a chat template is told about the tools: for each tool one JSON text {"type": "function", "function":
  /// {"name", "description", "parameters": JSON schema}}.
  virtual std::vector<std::string> tools() const = 0;
  /// True if this host answers calls of that name.
  virtual bool knows(std::string_view name) const = 0;
  /// Returns the answer in UTF-8. If it throws a kdlib::Error, the answer is "error: <text of the error>". Work that
  /// may take long should look at `deadline` and throw after it. An answer that comes later is replaced by a sentence
  /// that says so.
  virtual std::string answer(const ToolCall& call, Deadline deadline) = 0;
  /// Returns a text that is equal for hosts with equal answers. Written text is only used with the host that it was
  /// written with.
  virtual std::string fingerprint() const = 0;
};

/// A host with one tool, "calculator": {"expression": "2 * (3 + 4) ^ 2"} gives "98". Expressions have numbers, + - * /
/// % and ^ (or **; both bind from the right), brackets, pi, e, and abs ceil cos exp floor ln log2 log10 max min round
/// sin sqrt tan, in double precision, with at most 1000 bytes and 100 levels.
class Calculator final : public ToolHost {
 public:
  std::vector<std::string> tools() const override;
  bool knows(std::string_view name) const override { return name == "calculator"; }
  std::string answer(const ToolCall& call, Deadline deadline) override;
  std::string fingerprint() const override { return "calculator 1"; }
};

/// Returns the value of an expression as Calculator writes it. Throws InputError, which says what is wrong and at which
/// byte.
std::string calculate(std::string_view expression);

/// Answers from a file of JSON lines:
///   {"tool": {"type": "function", "function": {"name": "weather", ...}}}           describes a tool to the template
///   {"name": "weather", "arguments": {"city": "Paris"}, "answer": "18 degrees"}    for these arguments, in any order
///   {"name": "weather", "answer": "unknown city"}                                  for all other arguments
class CannedAnswers final : public ToolHost {
 public:
  /// Throws IoError if the file cannot be read. Throws FormatError, which names the file, for a line of another form,
  /// the same call twice, or no answers at all.
  explicit CannedAnswers(const std::string& path);
  std::vector<std::string> tools() const override { return tools_; }
  bool knows(std::string_view name) const override;
  std::string answer(const ToolCall& call, Deadline deadline) override;
  std::string fingerprint() const override { return fingerprint_; }

 private:
  std::string path_, fingerprint_;
  std::vector<std::string> tools_, names_;
  std::vector<std::pair<std::string, std::string>> answers_;  // key, answer; sorted by key
};

/// Several hosts as one. Each call goes to the first host that knows its name.
class ToolHosts final : public ToolHost {
 public:
  explicit ToolHosts(std::vector<std::shared_ptr<ToolHost>> hosts) : hosts_(std::move(hosts)) {}
  std::vector<std::string> tools() const override;
  bool knows(std::string_view name) const override;
  std::string answer(const ToolCall& call, Deadline deadline) override;
  std::string fingerprint() const override;

 private:
  std::vector<std::shared_ptr<ToolHost>> hosts_;
};

/// Makes the host that the words of a program's --tools name: "calculator", or files of canned answers. Throws
/// ConfigError for a word that is neither, and for two tools of one name.
std::shared_ptr<ToolHost> make_tool_host(const std::vector<std::string>& words);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/rollout/tool_host_inl.hpp"
#endif

#endif
