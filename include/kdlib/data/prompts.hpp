// SPDX-License-Identifier: Apache-2.0
// Prompts to which a student or a teacher writes answers. They are read from a file and rendered by the model's chat
// template.
#ifndef KDLIB_DATA_PROMPTS_HPP
#define KDLIB_DATA_PROMPTS_HPP

#include "kdlib/data/order.hpp"
#include "kdlib/data/text_lines.hpp"

KDLIB_NAMESPACE_BEGIN

/// A list of prompts as token ids, with the ids that end an answer. The list does not need the tokenizer any more once
/// it is made.
class Prompts {
 public:
  /// Reads lines {"prompt": ...}, {"messages": [...]} and {"prompt_ids": [...]} (see text_lines.hpp). Conversations get
  /// no system turn unless the settings ask for one. Errors are those of TextLineReader. InputError: a line has an
  /// answer already.
  Prompts(const std::string& path, const Tokenizer& tokenizer, const TextSettings& settings = {});
  /// Reads a file of lines {"prompt_ids": [...]}, for a model without a tokenizer.
  Prompts(const std::string& path, std::vector<std::int32_t> stop_ids, const TextSettings& settings = {});
  /// Takes lines that were read before. InputError: there are no lines, or a line has an answer already.
  Prompts(std::vector<TextLine> lines, std::vector<std::int32_t> stop_ids);
  /// Takes prompts that are token ids already. InputError: there are no prompts, or one is empty.
  Prompts(std::vector<std::vector<std::int32_t>> ids, std::vector<std::int32_t> stop_ids);

  /// first() returns the first `count` prompts, or all if there are fewer. repeated() returns each prompt `times` times
  /// in a row, so that a source writes several answers to each. ConfigError: the number is below 1.
  Prompts first(std::int64_t count) const;
  Prompts repeated(std::int64_t times) const;

  std::int64_t size() const { return static_cast<std::int64_t>(lines_.size()); }
  std::span<const std::int32_t> operator[](std::int64_t i) const { return lines_[static_cast<std::size_t>(i)].ids; }
  const std::string& source(std::int64_t i) const { return lines_[static_cast<std::size_t>(i)].source; }
  /// Returns the conversation from which a prompt was rendered; nullptr: the prompt is no conversation, or
  /// TextSettings::keep_chats was off.
  const std::shared_ptr<const PromptChat>& chat(std::int64_t i) const {
    return lines_[static_cast<std::size_t>(i)].chat;
  }
  const std::vector<std::int32_t>& stop_ids() const { return stop_ids_; }
  const Fingerprint& fingerprint() const { return fingerprint_; }

 private:
  Prompts() = default;
  void take(std::vector<TextLine> lines);

  std::vector<TextLine> lines_;
  std::vector<std::int32_t> stop_ids_;
  Fingerprint fingerprint_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/prompts_inl.hpp"
#endif

#endif
