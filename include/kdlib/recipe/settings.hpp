// SPDX-License-Identifier: Apache-2.0
// The settings of a distillation: models, what is trained of the student, the objective, the text, the steps, the
// folder. The defaults are the recipe that `distil` runs. Choices are enumerations; tools/ knows their words on a
// command line.
#ifndef KDLIB_RECIPE_SETTINGS_HPP
#define KDLIB_RECIPE_SETTINGS_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/data/text_lines.hpp"
#include "kdlib/loss/top_k.hpp"
#include "kdlib/nn/lora.hpp"
#include "kdlib/nn/quantized_weight.hpp"
#include "kdlib/optim/concepts.hpp"
#include "kdlib/quant/coded_data.hpp"
#include "kdlib/recipe/loss_expression.hpp"
#include "kdlib/recipe/stages.hpp"
#include "kdlib/teacher/remote_settings.hpp"
#include "kdlib/train/run.hpp"

KDLIB_NAMESPACE_BEGIN

/// The part of the student that is trained.
enum class RecipeTrains : std::uint8_t {
  lora,      // an adapter beside the weights or codes
  qat_lora,  // an adapter inside the rounding, Q(W + s B A)
  all,       // every weight; linear maps through their codes if the student is rounded
  scales     // the scales of the codes
};
/// Where a new adapter starts.
enum class RecipeAdapterStart : std::uint8_t {
  automatic,  // compensate if the student has codes, else zero
  zero,       // PEFT's start: A random, B zero, so the student is the model without the adapter
  compensate  // where the adapter undoes most of the rounding (compensate_rounding)
};
/// What happens to an earlier run in the folder.
enum class RecipeResume : std::uint8_t {
  automatic,  // the run continues, or its result is returned
  no          // the files of the run are removed
};

/// Returns the word for each value, as command lines and config.yaml have it.
const char* recipe_word(RecipeTrains value);
const char* recipe_word(RecipeAdapterStart value);
const char* recipe_word(RecipeResume value);
const char* recipe_word(StraightThrough value);
const char* recipe_word(TooLong value);
const char* recipe_word(SaveRule value);
const char* recipe_word(TopKMass value);
const char* recipe_word(Reduction value);
/// Returns the value of a word. Throws ConfigError, which lists the words.
template <class E>
E recipe_value(const std::string& word);

/// A teacher's signal on disk (cache_logits), from which the student learns. The teacher itself is not loaded.
struct RecipeCache {
  std::string folder{};            // empty: no cache
  std::string validation{};        // cache of the held-out text; empty: `folder`, if it holds that text
  bool skip_missing = false;       // leave out given text that the cache does not hold, do not refuse it
  std::int64_t top_k = 0;          // tokens of a row that are used, kind logprobs; 0: all it has
  TopKMass mass = TopKMass::tail;  // how forward_kl and reverse_kl treat the mass of other tokens
};

/// A teacher that servers have in memory. RecipeModels::teacher has their addresses. RecipeCache::top_k and mass say
/// what is used of a row, as for a cache.
struct RecipeRemote {
  Dialect dialect = Dialect::automatic;
  std::string model{};                               // name of the model on the server; empty: its only one
  std::string key{};                                 // environment variable with the servers' key; empty: no key
  std::int64_t in_flight = 4;                        // requests at once to each server
  RemotePrecision precision = RemotePrecision::f32;  // of hidden states
};

/// One of several teachers, which lines of text name: {"prompt": "...", "teacher": "math"}.
struct RecipeNamedTeacher {
  std::string name;   // letters, digits, '.', '_' and '-'
  std::string place;  // Hugging Face directory, GGUF file, folder of a cache, or URLs of servers with commas between

  bool is_remote() const { return names_servers(place); }
};

/// Teacher, student, adapters and caches.
struct RecipeModels {
  /// Hugging Face directory, GGUF file, or URLs of servers with commas between; empty: no teacher.
  std::string teacher;
  std::string student;  // empty: a copy of the teacher
  // Folders in PEFT's form; empty: none. The teacher's adapter (any kind that apply_adapter takes) is merged into its
  // weights. The student's adapter (any kind that load_adapter takes) is trained further, with its own rank, scale and
  // targets.
  std::string teacher_adapter, student_adapter;
  RecipeCache cache{};
  RecipeRemote remote{};
  std::vector<std::string> teachers{};  // instead of `teacher`: "NAME=PLACE" of each (RecipeNamedTeacher)
  std::string otherwise{};              // teacher of lines that name none; empty: such lines are refused
  bool on_ranks = false;                // the teacher is on ranks of its own (Session::ask_ranks)

