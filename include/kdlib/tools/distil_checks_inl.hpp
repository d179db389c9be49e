// SPDX-License-Identifier: Apache-2.0
// Bodies of distil_options.hpp: words that become settings, options that would have no effect or do not go together,
// what is recorded with the run, the losses of the schema, the text that comes with the programs.
#ifndef KDLIB_TOOLS_DISTIL_CHECKS_INL_HPP
#define KDLIB_TOOLS_DISTIL_CHECKS_INL_HPP

#include <algorithm>
#include <cstdlib>

#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/jsonl.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/recipe/objective.hpp"
#include "kdlib/tools/distil_options.hpp"
#include "kdlib/tools/output_lock.hpp"
#include "kdlib/tools/stages_file.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// False where a file of text is known to hold no prompt, which somebody would answer. A file that cannot be read is
/// left to whoever reads it.
KDLIB_TOOLS_FUNC bool may_hold_prompts(const TextFile& file) {
  if (file.empty() || file.bundled) return true;
  try {
    for (JsonlReader lines(file.path); const std::optional<Json> line = lines.next();) {
      if (line->contains("prompt") || line->contains("prompt_ids")) return true;
      const std::optional<Json> turns = line->find_set("messages");
      if (turns && (turns->size() == 0 || (*turns)[turns->size() - 1].string_or("role", "") != "assistant"))
        return true;
    }
    return false;
  } catch (const Error&) {
    return true;
  }
}

/// The sampler, and who writes with it. `asked`: an option of the sampler was given, so that a file may be looked into.
KDLIB_TOOLS_FUNC std::vector<OptionNeeds> text_needs(const RecipeSettings& s, bool asked) {
  const RecipeText& t = s.text;
  const bool held_out_prompts = s.models.taught() && t.validation_share == 0;
  const bool written = t.writes() || (held_out_prompts && (!asked || may_hold_prompts(t.validation)));
  const bool read = !t.from_cache || (t.validation_share == 0 && !t.validation.empty());
  const std::string nobody = s.models.taught() ? "all text is given (--data), and nobody writes any"
                                               : "without a teacher in memory nobody writes text";
  return {{{"prompts", "max-prompts", "samples"}, t.writes(), "with given text and --lambda 0 no prompts are read"},
          {{"sample-temperature", "top-k", "top-p", "min-p", "max-new-tokens"}, written, nobody},
          {{"top-k", "top-p", "min-p"},
           t.sample_temperature > 0,
           "at --sample-temperature 0 the most probable token is taken, whatever they leave"},
          {{"accept-truncated-text", "replay-routing"}, t.lambda > 0, "with --lambda 0 the student writes no text"},
          {{"teacher-cache"}, t.answers.empty() || (s.models.taught() && written), nobody},
          {{"tool-rounds", "tool-tokens"}, !t.tools.empty(), "it belongs to --tools"},
          {{"teacher-cache-mb"}, !t.answers.empty(), "it belongs to --teacher-cache DIR"},
          {{"template", "raw", "too-long"}, read, "the text of the cache is ids, and no other text is read"}};
}

KDLIB_TOOLS_FUNC std::vector<OptionNeeds> student_needs(const RecipeSettings& s, const std::string& train) {
  const RecipeStudent& student = s.student;
  const bool through_codes =
      student.rounded && (student.trains == RecipeTrains::qat_lora || student.trains == RecipeTrains::all);
  const std::string own = "the adapter of --student-adapter has its own";
  return {
      {{"straight-through"}, through_codes, "it belongs to --train qat_lora and all with --quantize"},
      {{"lora-rank", "lora-alpha", "lora-targets", "lora-init"},
       student.adapts(),
       concat("--train ", train, " has no adapter; leave out the --lora-* options or use --train lora or qat_lora")},
      {{"lora-rank", "lora-alpha", "lora-targets"}, s.models.student_adapter.empty(), own}};
}

/// Names, fields and ranges of every loss that --loss takes.
KDLIB_TOOLS_FUNC void schema_of_losses(JsonWriter& json) {
  json.key("$defs").begin_object().key("losses").begin_object();
  each_named_loss([&json]<class L>(const std::string& name, const L& loss) {
    json.key(name).begin_object().member("type", "object").member("x-reads", setting_text(needs_of<L>));
    json.member("additionalProperties", false).key("properties").begin_object();
    visit_fields(loss, [&json](const FieldInfo& field, auto& value) {
      using V = std::remove_cvref_t<decltype(value)>;
      constexpr bool is_number = std::is_arithmetic_v<V> && !std::is_same_v<V, bool>;
      json.key(field.name).begin_object();
      json.member("type", std::is_same_v<V, bool> ? "boolean" : is_number ? "number" : "string");
      if constexpr (is_number || std::is_same_v<V, bool>) json.key("default").raw(setting_text(value));
      else if (!field.fixed) json.member("default", setting_text(value));
      if (*field.range != 0) json.member("x-range", field.range);
      if (*field.unit != 0) json.member("x-unit", field.unit);
      json.member("description", field.help).end_object();
    });
    json.end_object().end_object();
  });
  json.end_object().end_object();
}

}  // namespace detail

