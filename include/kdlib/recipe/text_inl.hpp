// SPDX-License-Identifier: Apache-2.0
// Bodies of text.hpp.
#ifndef KDLIB_RECIPE_TEXT_INL_HPP
#define KDLIB_RECIPE_TEXT_INL_HPP

#include <algorithm>

#include "kdlib/io/paths.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/recipe/text.hpp"
#include "kdlib/text/prompt_chat.hpp"
#include "kdlib/text/tool_calls.hpp"

KDLIB_NAMESPACE_BEGIN

template <class Model>
RecipeTexts<Model>::RecipeTexts(const RecipeSettings& settings, Model& teacher, std::optional<Tokenizer> tokenizer,
                                std::int64_t context_length, Writing writing, CachedText cached)
    : settings_(settings),
      teacher_(teacher),
      tokenizer_(std::move(tokenizer)),
      writing_(std::move(writing)),
      context_length_(context_length) {
  const RecipeText& text = settings.text;
  const std::string& model = settings.models.text_model();
  require<ConfigError>(tokenizer_ || !(text.writes() && text.prompts.bundled), "[distil] ", model,
                       " has no tokenizer, so the bundled prompts cannot be read: give --prompts with lines of "
                       "{\"prompt_ids\": [...]} or --data with {\"ids\": [...]}");
  require<ConfigError>(tokenizer_ || text.validation_share > 0 || !text.validation.bundled, "[distil] ", model,
                       " has no tokenizer, so the bundled validation prompts cannot be read: give --validation "
                       "with lines of {\"prompt_ids\": [...]} or {\"ids\": [...]}");
  if (!text.tools.empty()) {
    require<ConfigError>(tokenizer_.has_value(), "[distil] --tools needs a tokenizer, and ", model, " has none");
    tools_ = make_tool_host(text.tools);
  }
  if (!text.data.empty()) data_ = read_lines(text.data);
  take_cached(std::move(cached));
  std::vector<TextLine> prompts;
  if (text.writes()) {
    require<ConfigError>(!text.prompts.empty(), "[distil] no prompts are named; --prompts is needed");
    prompts = read_lines(text.prompts);
  }
  if (text.validation_share > 0) {
    std::vector<TextLine>& divided = data_.empty() ? prompts : data_;
    LineSplit parts = split_lines(std::move(divided), text.validation_share);
    divided = std::move(parts.train);
    validation_ = std::move(parts.validation);
  } else if (validation_.empty()) {
    require<ConfigError>(!text.validation.empty(), "[distil] no held-out text is named; --validation is needed");
    validation_ = read_lines(text.validation);
  }
  for (const TextLine& line : validation_)
    require<InputError>(settings.models.taught() || line.kind == TextLineKind::given_text, "[distil] ", line.source,
                        " is a prompt, and no teacher answers it: hold out given text, or use --validation-share");
  check_template_is_read("distil", text.chat_template, turns_, "the text of this run");
  const std::vector<std::int32_t> stop_ids = stop_ids_of(model, tokenizer_, teacher.config().eos_ids);
  if (prompts.empty()) prompts.push_back({TextLineKind::prompt, validation_.front().ids, {}, "unused"});  // never read
  prompts_.emplace(std::move(prompts), stop_ids);
  if (text.max_prompts > 0) prompts_.emplace(prompts_->first(text.max_prompts));
  for (std::int64_t i = 0; tools_ && i < prompts_->size(); ++i)  // a template without a place for tools is refused now
    if (const auto& chat = prompts_->chat(i)) {
      ToolCallFormat::of(*chat->chat, chat->options);
      break;
    }
}

/// The cache's own text where none is named, without what the cache cannot serve.
template <class Model>
void RecipeTexts<Model>::take_cached(CachedText cached) {
  if (data_.empty()) data_ = std::move(cached.data);
  if (settings_.text.validation.empty() || settings_.text.validation.bundled)
    validation_ = std::move(cached.validation);
  if (!cached.keep) return;
  const std::size_t before = data_.size();
  std::erase_if(data_, [&cached](const TextLine& line) { return !cached.keep(line); });
  if (data_.size() == before) return;
  notes_.push_back(concat(before - data_.size(), " of ", before, " texts are not in the cache and are left out"));
  require<InputError>(!data_.empty(), "[distil] the cache holds none of the ", before, " texts");
}

