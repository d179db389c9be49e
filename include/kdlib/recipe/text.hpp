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
  /// Throws ConfigError for losses that take each token as one that the student drew.
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
/// Returns the text of a held-out prompt as the report shows it: the content of its last user turn, without the markup
/// of the template.
std::string strip_chat_markup(std::string text);
}  // namespace detail

/// Text that comes with a teacher's cache, and a function that tells which given text the cache can serve.
struct CachedText {
  std::vector<TextLine> data{}, validation{};  // empty: the text comes from the files of the settings
  /// Called for each line of the data: false leaves the line out; an exception refuses it.
  std::function<bool(const TextLine&)> keep{};
};

/// All text that is read or written before the first step. Settings and teacher are borrowed.
template <class Model>
class RecipeTexts {
 public:
  using Writing = std::function<void(const WritingReport&)>;

  /// `teacher` is the model that writes, or the student if there is no teacher. `context_length` is in tokens, for a
  /// prompt and its answer together.
  RecipeTexts(const RecipeSettings& settings, Model& teacher, std::optional<Tokenizer> tokenizer,
              std::int64_t context_length, Writing writing, CachedText cached = {});

  /// What was odd in the files: lines that were cut or left out.
  const std::vector<std::string>& notes() const { return notes_; }

  /// Returns the source of the training batches: the offline part and the student's part behind one coin (Mixed).
  auto source() {
    OnPolicy online(*prompts_, sampler(), on_policy_settings());
    use_tools(online);
    return Mixed(offline(), std::move(online), mixed_settings());
  }

  /// Returns held-out documents. The teacher answers held-out prompts once; its answers are kept in the folder of the
  /// run.
  TokenBatch validation();

  /// Returns about `tokens` tokens of text, in whole documents, of the kind that the student is trained on: text of the
  /// offline part, or only the prompts if the student writes all text.
  TokenBatch calibration(std::int64_t tokens);

  /// A held-out prompt whose answers the report shows, with its text. shown_prompts() returns at most `count` of them.
  struct Shown {
    std::vector<std::int32_t> ids;
    std::string text;
  };
  std::vector<Shown> shown_prompts(std::size_t count) const;
  /// Returns greedy answers to such prompts.
  std::vector<std::string> answers(Model& model, const std::vector<Shown>& prompts) const;

  /// Returns the text of each id. If several ids share the bytes of one letter, the first of them has the letter and
  /// the others are empty.
  std::vector<std::string> token_texts(std::span<const std::int32_t> ids) const;

  double mean_prompt_tokens() const;
  /// Returns the number of texts in one pass: given ones, or answers to the prompts.
  std::int64_t examples() const {
    return data_.empty() ? prompts_->size() * settings_.text.samples : static_cast<std::int64_t>(data_.size());
  }

  /// Makes the teacher's answers be read from and kept in the folder RecipeText::answers. `model_hash`, the
  /// content_hash of the teacher's files and of its adapter's, keeps answers of different teachers apart. Call this
  /// before the first text is written.
  void keep_answers(std::string model_hash);
  /// Keeps text that is written from now on out of the run's folder: a dry run draws ids that mean nothing.
  void keep_nothing() { keeps_ = false; }
  /// Makes ranks write the teacher's text together, in groups of RecipeTraining::write_batch
  /// (TeacherWritten::share_with). Call this before the first text.
  void share_with(AnyCommunicator ranks) { ranks_ = std::move(ranks); }
  /// Returns what the cache of answers did, or nullptr if there is no such cache.
  const ResponseUse* answers_use() const { return answers_ ? &answers_->use() : nullptr; }
  /// Returns the sentences of that cache since the last call.
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
  /// Lets written text of the source call tools, if there are any.
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
  bool turns_ = false;  // true after a chat template wrote a line
  std::vector<TextLine> data_, validation_;
};

KDLIB_NAMESPACE_END

#include "kdlib/recipe/text_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/shown_text_inl.hpp"
#endif

#endif
