// SPDX-License-Identifier: Apache-2.0
// Bodies of teacher_written.hpp. The files of its blocks are in teacher_text_inl.hpp.
#ifndef KDLIB_ROLLOUT_TEACHER_WRITTEN_INL_HPP
#define KDLIB_ROLLOUT_TEACHER_WRITTEN_INL_HPP

#include <algorithm>
#include <utility>

#include "kdlib/core/clock.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/io/tensor_info.hpp"
#include "kdlib/rollout/teacher_written.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// ConfigError: a number out of its range.
void check_teacher_written(const TeacherWrittenSettings& settings);
SourceDescription describe_teacher_written(const Prompts& prompts, const TeacherWrittenSettings& settings,
                                           const Sampler& sampler, const std::string& reply_fingerprint);
/// TeacherWritten::check_loss.
void check_given_text_loss(const Sampler& sampler, SampledTextUse use);
std::vector<WritingRequest> requests_of(const Prompts& prompts, const std::vector<std::int64_t>& items);
/// A block's file: one line with its key, then one line for each prompt. `texts` has the answers of all prompts.
void read_text_block(const std::string& path, const std::string& key, const std::vector<std::int64_t>& items,
                     std::int64_t vocabulary, std::vector<Completion>& texts);
/// The same with the answers of the block alone.
void write_text_block(const std::string& folder, const std::string& path, const std::string& key,
                      const std::vector<std::int64_t>& items, const std::vector<Completion>& texts);
}  // namespace detail

template <class Teacher>
TeacherWritten<Teacher>::TeacherWritten(Teacher& teacher, Prompts prompts, Sampler sampler,
                                        TeacherWrittenSettings settings)
    : teacher_(teacher),
      prompts_(std::move(prompts)),
      sampler_(std::move(sampler)),
      settings_(std::move(settings)),
      order_(prompts_.size(), settings_.seed),
      first_epoch_(prompts_.size(), settings_.seed),
      fingerprint_(prompts_.fingerprint()),
      texts_(static_cast<std::size_t>(prompts_.size())) {
  sampler_.check();
  detail::check_teacher_written(settings_);
  if (sampler_.stop_ids.empty()) sampler_.stop_ids = prompts_.stop_ids();
  const std::int64_t context = detail::context_length_of(teacher_, settings_.context_length);
  for (std::int64_t i = 0; i < prompts_.size(); ++i)
    check_prompt(prompts_[i], prompts_.source(i), teacher_.head().columns(), context);
  for (const auto& [key, value] : describe())
    if (key != "source.prompts" && key != "source.epochs") fingerprint_.add(std::string_view(value));
  fingerprint_.add(context);
}

template <class Teacher>
SourceDescription TeacherWritten<Teacher>::describe() const {
  return detail::describe_teacher_written(prompts_, settings_, sampler_, reply_fingerprint_);
}

template <class Teacher>
std::optional<TokenBatch> TeacherWritten<Teacher>::next() {
  TokenBatch batch;
  const std::int64_t end = end_of_batch(next_, settings_.prompts, settings_.epochs, order_.count());
  for (std::int64_t ordinal = next_; ordinal < end; ++ordinal) {
    const std::int64_t item = order_.at(ordinal);
    append_completion(batch, prompts_[item], text(item), prompts_.source(item));
  }
  next_ = end;
  if (batch.documents() == 0) return std::nullopt;
  return batch;
}

template <class Teacher>
bool TeacherWritten<Teacher>::skip() {
  const std::int64_t end = end_of_batch(next_, settings_.prompts, settings_.epochs, order_.count());
  if (shared_)
    for (std::int64_t ordinal = next_; ordinal < end; ++ordinal) static_cast<void>(text(order_.at(ordinal)));
  return std::exchange(next_, end) < end;
}

