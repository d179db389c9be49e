// SPDX-License-Identifier: Apache-2.0
// Prompts that a student or teacher writes answers to: read from a file, rendered by the model's chat template.
#ifndef KDLIB_DATA_PROMPTS_HPP
#define KDLIB_DATA_PROMPTS_HPP

#include "kdlib/data/order.hpp"
#include "kdlib/data/text_lines.hpp"

KDLIB_NAMESPACE_BEGIN

/// A list of prompts in ids with the ids that end an answer. Copies are independent of the tokenizer.
class Prompts {
 public:
  /// Reads lines {"prompt": ...}, {"messages": [...]} and {"prompt_ids": [...]} (see text_lines.hpp). Conversations get
  /// no system turn unless the settings ask for it. Errors as TextLineReader, and InputError for a line that has an
  /// answer already.
  Prompts(const std::string& path, const Tokenizer& tokenizer, const TextSettings& settings = {});
  /// A file of {"prompt_ids": [...]} for a model without a tokenizer.
  Prompts(const std::string& path, std::vector<std::int32_t> stop_ids, const TextSettings& settings = {});
  /// Lines that were read before; InputError for one that has an answer already, or where there is none.
  Prompts(std::vector<TextLine> lines, std::vector<std::int32_t> stop_ids);
  /// Prompts that are ids already; none may be empty.
  Prompts(std::vector<std::vector<std::int32_t>> ids, std::vector<std::int32_t> stop_ids);

  /// The first `count` of them (all where there are fewer), then each of those `times` times in a row, so that a source
  /// writes several answers to it. ConfigError unless both are positive.
  Prompts first(std::int64_t count) const;
  Prompts repeated(std::int64_t times) const;

  std::int64_t size() const { return static_cast<std::int64_t>(lines_.size()); }
  std::span<const std::int32_t> operator[](std::int64_t i) const { return lines_[static_cast<std::size_t>(i)].ids; }
  const std::string& source(std::int64_t i) const { return lines_[static_cast<std::size_t>(i)].source; }
  /// The conversation of a prompt; nullptr: it is none, or TextSettings::keep_chats was off.
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