KDLIB_TOOLS_FUNC void DistilCommand::add_remote() {
  RecipeRemote& remote = settings_.models.remote;
  options_.group("Teacher on another machine")
      .add("teacher-api", teacher_api_, "NAME",
           "what the servers of --teacher URL[,URL...] speak; auto asks them. vllm, sglang and llama_cpp give the most "
           "probable tokens (--teacher-top-k, 20), kdlib (serve --teacher) hidden states, too")
      .choices({"auto", "vllm", "sglang", "llama_cpp", "kdlib"})
      .add("teacher-model", remote.model, "NAME", "what the server calls the teacher (default: its only model)")
      .add("teacher-key", remote.key, "VARIABLE", "environment variable that holds the servers' key")
      .add("teacher-in-flight", remote.in_flight, "N", "requests at once to each server")
      .at_least(1)
      .add("teacher-dtype", teacher_dtype_, "TYPE", "how hidden states travel; bf16 moves the loss by up to 0.002")
      .choices({"f32", "bf16"})
      .add("teacher-ahead", settings_.training.teacher_ahead, "N",
           "steps whose given text is sent to servers or --teacher-ranks ahead of its training", "steps")
      .at_least(0);
  options_.group("Several teachers")
      .add("teachers", settings_.models.teachers, "NAME=MODEL ...",
           "teachers that lines of text ask for by {\"teacher\": \"NAME\"}, instead of --teacher: model directories, "
           "GGUF files, folders of caches or URL[,URL...]; all must have the student's vocabulary")
      .add("teacher-otherwise", settings_.models.otherwise, "NAME",
           "the one of --teachers for lines that name none (default: such lines are refused)");
}

/// Options that were given although nothing would read them, and values that exclude each other.
KDLIB_TOOLS_FUNC void DistilCommand::check() const {
  const Options& options = options_;
  const RecipeStudent& s = settings_.student;
  require<ConfigError>(
      !(s.rounded && s.format.kind == PackedKind::mxfp4) || !options.given("group-size") || s.format.group_size == 32,
      "[distil] --quantize mxfp4 has groups of 32, not of --group-size ", s.format.group_size);
  options.check_needs(
      rounding_.needs(options_.given("quantize")
                          ? "--quantize none rounds nothing"
                          : "the student is not the teacher's model and stays as it is: give --quantize KIND, too"));
  options.check_needs(detail::student_needs(settings_, train_));
  bool asked = false;
  for (const char* name : {"sample-temperature", "top-k", "top-p", "min-p", "max-new-tokens", "teacher-cache"})
    asked = asked || options.given(name);
  options.check_needs(detail::text_needs(settings_, asked));
  const RecipeModels& models = settings_.models;
  const std::vector<RecipeNamedTeacher> named = models.named_teachers();
  const bool asks = models.is_remote() ||
                    std::any_of(named.begin(), named.end(), [](const RecipeNamedTeacher& t) { return t.is_remote(); });
  options.check_needs(
      {{{"missing"}, models.cached() || models.by_row(), "it belongs to --cache"},
       {{"teacher-top-k", "mass"}, models.apart(), "it belongs to --cache, --teachers and --teacher URL"},
       {{"teacher-api", "teacher-model", "teacher-key", "teacher-in-flight", "teacher-dtype"},
        asks,
        "it belongs to --teacher URL"},
       {{"teacher-ahead"}, asks || models.on_ranks, "it belongs to --teacher URL and --teacher-ranks"},
       {{"teacher-otherwise"}, models.by_row(), "it belongs to --teachers"},
       {{"ranks"}, dry_run_, "it belongs to --dry-run; scripts/launch/ranks W starts ranks"},
       {{"link", "latency"}, dry_run_ && scale_.asked(), "it belongs to --dry-run --ranks W"},
       {{"latency"}, !scale_.link.empty(), "without --link the ranks share this machine"},
       {{"status-file"}, !dry_run_, "a dry run has no phases"},
       {{"json"}, dry_run_, "it belongs to --dry-run; a run writes result.json"},
       {{"task-limit"}, !tasks_.empty(), "it belongs to --evaluate-tasks"}});
  require<ConfigError>(settings_.training.stages.empty() || !options.given("steps"),
                       "[distil] --steps is the length of a run without stages; ", settings_.training.stages_file,
                       " says how long each stage is: leave out one of them");
  require<ConfigError>(tasks_.empty() == task_data_.empty(),
                       "[distil] --evaluate-tasks LIST and --task-data DIR belong together");
  require<ConfigError>(!(options.given("warmup") && settings_.training.warmup_ratio > 0),
                       "[distil] --warmup and --warmup-ratio say the same: give one of them");
  require<ConfigError>(!for_data_sheet() || dtype_ != "float32", "[distil] --dry-run --device ", device_,
                       " plans with the data sheet's bfloat16; leave out --dtype float32");
}