template <class Teacher>
void TeacherWritten<Teacher>::share_with(AnyCommunicator ranks, std::int64_t group) {
  require<ConfigError>(group >= 0, "[TeacherWritten] a group has ", group, " texts; it must be 0 or more");
  ranks_ = std::move(ranks);
  group_ = group;
  shared_ = true;
  if (group > 0) fingerprint_.add(std::string_view(concat("groups of ", group)));
}

template <class Teacher>
const Completion& TeacherWritten<Teacher>::text(std::int64_t prompt) {
  const Completion& completion = texts_.at(static_cast<std::size_t>(prompt));
  if (completion.ids.empty()) require_block(first_epoch_.first_ordinal(prompt) / settings_.ahead);
  return completion;
}

template <class Teacher>
void TeacherWritten<Teacher>::check_loss(SampledTextUse use) const {
  detail::check_given_text_loss(sampler_, use);
}

template <class Teacher>
void TeacherWritten<Teacher>::write_all() {
  for (std::int64_t first = 0; first < prompts_.size(); first += settings_.ahead)
    static_cast<void>(text(first_epoch_.at(first)));
}

template <class Teacher>
void TeacherWritten<Teacher>::require_block(std::int64_t block) {
  std::vector<std::int64_t> items;
  for (std::int64_t i = block * settings_.ahead; i < std::min((block + 1) * settings_.ahead, prompts_.size()); ++i)
    items.push_back(first_epoch_.at(i));
  const std::string path =
      settings_.folder.empty() ? std::string() : join_path(settings_.folder, concat("teacher_text-", block, ".jsonl"));
  if (shared_) share_block(path, items);
  else if (!path.empty() && path_exists(path)) read_block(path, items);
  else write_block(path, items);
}

/// The first rank has the files; what it reads or writes alone goes to the others.
template <class Teacher>
void TeacherWritten<Teacher>::share_block(const std::string& path, const std::vector<std::int64_t>& items) {
  const bool kept = ranks_.any(ranks_.leads() && !path.empty() && path_exists(path));
  if (!kept && group_ > 0 && answers_ == nullptr) {
    const std::vector<WritingRequest> requests = requests_of(items);
    const auto how_of = [&](std::size_t first, std::size_t count) {
      return how(std::span(items).subspan(first, count));
    };
    std::vector<Completion> texts =
        write_in_groups(teacher_, std::span<const WritingRequest>(requests), sampler_, group_, ranks_, how_of);
    return keep_block(ranks_.leads() ? path : std::string(), items, std::move(texts));
  }
  BytePacker packed;
  bool stopped = false;
  if (ranks_.leads()) {
    try {
      if (kept) read_block(path, items);
      else write_block(path, items);
      for (const std::int64_t item : items) pack_completion(packed, texts_[static_cast<std::size_t>(item)]);
    } catch (const StopRequested&) {
      stopped = true;
    }
  }
  if (ranks_.any(stopped)) throw StopRequested("stopped on request");
  const Bytes bytes = ranks_.broadcast_bytes(packed.take());
  ByteUnpacker in(bytes);
  for (const std::int64_t item : items) texts_[static_cast<std::size_t>(item)] = unpack_completion(in);
}

/// What a block depends on, as text.
template <class Teacher>
std::string TeacherWritten<Teacher>::block_key(const std::vector<std::int64_t>& items) const {
  Fingerprint key = fingerprint_;
  for (const std::int64_t item : items) key.add(item);
  return key.text();
}

template <class Teacher>
void TeacherWritten<Teacher>::read_block(const std::string& path, const std::vector<std::int64_t>& items) {
  detail::read_text_block(path, block_key(items), items, teacher_.head().columns(), texts_);
}

template <class Teacher>
void TeacherWritten<Teacher>::reply_with(ReplyMaker maker, std::int64_t reply_tokens, std::string fingerprint) {
  replies_ = std::move(maker);
  reply_tokens_ = reply_tokens;
  fingerprint_.add(std::string_view(fingerprint));
  reply_fingerprint_ = std::move(fingerprint);
}

