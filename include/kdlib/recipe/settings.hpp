// SPDX-License-Identifier: Apache-2.0
// What a distillation is told: models, what is trained of the student, the objective, the text, the steps, the folder.
// The defaults are the recipe that `distil` runs. Choices are enumerations; tools/ knows how a command line spells
// them.
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

/// What of the student is trained.
enum class RecipeTrains : std::uint8_t {
  lora,      // an adapter beside the weights or codes
  qat_lora,  // an adapter inside the rounding, Q(W + s B A)
  all,       // every weight; linear maps through their codes where the student is rounded
  scales     // the scales of the codes
};
/// Where a new adapter starts.
enum class RecipeAdapterStart : std::uint8_t {
  automatic,  // compensate beside codes, else zero
  zero,       // PEFT's: A random, B zero, so that the student is the model without it
  compensate  // where it undoes most of the rounding (compensate_rounding)
};
/// What becomes of an earlier run in the folder.
enum class RecipeResume : std::uint8_t {
  automatic,  // it is continued, or its result is answered
  no          // what it left is removed
};

/// The word for each value, as command lines and config.yaml have it.
const char* recipe_word(RecipeTrains value);
const char* recipe_word(RecipeAdapterStart value);
const char* recipe_word(RecipeResume value);
const char* recipe_word(StraightThrough value);
const char* recipe_word(TooLong value);
const char* recipe_word(SaveRule value);
const char* recipe_word(TopKMass value);
const char* recipe_word(Reduction value);
/// The value of a word. ConfigError lists the words there are.
template <class E>
E recipe_value(const std::string& word);

/// A teacher's signal on disk (cache_logits) that the student learns from; the teacher itself is not loaded.
struct RecipeCache {
  std::string folder{};            // empty: none
  std::string validation{};        // a cache of the held-out text; empty: `folder`, where it holds that text
  bool skip_missing = false;       // given text that the cache does not hold is left out, not refused
  std::int64_t top_k = 0;          // tokens of a row that are used of a cache of kind logprobs; 0: all it has
  TopKMass mass = TopKMass::tail;  // how forward_kl and reverse_kl treat the mass outside them
};

/// A teacher that servers have in memory, whose addresses stand in RecipeModels::teacher. What of a row is used:
/// RecipeCache::top_k and mass, as of a cache.
struct RecipeRemote {
  Dialect dialect = Dialect::automatic;
  std::string model{};         // as the server calls it; empty: its only one
  std::string key{};           // the environment variable that holds the servers' key; empty: they need none
  std::int64_t in_flight = 4;  // requests at once to each server
  RemotePrecision precision = RemotePrecision::f32;  // of hidden states
};

/// One of several teachers, which lines of text ask for by name: {"prompt": "...", "teacher": "math"}.
struct RecipeNamedTeacher {
  std::string name;   // letters, digits, '.', '_' and '-'
  std::string place;  // Hugging Face directory, GGUF file, folder of a cache, or URLs of servers with commas between

  bool is_remote() const { return names_servers(place); }
};

/// Teacher, student, adapters and caches.
struct RecipeModels {
  std::string teacher;  // Hugging Face directory or GGUF file, or URLs of servers with commas between; empty: none
  std::string student;  // empty: a copy of the teacher
  // Folders in PEFT's form; empty: none. The teacher's (any kind that apply_adapter takes) is merged into its weights.
  // The student's (any kind that load_adapter takes) is what is trained on, with its own rank, scale and targets.
  std::string teacher_adapter, student_adapter;
  RecipeCache cache{};
  RecipeRemote remote{};
  std::vector<std::string> teachers{};  // instead of `teacher`: "NAME=PLACE" of each (RecipeNamedTeacher)
  std::string otherwise{};              // the one of them for lines that name none; empty: such lines are refused
  bool on_ranks = false;  // ranks of its own hold the teacher (Session::ask_ranks); the others do not load it