/// The lines of a file; what was done with long ones goes to notes().
template <class Model>
std::vector<TextLine> RecipeTexts<Model>::read_lines(const TextFile& file) {
  const TextSettings how = text_settings();
  TextCounts counts;
  std::vector<TextLine> lines;
  try {
    lines = read_text_lines(file.path, tokenizer_ ? &*tokenizer_ : nullptr, how, &counts);
  } catch (const ConfigError& error) {
    const bool none = tokenizer_ && how.chat_template.empty() && tokenizer_->chat_template().empty() &&
                      tokenizer_->named_chat_templates().empty();
    if (!none) throw;
    fail<ConfigError>("[distil] ", settings_.models.text_model(), " has no chat template, and ",
                      file.bundled ? "the bundled " : "", file.path,
                      " holds turns of a chat. Say how they are written: --template chatml, another name or a FILE; or "
                      "give text without turns: --raw with {\"prompt\": ...} in --prompts FILE and --validation FILE, "
                      "or lines {\"text\": ...} in --data FILE and --validation FILE");
  }
  turns_ = turns_ || counts.turns;
  if (std::string note = counts.note(file.path, how.context_length); !note.empty()) notes_.push_back(std::move(note));
  return lines;
}

template <class Model>
TextSettings RecipeTexts<Model>::text_settings() const {
  TextSettings text;
  text.context_length = context_length_;
  text.too_long = settings_.text.too_long;
  text.chat = !settings_.text.raw;
  text.chat_template = settings_.text.chat_template;
  text.keep_chats = tools_ != nullptr;
  text.teachers = settings_.models.by_row();
  if (tools_) text.tools = tools_->tools();
  text.vocabulary = teacher_.head().real_vocabulary;  // what teacher and student share
  return text;
}

template <class Model>
template <class Source>
void RecipeTexts<Model>::use_tools(Source& source) const {
  if (!tools_) return;
  const auto turns = std::make_shared<ToolTurns>(
      *tokenizer_, tools_, prompts_->stop_ids(),
      ToolLimits{.rounds = settings_.text.tool_rounds, .answer_tokens = settings_.text.tool_tokens});
  source.reply_with(
      [turns](const Prompts& prompts, std::span<const std::int64_t> items) {
        std::vector<std::shared_ptr<const PromptChat>> chats;
        for (const std::int64_t item : items) chats.push_back(prompts.chat(item));
        return GenerateSettings::Reply(
            [turns, reply = turns->replies(std::move(chats))](std::size_t request, const Completion& text) {
              return reply(request, text);
            });
      },
      turns->reply_tokens(), turns->fingerprint());
}

template <class Model>
void RecipeTexts<Model>::keep_answers(std::string model_hash) {
  answers_ = std::make_shared<ResponseCache>(settings_.text.answers, settings_.text.answers_mb << 20);
  model_hash_ = std::move(model_hash);
}

template <class Model>
Sampler RecipeTexts<Model>::sampler() const {
  Sampler s;
  s.temperature = settings_.text.sample_temperature;
  s.top_k = settings_.text.top_k;
  s.top_p = settings_.text.top_p;
  s.min_p = settings_.text.min_p;
  s.max_new_tokens = settings_.text.max_new_tokens;
  s.seed = settings_.seed;
  return s;
}

template <class Model>
OfflineText<Model> RecipeTexts<Model>::offline() {
  if (!data_.empty()) {
    TokenBatch documents;
    for (const TextLine& line : data_) append_line(documents, line);
    return OfflineText<Model>(DocumentDataset(std::move(documents), {settings_.training.batch, settings_.seed, 0}));
  }
  TeacherWrittenSettings written;
  written.prompts = settings_.training.batch;
  written.seed = settings_.seed;
  written.context_length = context_length_;
  if (keeps_) written.folder = join_path(settings_.output.folder, "text");
  written.teacher_name = settings_.models.teacher;
  written.progress = this->writing("the teacher writes");
  TeacherWritten<Model> source(teacher_, prompts_->repeated(settings_.text.samples), sampler(), written);
  use_tools(source);
  if (answers_) source.keep_answers_in(*answers_, model_hash_);
  if (ranks_) source.share_with(*ranks_, settings_.training.write_batch);
  return OfflineText<Model>(std::move(source));
}

/// What generation calls after each of its steps.
template <class Model>
std::function<void(const GenerationProgress&)> RecipeTexts<Model>::writing(const char* what) const {
  return [this, what](const GenerationProgress& p) {
    if (writing_) writing_({what, p.sequences, p.finished, p.new_tokens, p.prompt_seconds + p.decoding_seconds});
  };
}

template <class Model>
OnPolicySettings RecipeTexts<Model>::on_policy_settings() const {
  OnPolicySettings online;
  online.accept_truncated_text = settings_.text.accept_truncated_text;
  online.samples = settings_.text.samples;
  online.prompts = settings_.training.batch / online.samples;
  online.seed = settings_.seed;
  online.context_length = context_length_;
  online.record_routing = settings_.text.replay_routing;
  online.progress = this->writing("the student writes");
  return online;
}