template <class Teacher>
void TeacherWritten<Teacher>::keep_answers_in(ResponseCache& cache, std::string model_hash) {
  require<ConfigError>(!model_hash.empty(),
                       "[TeacherWritten] answers of other runs are told apart by the teacher's content_hash, which is "
                       "empty");
  answers_ = &cache;
  model_hash_ = std::move(model_hash);
}

template <class Teacher>
std::string TeacherWritten<Teacher>::answer_key(const WritingRequest& request) const {
  SettingsList how = {{"purpose", setting_text(static_cast<std::int64_t>(RngPurpose::sample_teacher))},
                      {"context_length", setting_text(detail::context_length_of(teacher_, settings_.context_length))},
                      {"decode_batch", setting_text(settings_.decode_batch)},
                      {"scalar", dtype_name(dtype_of<typename Teacher::scalar_type>())}};
  if (!reply_fingerprint_.empty()) how.emplace_back("replies", reply_fingerprint_);
  return ResponseCache::key(model_hash_, request, sampler_, how);
}

template <class Teacher>
GenerateSettings TeacherWritten<Teacher>::how(std::span<const std::int64_t> items) const {
  GenerateSettings how{.batch = settings_.decode_batch,
                       .context_length = settings_.context_length,
                       .purpose = RngPurpose::sample_teacher};
  how.progress = settings_.progress;
  if (replies_) how.reply = replies_(prompts_, items);
  how.reply_tokens = reply_tokens_;
  return how;
}

/// Answers in the order of the requests: those that other runs have kept, and the others written now and kept.
template <class Teacher>
std::vector<Completion> TeacherWritten<Teacher>::answer(std::span<const WritingRequest> requests,
                                                        std::span<const std::int64_t> items) {
  std::vector<Completion> texts(requests.size());
  std::vector<WritingRequest> missing;
  std::vector<std::size_t> place;
  std::vector<std::int64_t> missing_items;
  std::vector<std::string> keys(requests.size());  // of answers_
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (answers_ != nullptr) {
      keys[i] = answer_key(requests[i]);
      if (std::optional<Completion> kept = answers_->find(keys[i], teacher_.head().columns())) {
        texts[i] = std::move(*kept);
        continue;
      }
    }
    missing.push_back(requests[i]);
    place.push_back(i);
    missing_items.push_back(items[i]);
  }
  if (missing.empty()) return texts;
  const double start = steady_seconds();
  std::vector<Completion> written =
      generate(teacher_, std::span<const WritingRequest>(missing), sampler_, how(missing_items));
  const double seconds = steady_seconds() - start;
  double tokens = 0;
  for (const Completion& text : written) tokens += static_cast<double>(text.ids.size());
  for (std::size_t k = 0; k < written.size(); ++k) {
    if (answers_ != nullptr)
      answers_->store(keys[place[k]], written[k], seconds * static_cast<double>(written[k].ids.size()) / tokens);
    texts[place[k]] = std::move(written[k]);
  }
  return texts;
}

template <class Teacher>
std::vector<WritingRequest> TeacherWritten<Teacher>::requests_of(const std::vector<std::int64_t>& items) const {
  return detail::requests_of(prompts_, items);
}

template <class Teacher>
void TeacherWritten<Teacher>::write_block(const std::string& path, const std::vector<std::int64_t>& items) {
  keep_block(path, items, answer(requests_of(items), items));
}

template <class Teacher>
void TeacherWritten<Teacher>::keep_block(const std::string& path, const std::vector<std::int64_t>& items,
                                         std::vector<Completion> texts) {
  if (!path.empty()) detail::write_text_block(settings_.folder, path, block_key(items), items, texts);
  for (std::size_t i = 0; i < items.size(); ++i) texts_[static_cast<std::size_t>(items[i])] = std::move(texts[i]);
}

KDLIB_NAMESPACE_END

#endif