  const std::string& student_path() const { return student.empty() ? teacher : student; }
  /// The student learns from what a cache holds. A teacher that is named is compared with it, and not loaded.
  bool cached() const { return !cache.folder.empty(); }
  /// The teacher is on other machines.
  bool is_remote() const { return names_servers(teacher); }
  /// The servers of such a teacher.
  std::vector<std::string> remote_urls() const {
    return is_remote() ? split_urls(teacher) : std::vector<std::string>();
  }
  /// Each line of text has its own of several teachers.
  bool by_row() const { return !teachers.empty(); }
  /// Those teachers. ConfigError: one that is not NAME=PLACE, a name that is given twice.
  std::vector<RecipeNamedTeacher> named_teachers() const;
  /// The student learns from a cache, from servers, from several teachers or from other ranks: nobody but the student
  /// writes text.
  bool apart() const { return cached() || is_remote() || by_row() || on_ranks; }
  /// A teacher is loaded. Without one, and without a cache or a server, the student learns the next token of given text
  /// alone: plain fine-tuning.
  bool taught() const { return !teacher.empty() && !apart(); }
  /// Whose tokenizer and end tokens the text has.
  const std::string& text_model() const { return taught() ? teacher : student_path(); }
};

/// How the student is made from its model, and what of it is trained.
struct RecipeStudent {
  bool rounded = true;        // the linear maps of every layer are rounded to `format` first
  QuantizeSettings format{};  // int4, groups of 64, symmetric
  RecipeTrains trains = RecipeTrains::lora;
  StraightThrough straight_through = StraightThrough::identity;  // of qat_lora and all
  bool merge = false;                                            // lora on codes: at the end also rounded together
  LoraSettings adapter{.rank = 16, .alpha = 32};                 // its seed is RecipeSettings::seed
  RecipeAdapterStart start = RecipeAdapterStart::automatic;

  /// There is an adapter, beside the weights or inside the rounding.
  bool adapts() const { return trains == RecipeTrains::lora || trains == RecipeTrains::qat_lora; }
  /// The format as it is used: mxfp4 always has groups of 32.
  QuantizeSettings rounding() const;
};

/// What is minimised.
struct RecipeObjective {
  LossExpression loss{};  // of each answer token: forward_kl, or a weighted sum
};

/// A file of JSON lines (data/text_lines.hpp).
struct TextFile {
  std::string path;
  bool bundled = false;  // comes with the program: words, which need a tokenizer

  bool empty() const { return path.empty(); }
};

/// What the student learns from and is measured on.
struct RecipeText {
  TextFile prompts;                // answered by the teacher or the student
  TextFile data;                   // given text for the offline part; empty: the teacher answers the prompts, or
                                   // `from_cache`
  bool from_cache = false;         // without `data`: the text of RecipeModels::cache
  TextFile validation;             // held-out prompts or text
  std::int64_t max_prompts = 0;    // only the first ones of the file; 0: all
  std::int64_t samples = 1;        // answers to each prompt
  double lambda = 0;               // share of steps on student-written text, [0, 1]
  double sample_temperature = 1;   // of the sampler, >= 0
  std::int64_t top_k = 0;          // 0: off
  double top_p = 1, min_p = 0;     // 1 and 0: off
  double validation_share = 0;     // above 0: this share of `data`, else of `prompts`, chosen by prompt, is held out
  std::string chat_template{};     // name or file (chat_template_from); empty: the tokenizer's own
  bool raw = false;                // {"prompt"} is text to continue, not a turn of the chat template
  std::int64_t max_length = 1024;  // tokens of prompt and answer, at most what both models were made for
  TooLong too_long = TooLong::refuse;
  std::int64_t max_new_tokens = 112;
  bool accept_truncated_text = false;  // top_k, top_p and min_p may cut what the student writes (decision 004)
  std::string answers{};               // folder where the teacher's answers are kept for other runs; empty: none
  std::int64_t answers_mb = 1024;      // its limit, MiB; the least recently used are removed
  std::vector<std::string> tools{};    // what answers calls of tools in written text (make_tool_host); empty: nothing
  std::int64_t tool_rounds = 4;        // turns of a text with calls that are answered
  std::int64_t tool_tokens = 256;      // of one answer of a tool
  bool replay_routing = false;         // student-written text is trained on with the experts that wrote it

  /// Prompts are read and answered.
  bool writes() const { return (data.empty() && !from_cache) || lambda > 0; }
};