template <class Model>
TokenBatch RecipeTexts<Model>::validation() {
  TokenBatch documents;
  std::vector<TextLine> prompts;
  for (const TextLine& line : validation_) {
    if (line.kind == TextLineKind::given_text) append_line(documents, line);
    else prompts.push_back(line);
  }
  if (prompts.empty()) return documents;
  TeacherWrittenSettings written;
  written.prompts = static_cast<std::int64_t>(prompts.size());
  written.seed = settings_.seed;
  written.epochs = 1;
  written.ahead = written.prompts;
  written.context_length = context_length_;
  written.folder = join_path(settings_.output.folder, "validation_text");
  written.teacher_name = settings_.models.teacher;
  written.progress = this->writing("the teacher writes held-out text");
  Sampler held_out = sampler();
  held_out.seed = settings_.seed + 1;  // not the numbers of the training text
  TeacherWritten<Model> answers(teacher_, Prompts(std::move(prompts), prompts_->stop_ids()), held_out, written);
  use_tools(answers);
  if (answers_) answers.keep_answers_in(*answers_, model_hash_);
  if (ranks_) answers.share_with(*ranks_, settings_.training.write_batch);
  const std::optional<TokenBatch> batch = answers.next();
  for (std::int64_t b = 0; batch && b < batch->documents(); ++b)
    detail::append_part(documents, *batch, b, 0, batch->length(b));
  return documents;
}

template <class Model>
TokenBatch RecipeTexts<Model>::calibration(std::int64_t tokens) {
  TokenBatch text;
  if (settings_.text.lambda >= 1) {
    for (std::int64_t i = 0; i < prompts_->size() && text.tokens() < tokens; ++i) text.append((*prompts_)[i]);
    return text;
  }
  OfflineText<Model> source = offline();
  for (std::int64_t batches = 0; batches < tokens && text.tokens() < tokens; ++batches) {
    const std::optional<TokenBatch> batch = source.next();
    if (!batch) break;
    for (std::int64_t b = 0; b < batch->documents(); ++b) detail::append_part(text, *batch, b, 0, batch->length(b));
  }
  return text;
}

template <class Model>
std::string RecipeTexts<Model>::text_of(std::span<const std::int32_t> ids) const {
  if (tokenizer_) return tokenizer_->decode(ids);
  std::string out;
  for (const std::int32_t id : ids) out.append(out.empty() ? "" : " ").append(std::to_string(id));
  return out;
}

template <class Model>
std::vector<std::string> RecipeTexts<Model>::token_texts(std::span<const std::int32_t> ids) const {
  std::vector<std::string> out(ids.size());
  for (std::size_t first = 0, last = 1; first < ids.size(); first = last++) {
    std::string text = text_of(ids.subspan(first, 1));
    // A letter of several bytes may be spread over up to four ids.
    while (find_invalid_utf8(text) != std::string::npos && last < ids.size() && last - first < 4)
      text = text_of(ids.subspan(first, ++last - first));
    out[first] = find_invalid_utf8(text) == std::string::npos ? text : printable(text);
  }
  return out;
}

template <class Model>
std::vector<typename RecipeTexts<Model>::Shown> RecipeTexts<Model>::shown_prompts(std::size_t count) const {
  std::vector<Shown> out;
  for (const TextLine& line : validation_) {
    if (out.size() == count) break;
    if (line.kind == TextLineKind::prompt) out.push_back({line.ids, detail::strip_chat_markup(text_of(line.ids))});
  }
  return out;
}

template <class Model>
std::vector<std::string> RecipeTexts<Model>::answers(Model& model, const std::vector<Shown>& prompts) const {
  std::vector<std::vector<std::int32_t>> ids;
  for (const Shown& prompt : prompts) ids.push_back(prompt.ids);
  Sampler greedy = sampler();
  greedy.temperature = 0;
  greedy.stop_ids = prompts_->stop_ids();
  GenerateSettings generation;
  generation.context_length = context_length_;
  std::vector<std::string> out;
  for (const Completion& answer : generate(model, ids, greedy, generation)) {
    std::span<const std::int32_t> text = answer.ids;
    if (answer.stopped) text = text.first(text.size() - 1);
    out.push_back(text_of(text) + (answer.stopped ? "" : " [...]"));
  }
  return out;
}

template <class Model>
double RecipeTexts<Model>::mean_prompt_tokens() const {
  double sum = 0;
  for (std::int64_t i = 0; i < prompts_->size(); ++i) sum += static_cast<double>((*prompts_)[i].size());
  return sum / static_cast<double>(prompts_->size());
}

KDLIB_NAMESPACE_END

#endif
