// SPDX-License-Identifier: Apache-2.0
// Bodies of teacher_written.hpp that do not depend on a teacher: settings, and the files of its blocks.
#ifndef KDLIB_ROLLOUT_TEACHER_TEXT_INL_HPP
#define KDLIB_ROLLOUT_TEACHER_TEXT_INL_HPP

#include <optional>

#include "kdlib/core/error.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/jsonl.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/rollout/teacher_written.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC void check_teacher_written(const TeacherWrittenSettings& settings) {
  require<ConfigError>(settings.prompts >= 1 && settings.ahead >= 1, "[TeacherWritten] prompts is ", settings.prompts,
                       ", ahead is ", settings.ahead, "; both must be 1 or more");
  require<ConfigError>(settings.epochs >= 0, "[TeacherWritten] epochs is ", settings.epochs,
                       "; it must be 0 (without end) or more");
}

KDLIB_FUNC SourceDescription describe_teacher_written(const Prompts& prompts, const TeacherWrittenSettings& settings,
                                                      const Sampler& sampler, const std::string& reply_fingerprint) {
  SourceDescription list = {{"source", "teacher_written"}, {"source.text", prompts.fingerprint().text()}};
  append_fields(list, "source", settings);
  append_fields(list, "sampler", sampler);
  if (!reply_fingerprint.empty()) list.emplace_back("source.replies", reply_fingerprint);
  return list;
}

KDLIB_FUNC void check_given_text_loss(const Sampler& sampler, SampledTextUse use) {
  require<ConfigError>(
      !use.reads_sampled_tokens || use.corrects_by_ratio,
      "[TeacherWritten] the loss reads each token as one that the student drew, but the teacher wrote "
      "the text. Correct by the ratio to the recorded probabilities (PolicyGradient's importance_ratio), "
      "let the student write (OnPolicy), or use a loss over the whole vocabulary");
  use.accepts_truncated_text = true;
  check_sampling_matches_loss(sampler, use);
}

KDLIB_FUNC std::vector<WritingRequest> requests_of(const Prompts& prompts, const std::vector<std::int64_t>& items) {
  std::vector<WritingRequest> requests;
  for (const std::int64_t item : items)
    requests.push_back({prompts[item], static_cast<std::uint32_t>(item), 0, prompts.source(item)});
  return requests;
}

KDLIB_FUNC void read_text_block(const std::string& path, const std::string& key, const std::vector<std::int64_t>& items,
                                std::int64_t vocabulary, std::vector<Completion>& texts) {
  JsonlReader lines(path);
  const auto header = lines.next();
  require<FormatError>(header.has_value(), "[teacher text] ", path,
                       " is empty: remove it, and the teacher writes it again");
  require<ConfigError>(
      header->string_or("key", "") == key, "[teacher text] ", path,
      " was written with other prompts, sampler settings, seeds or another teacher: remove it, or use another folder");
  for (const std::int64_t item : items) {
    const auto line = lines.next();
    require<FormatError>(line.has_value(), "[teacher text] ", path, " ends after ", lines.line_number(),
                         " lines: remove it, and the teacher writes it again");
    std::optional<Completion> answer;
    if (line->at("prompt").as_int() == item) answer = read_completion(*line, vocabulary);
    if (!answer) line->refuse("is not the block's next text: remove the file, and the teacher writes it again");
    texts[static_cast<std::size_t>(item)] = std::move(*answer);
  }
}

KDLIB_FUNC void write_text_block(const std::string& folder, const std::string& path, const std::string& key,
                                 const std::vector<std::int64_t>& items, const std::vector<Completion>& texts) {
  make_directories(folder);
  remove_stale_temporaries(folder);  // of a run that was killed while it wrote
  AtomicFile file(path);
  JsonWriter header;
  header.begin_object().member("key", key).end_object();
  file.write(header.text() + "\n");
  for (std::size_t i = 0; i < items.size(); ++i) {
    JsonWriter line;
    line.begin_object().member("prompt", items[i]);
    write_completion(line, texts[i]);
    line.end_object();
    file.write(line.text() + "\n");
  }
  file.commit();
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