/// Steps, batches and the optimiser.
struct RecipeTraining {
  std::int64_t steps = 30;
  std::int64_t batch = 8;          // sequences of a micro-batch
  std::int64_t micro_batches = 1;  // of a step
  double learning_rate = 0;        // peak, >= 0; 0: RecipeSettings::peak_rate() chooses
  RecipeSchedule schedule = RecipeSchedule::linear;
  std::int64_t warmup = 4;  // steps, at most `steps`
  double warmup_ratio = 0;  // above 0: warm-up as a share of the steps, rounded up, instead of `warmup`
  double weight_decay = 0, beta1 = 0.9, beta2 = 0.999;
  double clip = 1;                           // largest global gradient norm; 0: none
  bool recompute = false;                    // layers run again in the backward pass instead of keeping activations
  std::int64_t workspace = 256;              // MiB for chunks of logits
  double gradient_threshold = 0;             // HeadLossSettings::gradient_threshold, [0, 1)
  Reduction reduce = Reduction::automatic;   // order in which micro-batches are added: tree with several ranks
  std::int64_t write_batch = 0;              // RankSettings::write_batch
  bool shard_optimizer = false;              // RankSettings::shard_optimizer
  std::int64_t teacher_ahead = 0;            // RunSettings::teacher_ahead
  RateGroups groups{};                       // of a run without stages
  std::vector<RecipeStage> stages{};         // one after the other, instead of `steps`; empty: none
  std::string groups_file{}, stages_file{};  // where these were read from, for messages and config.yaml

  /// How messages call the groups and the stages.
  std::string groups_place() const { return groups_file.empty() ? std::string("groups") : groups_file; }
  std::string stages_place() const { return stages_file.empty() ? std::string("stages") : stages_file; }
};

/// What the run leaves, where, and how often it saves.
struct RecipeOutput {
  std::string folder = "distilled";
  std::int64_t save_every = 5;       // steps; 0: only at the end
  std::int64_t keep = 2;             // newest checkpoints
  std::int64_t evaluate_every = 10;  // steps; 0: only before and after
  SaveRule save = SaveRule::last;    // which state is exported, which checkpoints stay
  bool gguf = false;                 // at the end also model.gguf: the adapter merged, matrices as F16
  double memory_floor = 0.1;  // share of memory below which a checkpoint is saved; at 0.4 of it the run stops; 0: never
  std::string tensorboard{};  // folder of TensorBoard's event files; empty: none
  RecipeResume resume = RecipeResume::automatic;
};

/// A setting as config.yaml has it.
struct DescribedSetting {
  std::string key;
  std::vector<std::string> values;  // one, or those of a list
  enum class Form : std::uint8_t { plain, text, list } form = Form::plain;
  std::string unit{};

  /// The values with a blank between them.
  std::string text() const;
};

/// All settings of a distillation; the names of describe() are those of the command line.
struct RecipeSettings {
  RecipeModels models{};
  RecipeStudent student{};
  RecipeObjective objective{};
  RecipeText text{};
  RecipeTraining training{};
  RecipeOutput output{};
  std::uint64_t seed = 1;  // of the order of the text, the sampler, new adapters
  /// Settings of the caller that are recorded with the run: they stand in config.yaml and among the facts and, except
  /// those that change no number (free_recipe_setting), must be equal when the run is continued.
  std::vector<DescribedSetting> recorded{};

  LoraSettings adapter() const;
  /// A new adapter starts where it undoes most of the rounding.
  bool compensates() const {
    return student.trains == RecipeTrains::lora && student.rounded && models.student_adapter.empty() &&
           student.start != RecipeAdapterStart::zero;
  }
  /// The peak of the learning rate: the one that is set, else 1e-3, and 2e-4 where the adapter starts compensated: a
  /// student that is near its teacher already is thrown off by large steps (docs/decisions/008).
  double peak_rate() const {
    if (training.learning_rate > 0) return training.learning_rate;
    return compensates() ? 2e-4 : 1e-3;
  }
};

/// Refuses combinations that make no sense or are not built, naming the setting and what to do. SettingsError.
void check_recipe(const RecipeSettings& settings);

/// Every setting with its value, under the names of the program's options, in a fixed order; `recorded` comes last.
std::vector<DescribedSetting> describe(const RecipeSettings& settings);
/// True for settings that may differ between two attempts of one run, since they change no number of it.
bool free_recipe_setting(const std::string& key);

namespace detail {
/// The value of --lora-targets.
std::vector<std::string> target_words(const LoraSettings& adapter);
}  // namespace detail

KDLIB_NAMESPACE_END

#include "kdlib/recipe/settings_words_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/settings_inl.hpp"
#endif

#endif
