// SPDX-License-Identifier: Apache-2.0
// The text of a distillation: where prompts, given text and held-out documents come from.
#ifndef KDLIB_RECIPE_TEXT_HPP
#define KDLIB_RECIPE_TEXT_HPP

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kdlib/data/document_dataset.hpp"
#include "kdlib/data/line_split.hpp"
#include "kdlib/data/text_lines.hpp"
#include "kdlib/recipe/events.hpp"
#include "kdlib/recipe/model_files.hpp"
#include "kdlib/recipe/settings.hpp"
#include "kdlib/rollout/mixed.hpp"
#include "kdlib/rollout/on_policy.hpp"
#include "kdlib/rollout/teacher_written.hpp"
#include "kdlib/rollout/tool_turns.hpp"
#include "kdlib/text/byte_level_bpe.hpp"

KDLIB_NAMESPACE_BEGIN

/// The offline part: given documents, or answers that the teacher writes. A DataSource.
template <class Teacher>
class OfflineText {
 public:
  explicit OfflineText(DocumentDataset documents) : documents_(std::move(documents)) {}
  explicit OfflineText(TeacherWritten<Teacher> written) : written_(std::move(written)) {}

  std::optional<TokenBatch> next() { return documents_ ? documents_->next() : written_->next(); }
  SourceCursor cursor() const { return documents_ ? documents_->cursor() : written_->cursor(); }
  bool skip() { return documents_ ? documents_->skip() : written_->skip(); }
  void seek(const SourceCursor& cursor) { documents_ ? documents_->seek(cursor) : written_->seek(cursor); }
  SourceDescription describe() const { return documents_ ? documents_->describe() : written_->describe(); }
  /// ConfigError for losses that take each token as one that the student drew.
  void check_loss(const SampledTextUse& use) const {
    if (written_) return written_->check_loss(use);
    require<ConfigError>(!use.reads_sampled_tokens,
                         "[distil] the loss reads each token as one that the student drew, but --data is given text: "
                         "say --lambda 1, or use a loss over the whole vocabulary");
  }

 private:
  std::optional<DocumentDataset> documents_;
  std::optional<TeacherWritten<Teacher>> written_;
};

namespace detail {
/// Text of a held-out prompt as the report shows it: the content of its last user turn, without the template around it.
std::string strip_chat_markup(std::string text);
}  // namespace detail

/// Text that a teacher's cache brings along, and which given text it can serve.
struct CachedText {
  std::vector<TextLine> data{}, validation{};   // empty: from the files that the settings name
  std::function<bool(const TextLine&)> keep{};  // of the data: false leaves the line out; what it throws refuses it
};

/// Everything that is read or written before the first step. Settings and teacher are borrowed.
template <class Model>
class RecipeTexts {
 public:
  using Writing = std::function<void(const WritingReport&)>;

  /// `teacher`: who writes, or the student where there is none. `context_length`: tokens of a prompt and its answer.
  RecipeTexts(const RecipeSettings& settings, Model& teacher, std::optional<Tokenizer> tokenizer,
              std::int64_t context_length, Writing writing, CachedText cached = {});

  /// What was odd in the files: lines that were cut or left out.
  const std::vector<std::string>& notes() const { return notes_; }

  /// Source of the training batches: the offline and the student's part behind one coin.
  auto source() {
    OnPolicy online(*prompts_, sampler(), on_policy_settings());
    use_tools(online);
    return Mixed(offline(), std::move(online), mixed_settings());
  }

  /// Held-out documents; prompts are answered by the teacher once and kept in the folder of the run.
  TokenBatch validation();

  /// Text of the kind that the student is trained on, whole documents, about `tokens` tokens: of the offline part, or
  /// the prompts alone where the student writes all text.
  TokenBatch calibration(std::int64_t tokens);

  /// Held-out prompts whose answers the report shows: at most `count`, with their text.
  struct Shown {
    std::vector<std::int32_t> ids;
    std::string text;
  };
  std::vector<Shown> shown_prompts(std::size_t count) const;
  /// Greedy answers to them.
  std::vector<std::string> answers(Model& model, const std::vector<Shown>& prompts) const;

  /// The text of each id. Ids that share a letter's bytes: the first of them has the letter, the others are empty.
  std::vector<std::string> token_texts(std::span<const std::int32_t> ids) const;

  double mean_prompt_tokens() const;
  /// Texts of one pass over what is trained on: given ones, or answers to the prompts.
  std::int64_t examples() const {
    return data_.empty() ? prompts_->size() * settings_.text.samples : static_cast<std::int64_t>(data_.size());
  }

  /// The teacher's answers are read from and kept in RecipeText::answers, told apart by `model_hash`, the content_hash
  /// of its files and its adapter's. Before the first text is written.
  void keep_answers(std::string model_hash);
  /// What is written from now on is no text and stays out of the run's folder: a dry run draws ids that mean nothing.
  void keep_nothing() { keeps_ = false; }
  /// Ranks write the teacher's text together, in groups of RecipeTraining::write_batch (TeacherWritten::share_with).
  /// Before the first text.
  void share_with(AnyCommunicator ranks) { ranks_ = std::move(ranks); }
  /// What the cache of answers did; nullptr: there is none.
  const ResponseUse* answers_use() const { return answers_ ? &answers_->use() : nullptr; }
  /// Its sentences since the last call.
  std::vector<std::string> take_answer_notes() {
    return answers_ ? answers_->take_notes() : std::vector<std::string>();
  }

 private:
  OfflineText<Model> offline();
  Sampler sampler() const;
  OnPolicySettings on_policy_settings() const;
  MixedSettings mixed_settings() const {
    return {settings_.text.lambda, settings_.seed, settings_.training.micro_batches};
  }
  TextSettings text_settings() const;
  /// Written text of the source calls tools, if there are any.
  template <class Source>
  void use_tools(Source& source) const;
  std::vector<TextLine> read_lines(const TextFile& file);
  void take_cached(CachedText cached);
  std::function<void(const GenerationProgress&)> writing(const char* what) const;
  std::string text_of(std::span<const std::int32_t> ids) const;

  const RecipeSettings& settings_;
  Model& teacher_;
  std::optional<Tokenizer> tokenizer_;
  Writing writing_;
  std::optional<Prompts> prompts_;
  std::shared_ptr<ToolHost> tools_;
  std::shared_ptr<ResponseCache> answers_;
  std::string model_hash_;  // of the teacher and its adapter
  bool keeps_ = true;
  std::optional<AnyCommunicator> ranks_;
  std::int64_t context_length_;
  std::vector<std::string> notes_;
  bool turns_ = false;  // a chat template wrote a line at least
  std::vector<TextLine> data_, validation_;
};

KDLIB_NAMESPACE_END

#include "kdlib/recipe/text_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/shown_text_inl.hpp"
#endif

#endif
