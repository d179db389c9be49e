// SPDX-License-Identifier: Apache-2.0
// The text of a `distil` run: where prompts, given text and held-out documents come from.
#ifndef KDLIB_TOOLS_DISTIL_TEXT_HPP
#define KDLIB_TOOLS_DISTIL_TEXT_HPP

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kdlib/data/document_dataset.hpp"
#include "kdlib/data/text_lines.hpp"
#include "kdlib/rollout/mixed.hpp"
#include "kdlib/rollout/on_policy.hpp"
#include "kdlib/rollout/teacher_written.hpp"
#include "kdlib/text/byte_level_bpe.hpp"
#include "kdlib/tools/distil_settings.hpp"
#include "kdlib/tools/model_files.hpp"

KDLIB_NAMESPACE_BEGIN

/// A file of prompts: --prompts, --validation, or the bundled file `name`. ConfigError where there is no bundled one.
std::string text_file_or_bundled(const std::string& given, const char* option, const char* name);

/// The offline part: given documents, or answers that the teacher writes. A DataSource.
template <class Teacher>
class OfflineText {
 public:
  explicit OfflineText(DocumentDataset documents) : documents_(std::move(documents)) {}
  explicit OfflineText(TeacherWritten<Teacher> written) : written_(std::move(written)) {}

  std::optional<TokenBatch> next() { return documents_ ? documents_->next() : written_->next(); }
  SourceCursor cursor() const { return documents_ ? documents_->cursor() : written_->cursor(); }
  void seek(const SourceCursor& cursor) { documents_ ? documents_->seek(cursor) : written_->seek(cursor); }
  SourceDescription describe() const { return documents_ ? documents_->describe() : written_->describe(); }

 private:
  std::optional<DocumentDataset> documents_;
  std::optional<TeacherWritten<Teacher>> written_;
};

/// Everything that is read or written before the first step.
template <class Model>
class DistilText {
 public:
  using Writing = std::function<void(const char* what, const GenerationProgress&, std::int64_t expected_sequences)>;

  DistilText(const DistilSettings& settings, Model& teacher, std::optional<Tokenizer> tokenizer, Writing writing);

  /// Source of the training batches: the offline and the student's part behind one coin.
  auto source() { return Mixed(offline(), OnPolicy(*prompts_, sampler(), on_policy_settings()), mixed_settings()); }

  /// Held-out documents; prompts are answered by the teacher once and kept in the folder of the run.
  TokenBatch validation();

  /// Held-out prompts whose answers the report shows: at most `count`, with their text.
  struct Shown {
    std::vector<std::int32_t> ids;
    std::string text;
  };
  std::vector<Shown> shown_prompts(std::size_t count) const;
  /// Greedy answers to them.
  std::vector<std::string> answers(Model& model, const std::vector<Shown>& prompts) const;

  double mean_prompt_tokens() const;
  const std::string& prompts_path() const { return prompts_path_; }
  const std::string& validation_path() const { return validation_path_; }

 private:
  OfflineText<Model> offline();
  Sampler sampler() const;
  OnPolicySettings on_policy_settings() const;
  MixedSettings mixed_settings() const { return {settings_.lambda, settings_.seed, settings_.micro_batches}; }
  TextSettings text_settings() const;
  std::string text_of(std::span<const std::int32_t> ids) const;

  const DistilSettings& settings_;
  Model& teacher_;
  std::optional<Tokenizer> tokenizer_;
  Writing writing_;
  std::string prompts_path_, validation_path_;
  std::optional<Prompts> prompts_;
  std::vector<TextLine> validation_;
};

KDLIB_NAMESPACE_END

#include "kdlib/tools/distil_text_inl.hpp"

#endif