/// Everything that the recipe does not know is recorded with the run, in the form of its option.
KDLIB_TOOLS_FUNC void DistilCommand::record() {
  using Form = DescribedSetting::Form;
  settings_.recorded.clear();
  const std::vector<DescribedSetting> known = describe(settings_);
  const std::vector<std::pair<std::string, std::string>> texts = options_.settings();  // one of each item
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const OptionItem& item = options_.items()[i];
    if (item.name == "config" || item.name == "status-file" ||  // these change nothing
        item.name == "beta" || item.name == "temperature" || item.name == "t-squared" || item.name == "alpha" ||
        // what is above is in the loss
        std::any_of(known.begin(), known.end(), [&item](const DescribedSetting& s) { return s.key == item.name; }))
      continue;
    if (item.kind == OptionKind::list)
      settings_.recorded.push_back(
          {item.name, *static_cast<const std::vector<std::string>*>(item.target), Form::list, item.unit});
    else
      settings_.recorded.push_back(
          {item.name, {texts[i].second}, item.kind == OptionKind::text ? Form::text : Form::plain, item.unit});
  }
}

KDLIB_TOOLS_FUNC void DistilCommand::settle_dtype(const char* dtype) {
  for (DescribedSetting& setting : settings_.recorded)
    if (setting.key == "dtype") setting.values = {dtype};
}

namespace detail {

/// The file `name` that comes with the programs.
KDLIB_TOOLS_FUNC TextFile bundled_text(const char* option, const char* name) {
  std::vector<std::string> places;
  if (const char* folder = std::getenv("KDLIB_DATA_DIR")) places.emplace_back(folder);
#if defined(KDLIB_BUNDLED_DATA_DIR)
  places.emplace_back(KDLIB_BUNDLED_DATA_DIR);
#endif
  for (const std::string& place : places)
    if (path_exists(join_path(place, name))) return {join_path(place, name), true};
  fail<ConfigError>("[distil] the bundled file ", name, " is not here; give ", option,
                    " FILE or set KDLIB_DATA_DIR to the folder that holds it");
}

}  // namespace detail

KDLIB_TOOLS_FUNC void fill_bundled_text(RecipeText& text) {
  if (text.validation.empty() && text.validation_share == 0 && !text.from_cache)
    text.validation = detail::bundled_text("--validation", "validation.jsonl");
  if (text.writes() && text.prompts.empty()) text.prompts = detail::bundled_text("--prompts", "prompts.jsonl");
}

/// A copy of the teacher has nothing to learn unless it is rounded; any other student stays as it is unasked.
KDLIB_TOOLS_FUNC void DistilCommand::choose_rounding() {
  const RecipeModels& m = settings_.models;
  const bool copy = m.student_adapter.empty() && m.teacher_adapter.empty() && same_place(m.student_path(), m.teacher);
  if (rounding_.kind == "auto") rounding_.kind = copy ? "int4" : "none";
}

KDLIB_TOOLS_FUNC void DistilCommand::words_to_settings() {
  RecipeStudent& student = settings_.student;
  student.rounded = rounding_.rounds();
  rounding_.apply(student.format);
  student.trains = recipe_value<RecipeTrains>(train_);
  student.straight_through = recipe_value<StraightThrough>(straight_through_);
  student.start = recipe_value<RecipeAdapterStart>(lora_init_);
  settings_.models.remote.dialect = enum_value<Dialect>(teacher_api_).value();
  settings_.models.remote.precision = enum_value<RemotePrecision>(teacher_dtype_).value();
  student.adapter.targets = ModuleChoice();
  student.adapter.routers = false;
  for (const std::string& name : lora_targets_) {
    if (name == "routers") student.adapter.routers = true;
    else if (name == "all-linear") student.adapter.targets.all = true;
    else student.adapter.targets.names.push_back(name);
  }
  OpenLossFields open;
  if (options_.given("temperature")) open.temperature = temperature_;
  if (options_.given("beta")) open.beta = beta_;
  open.t_squared = t_squared_;
  settings_.objective.loss = blended_loss(parse_loss(loss_, open), alpha_);
  loss_ = {settings_.objective.loss.text()};
  RecipeTraining& training = settings_.training;
  training.schedule = recipe_value<RecipeSchedule>(schedule_);
  training.reduce = recipe_value<Reduction>(reduce_);
  if (!training.groups_file.empty())
    training.groups = reading_config_file("--groups", [&] { return read_groups_file(training.groups_file); });
  if (!training.stages_file.empty())
    training.stages = reading_config_file("--stages", [&] { return read_stages_file(training.stages_file); });
  settings_.output.resume = recipe_value<RecipeResume>(resume_);
  settings_.text.too_long = recipe_value<TooLong>(too_long_);
  settings_.output.save = recipe_value<SaveRule>(save_);
  settings_.output.gguf = export_ == "gguf";
  if (settings_.text.answers == "off") settings_.text.answers.clear();
  settings_.models.on_ranks = !dry_run_ && scale_.teachers > 0;
  RecipeCache& cache = settings_.models.cache;
  cache.skip_missing = missing_ == "skip";
  cache.mass = recipe_value<TopKMass>(mass_);
  settings_.text.from_cache = settings_.models.cached() && settings_.text.data.empty();
}

KDLIB_NAMESPACE_END

#endif