  const std::string& student_path() const { return student.empty() ? teacher : student; }
  /// True if the student learns from a cache. A teacher that is named is compared with the cache and not loaded.
  bool cached() const { return !cache.folder.empty(); }
  /// True if the teacher is on other machines.
  bool is_remote() const { return names_servers(teacher); }
  /// Returns the servers of such a teacher.
  std::vector<std::string> remote_urls() const {
    return is_remote() ? split_urls(teacher) : std::vector<std::string>();
  }
  /// True if each line of text names one of several teachers.
  bool by_row() const { return !teachers.empty(); }
  /// Returns those teachers. Throws ConfigError for an entry that is not NAME=PLACE and for a name that is given twice.
  std::vector<RecipeNamedTeacher> named_teachers() const;
  /// True if the student learns from a cache, from servers, from several teachers or from other ranks. Then only the
  /// student writes text.
  bool apart() const { return cached() || is_remote() || by_row() || on_ranks; }
  /// True if a teacher is loaded. Without a teacher, a cache or a server the student learns the next token of given
  /// text alone: plain fine-tuning.
  bool taught() const { return !teacher.empty() && !apart(); }
  /// Returns the model whose tokenizer and end tokens the text has.
  const std::string& text_model() const { return taught() ? teacher : student_path(); }
};

/// How the student is made from its model, and what of it is trained.
struct RecipeStudent {
  bool rounded = true;        // first round the linear maps of every layer to `format`
  QuantizeSettings format{};  // int4, groups of 64, symmetric
  RecipeTrains trains = RecipeTrains::lora;
  StraightThrough straight_through = StraightThrough::identity;  // for qat_lora and all
  bool merge = false;                             // for lora on codes: at the end also write both rounded together
  LoraSettings adapter{.rank = 16, .alpha = 32};  // its seed is RecipeSettings::seed
  RecipeAdapterStart start = RecipeAdapterStart::automatic;

  /// True if there is an adapter, beside the weights or inside the rounding.
  bool adapts() const { return trains == RecipeTrains::lora || trains == RecipeTrains::qat_lora; }
  /// Returns the format that is used: mxfp4 always has groups of 32.
  QuantizeSettings rounding() const;
};

/// What is minimised.
struct RecipeObjective {
  LossExpression loss{};  // of each answer token: forward_kl, or a weighted sum of losses
};

/// A file of JSON lines (data/text_lines.hpp).
struct TextFile {
  std::string path;
  bool bundled = false;  // comes with the program; it holds words, so a tokenizer is needed

  bool empty() const { return path.empty(); }
};

/// The text from which the student learns and on which it is measured.
struct RecipeText {
  TextFile prompts;  // questions that the teacher or the student answers
  /// Given text for the offline part. Empty: the teacher answers the prompts, or `from_cache`.
  TextFile data;
  bool from_cache = false;         // without `data`: use the text of RecipeModels::cache
  TextFile validation;             // held-out prompts or text
  std::int64_t max_prompts = 0;    // use only the first prompts of the file; 0: all
  std::int64_t samples = 1;        // answers to each prompt
  double lambda = 0;               // share of steps on student-written text, [0, 1]
  double sample_temperature = 1;   // of the sampler, >= 0
  std::int64_t top_k = 0;          // 0: off
  double top_p = 1, min_p = 0;     // 1 and 0: off
  double validation_share = 0;     // in (0, 1): this share of `data`, else of `prompts`, chosen by prompt, is held out
  std::string chat_template{};     // name or file (chat_template_from); empty: the tokenizer's own
  bool raw = false;                // {"prompt"} is text to continue, not a turn of the chat template
  std::int64_t max_length = 1024;  // tokens of prompt and answer, at most what both models allow
  TooLong too_long = TooLong::refuse;
  std::int64_t max_new_tokens = 112;
  bool accept_truncated_text = false;  // allow top_k, top_p and min_p for text of the student (decision 004)
  std::string answers{};               // folder that keeps the teacher's answers for other runs; empty: none
  std::int64_t answers_mb = 1024;      // limit of that folder, MiB; the least recently used are removed
  std::vector<std::string> tools{};    // tools that answer calls in written text (make_tool_host); empty: none
  std::int64_t tool_rounds = 4;        // turns of a text whose calls are answered
  std::int64_t tool_tokens = 256;      // tokens of one answer of a tool
  bool replay_routing = false;         // train student-written text with the experts that wrote it

  /// True if prompts are read and answered.
  bool writes() const { return (data.empty() && !from_cache) || lambda > 0; }
};

