// SPDX-License-Identifier: Apache-2.0
// The command line of `distil`: options with the defaults of the recipe, and how their words become its settings.
#ifndef KDLIB_TOOLS_DISTIL_OPTIONS_HPP
#define KDLIB_TOOLS_DISTIL_OPTIONS_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kdlib/recipe/settings.hpp"
#include "kdlib/tools/options.hpp"
#include "kdlib/tools/scale_text.hpp"

KDLIB_NAMESPACE_BEGIN

/// How a command line says the rounding of a model.
struct RoundingWords {
  std::string kind = "int4";  // none: no rounding
  std::string rule = "symmetric";

  bool rounds() const { return kind != "none"; }
  /// Kind and rule into `format`, which has the numbers. ConfigError: no such kind.
  void apply(QuantizeSettings& format) const;
  /// The format that words and numbers give: mxfp4 always has groups of 32.
  QuantizeSettings format(QuantizeSettings numbers) const;
  /// What --group-size, --quantize-rule and --double-quant need; `unrounded` says why none is read without a rounding.
  std::vector<OptionNeeds> needs(const char* unrounded) const;
};

/// Who asks: the program `distil`, or one that brings its own models and needs no --teacher.
struct DistilProgram {
  std::string name = "distil";
  std::string purpose =
      "Distils a student from a frozen teacher: a divergence or a weighted sum of losses of every answer token, on "
      "text "
      "that the teacher or the student writes.";
  bool needs_teacher = true;
};

/// One command line. Numbers and paths are bound to the settings themselves, words to members of this class.
class DistilCommand {
 public:
  explicit DistilCommand(const DistilProgram& program = {}, RecipeSettings defaults = {});
  DistilCommand(const DistilCommand&) = delete;
  DistilCommand& operator=(const DistilCommand&) = delete;

  /// For options of the program's own, which are recorded with the run; before parse().
  Options& options() { return options_; }

  /// UsageError, HelpRequested as Options::parse; UsageError for options that nothing would read; SettingsError for
  /// combinations that make no sense or are not built, naming the option and what to do.
  void parse(int argc, const char* const* argv);

  RecipeSettings& settings() { return settings_; }
  const std::string& device() const { return device_; }
  const std::string& dtype() const { return dtype_; }
  /// The device and type that models are loaded with: those of the options or, where a plan is for an accelerator's
  /// data sheet, this machine's.
  std::string session_device() const { return for_data_sheet() ? "cpu" : device_; }
  std::string session_dtype() const { return for_data_sheet() ? "auto" : dtype_; }
  /// What `auto` of --dtype became: recorded with the run, which goes on with the same type alone.
  void settle_dtype(const char* dtype);
  bool dry_run() const { return dry_run_; }
  bool json() const { return json_; }
  const std::vector<std::string>& tasks() const { return tasks_; }  // of --evaluate-tasks
  const std::string& task_data() const { return task_data_; }
  std::int64_t task_limit() const { return task_limit_; }
  const std::string& status_file() const { return status_file_; }
  double comm_timeout() const { return comm_timeout_; }  // seconds, of ranks
  /// Ranks that only hold the teacher; 0: each rank has it.
  int teacher_ranks() const { return static_cast<int>(scale_.teachers); }
  /// Prints a plan and, where --ranks or --teacher-ranks ask for one, how several ranks divide its step.
  void print(const RecipePlan& plan) const;
  int threads() const { return threads_; }  // 0: all CPUs of the process

 private:
  void add_models(bool needs_teacher);
  void add_cache();
  void add_remote();
  void add_objective();
  void add_text();
  void add_training();
  void add_ranks();
  void add_output();
  void apply_preset(const std::string& name);
  void choose_rounding();
  void words_to_settings();
  void check() const;
  void record();
  bool for_data_sheet() const { return dry_run_ && device_ != "cpu" && device_ != "cuda"; }

  RecipeSettings settings_;
  bool needs_teacher_ = true;
  RoundingWords rounding_;
  std::string train_, straight_through_, lora_init_, schedule_, resume_, too_long_, save_, export_, missing_, mass_;
  std::string teacher_api_, teacher_dtype_, reduce_, status_file_;
  double comm_timeout_ = 600;
  ScaleWords scale_;
  std::vector<std::string> lora_targets_, tasks_;
  std::vector<std::string> loss_;  // terms
  double beta_ = 0.5, temperature_ = 1, alpha_ = 1;
  std::optional<bool> t_squared_{};
  std::string task_data_;
  std::int64_t task_limit_ = 100;
  std::string preset_ = "fast", device_ = "cpu", dtype_ = "auto";
  bool dry_run_ = false, json_ = false;
  int threads_ = 0;
  Options options_;
};

/// Fills in the files of prompts and held-out prompts that come with the programs where none are named and some are
/// needed: from the folder KDLIB_DATA_DIR of the environment, else where the programs were built. ConfigError where
/// they are not there.
void fill_bundled_text(RecipeText& text);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/distil_checks_inl.hpp"
#include "kdlib/tools/distil_options_inl.hpp"
#endif

#endif
