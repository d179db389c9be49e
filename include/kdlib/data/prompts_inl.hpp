// SPDX-License-Identifier: Apache-2.0
// Bodies of prompts.hpp.
#ifndef KDLIB_DATA_PROMPTS_INL_HPP
#define KDLIB_DATA_PROMPTS_INL_HPP

#include <utility>

#include "kdlib/data/prompts.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC Prompts::Prompts(const std::string& path, const Tokenizer& tokenizer, const TextSettings& settings)
    : stop_ids_(tokenizer.stop_ids()) {
  take(read_text_lines(path, &tokenizer, settings));
}

KDLIB_FUNC Prompts::Prompts(const std::string& path, std::vector<std::int32_t> stop_ids, const TextSettings& settings)
    : stop_ids_(std::move(stop_ids)) {
  take(read_text_lines(path, nullptr, settings));
}

KDLIB_FUNC Prompts::Prompts(std::vector<TextLine> lines, std::vector<std::int32_t> stop_ids)
    : stop_ids_(std::move(stop_ids)) {
  require<InputError>(!lines.empty(), "[Prompts] there are no prompts: give at least one");
  take(std::move(lines));
}

KDLIB_FUNC Prompts::Prompts(std::vector<std::vector<std::int32_t>> ids, std::vector<std::int32_t> stop_ids)
    : stop_ids_(std::move(stop_ids)) {
  std::vector<TextLine> lines;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    require<InputError>(!ids[i].empty(), "[Prompts] prompt ", i, " is empty: give it at least one token");
    lines.push_back({TextLineKind::prompt, std::move(ids[i]), {}, concat("prompt ", i)});
  }
  require<InputError>(!lines.empty(), "[Prompts] there are no prompts: give at least one");
  take(std::move(lines));
}

KDLIB_FUNC Prompts Prompts::first(std::int64_t count) const {
  require<ConfigError>(count >= 1, "[Prompts] the first ", count, " prompts; at least one is needed");
  Prompts out;
  out.stop_ids_ = stop_ids_;
  out.take({lines_.begin(), lines_.begin() + std::min(count, size())});
  return out;
}

KDLIB_FUNC Prompts Prompts::repeated(std::int64_t times) const {
  require<ConfigError>(times >= 1, "[Prompts] each prompt ", times, " times; at least once is needed");
  Prompts out;
  out.stop_ids_ = stop_ids_;
  std::vector<TextLine> lines;
  for (const TextLine& line : lines_) lines.insert(lines.end(), static_cast<std::size_t>(times), line);
  out.take(std::move(lines));
  return out;
}

KDLIB_FUNC void Prompts::take(std::vector<TextLine> lines) {
  lines_ = std::move(lines);
  for (const TextLine& line : lines_) {
    require<InputError>(
        line.kind == TextLineKind::prompt, "[Prompts] ", line.source,
        " has its answer already: give such lines as data (given text), or remove the assistant's last turn");
    fingerprint_.add(std::span<const std::int32_t>(line.ids));
  }
  fingerprint_.add(std::span<const std::int32_t>(stop_ids_));
}

KDLIB_NAMESPACE_END

#endif