/// Steps, batches and the optimiser.
struct RecipeTraining {
  std::int64_t steps = 30;
  std::int64_t batch = 8;          // sequences in a micro-batch
  std::int64_t micro_batches = 1;  // micro-batches in a step
  double learning_rate = 0;        // peak of the rate, >= 0; 0: RecipeSettings::peak_rate() chooses
  RecipeSchedule schedule = RecipeSchedule::linear;
  std::int64_t warmup = 4;  // steps, at most `steps`
  double warmup_ratio = 0;  // above 0: the warm-up is this share of the steps, rounded up
  double weight_decay = 0, beta1 = 0.9, beta2 = 0.999;
  double clip = 1;                           // largest global gradient norm; 0: no clipping
  bool recompute = false;                    // run layers again in the backward pass instead of keeping activations
  std::int64_t workspace = 256;              // MiB for chunks of logits
  double gradient_threshold = 0;             // HeadLossSettings::gradient_threshold, [0, 1)
  Reduction reduce = Reduction::automatic;   // order in which micro-batches are added; a tree with several ranks
  std::int64_t write_batch = 0;              // RankSettings::write_batch
  bool shard_optimizer = false;              // RankSettings::shard_optimizer
  std::int64_t teacher_ahead = 0;            // RunSettings::teacher_ahead
  RateGroups groups{};                       // of a run without stages
  std::vector<RecipeStage> stages{};         // in this order, instead of `steps`; empty: no stages
  std::string groups_file{}, stages_file{};  // the files of these two, for messages and config.yaml

  /// Return the names of the groups and the stages in messages.
  std::string groups_place() const { return groups_file.empty() ? std::string("groups") : groups_file; }
  std::string stages_place() const { return stages_file.empty() ? std::string("stages") : stages_file; }
};

/// What the run writes, where, and how often it saves.
struct RecipeOutput {
  std::string folder = "distilled";
  std::int64_t save_every = 5;       // steps; 0: only at the end
  std::int64_t keep = 2;             // newest checkpoints that are kept
  std::int64_t evaluate_every = 10;  // steps; 0: only before and after
  SaveRule save = SaveRule::last;    // which state is exported, which checkpoints stay
  bool gguf = false;                 // at the end also write model.gguf: adapter merged, matrices as F16
  /// A checkpoint is saved if the free share of memory falls below this; at 0.4 of this value the run stops. 0: never.
  double memory_floor = 0.1;
  std::string tensorboard{};  // folder of TensorBoard's event files; empty: none
  RecipeResume resume = RecipeResume::automatic;
};

/// A setting as config.yaml has it.
struct DescribedSetting {
  std::string key;
  std::vector<std::string> values;  // one value, or those of a list
  enum class Form : std::uint8_t { plain, text, list } form = Form::plain;
  std::string unit{};

  /// Returns the values with a blank between them.
  std::string text() const;
};

/// All settings of a distillation. The names in describe() are those of the command line.
struct RecipeSettings {
  RecipeModels models{};
  RecipeStudent student{};
  RecipeObjective objective{};
  RecipeText text{};
  RecipeTraining training{};
  RecipeOutput output{};
  std::uint64_t seed = 1;  // of the order of the text, the sampler and new adapters
  /// Settings of the caller that are recorded with the run, in config.yaml and among the facts. They must be equal when
  /// the run continues, except those that change no number (free_recipe_setting).
  std::vector<DescribedSetting> recorded{};

  LoraSettings adapter() const;
  /// True if a new adapter starts where it undoes most of the rounding.
  bool compensates() const {
    return student.trains == RecipeTrains::lora && student.rounded && models.student_adapter.empty() &&
           student.start != RecipeAdapterStart::zero;
  }
  /// Returns the peak of the learning rate: the given one, else 1e-3, or 2e-4 if the adapter starts compensated: large
  /// steps would throw off a student that is near its teacher already (docs/decisions/008).
  double peak_rate() const {
    if (training.learning_rate > 0) return training.learning_rate;
    return compensates() ? 2e-4 : 1e-3;
  }
};

/// Throws SettingsError for combinations that make no sense or are not built. The message names the setting and says
/// what to do.
void check_recipe(const RecipeSettings& settings);

/// Returns every setting with its value, under the names of the program's options, in a fixed order; `recorded` is
/// last.
std::vector<DescribedSetting> describe(const RecipeSettings& settings);
/// True for settings that may differ between two attempts of one run, since they change no number of the run.
bool free_recipe_setting(const std::string& key);

namespace detail {
/// Returns the value of --lora-targets.
std::vector<std::string> target_words(const LoraSettings& adapter);
}  // namespace detail

KDLIB_NAMESPACE_END

#include "kdlib/recipe/settings_words_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/settings_inl.hpp"
#endif

#endif
