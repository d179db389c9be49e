// SPDX-License-Identifier: Apache-2.0
// What answers the calls of tools in text that a model writes.
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

/// The environment of a rollout: text in, text out. One object is called by one thread at a time. The same calls in the
/// same order must give the same answers, or a run cannot be repeated.
class ToolHost {
 public:
  using Deadline = std::chrono::steady_clock::time_point;
  virtual ~ToolHost() = default;

  /// What a template is told of the tools: one JSON text each, {"type": "function", "function": {"name", "description",
  /// "parameters": JSON schema}}.
  virtual std::vector<std::string> tools() const = 0;
  /// True where it answers calls of that name.
  virtual bool knows(std::string_view name) const = 0;
  /// The answer, UTF-8. A kdlib::Error that is thrown becomes the answer "error: <its words>". What may take long looks
  /// at `deadline` and throws behind it; an answer that comes later is replaced by a sentence that says so.
  virtual std::string answer(const ToolCall& call, Deadline deadline) = 0;
  /// Equal for hosts that answer alike: written text belongs to it.
  virtual std::string fingerprint() const = 0;
};

/// One tool, "calculator": {"expression": "2 * (3 + 4) ^ 2"} gives "98". Numbers, + - * / % and ^ (or **, from the
/// right), brackets, pi, e, and abs ceil cos exp floor ln log2 log10 max min round sin sqrt tan, in double precision;
/// at most 1000 bytes and 100 levels.
class Calculator final : public ToolHost {
 public:
  std::vector<std::string> tools() const override;
  bool knows(std::string_view name) const override { return name == "calculator"; }
  std::string answer(const ToolCall& call, Deadline deadline) override;
  std::string fingerprint() const override { return "calculator 1"; }
};

/// The value of an expression as Calculator writes it. InputError: what is wrong, and at which byte.
std::string calculate(std::string_view expression);

/// Answers from a file of JSON lines:
///   {"tool": {"type": "function", "function": {"name": "weather", ...}}}           what the template is told
///   {"name": "weather", "arguments": {"city": "Paris"}, "answer": "18 degrees"}    for these arguments, in any order
///   {"name": "weather", "answer": "unknown city"}                                  for all others
class CannedAnswers final : public ToolHost {
 public:
  /// IoError, or FormatError naming file, line and key: a line of another form, the same call twice.
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

/// Several hosts as one; each call goes to the first that knows its name.
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

/// What a program's --tools says: "calculator", or files of canned answers. ConfigError: a word that is neither, or two
/// tools of one name.
std::shared_ptr<ToolHost> make_tool_host(const std::vector<std::string>& words);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/rollout/tool_host_inl.hpp"
#endif

#endif
