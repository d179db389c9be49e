// SPDX-License-Identifier: Apache-2.0
// The command line of `distil`: options with the defaults of the recipe, and the translation of their words into the
// recipe's settings.
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

/// The words of a command line that describe the rounding of a model.
struct RoundingWords {
  std::string kind = "int4";  // "none": no rounding
  std::string rule = "symmetric";

  bool rounds() const { return kind != "none"; }
  /// Writes kind and rule into `format`, which already holds the numbers. ConfigError: there is no such kind.
  void apply(QuantizeSettings& format) const;
  /// Returns the format that words and numbers give. mxfp4 always has groups of 32.
  QuantizeSettings format(QuantizeSettings numbers) const;
  /// Returns what --group-size, --quantize-rule and --double-quant need. `unrounded` is the reason why none of them has
  /// an effect without a rounding.
  std::vector<OptionNeeds> needs(const char* unrounded) const;
};

/// The program around the command line: `distil`, or a program that brings its own models and needs no --teacher.
struct DistilProgram {
  std::string name = "distil";
  std::string purpose =
      "Distils a student from a frozen teacher: a divergence or a weighted sum of losses of every answer token, on "
      "text "
      "that the teacher or the student writes.";
  bool needs_teacher = true;
};

/// One command line. Options with numbers and paths are bound to the recipe's settings, options with words to members
/// of this class.
class DistilCommand {
 public:
  explicit DistilCommand(const DistilProgram& program = {}, RecipeSettings defaults = {});
  DistilCommand(const DistilCommand&) = delete;
  DistilCommand& operator=(const DistilCommand&) = delete;

  /// The options, to which a program may add its own before parse(). These are recorded with the run.
  Options& options() { return options_; }

  /// UsageError and HelpRequested as in Options::parse. UsageError: an option would have no effect. SettingsError,
  /// naming the option and what to do: a combination makes no sense, or the program was built without a part that it
  /// needs.
  void parse(int argc, const char* const* argv);

  RecipeSettings& settings() { return settings_; }
  const std::string& device() const { return device_; }
  const std::string& dtype() const { return dtype_; }
  /// The device and the scalar type with which models are loaded. These are the values of the options or, for a plan
  /// that uses the data sheet of an accelerator, "cpu" and "auto".
  std::string session_device() const { return for_data_sheet() ? "cpu" : device_; }
  std::string session_dtype() const { return for_data_sheet() ? "auto" : dtype_; }
  /// Records the type that `auto` of --dtype became. A resumed run must use the same type.
  void settle_dtype(const char* dtype);
  bool dry_run() const { return dry_run_; }
  bool json() const { return json_; }
  const std::vector<std::string>& tasks() const { return tasks_; }  // tasks of --evaluate-tasks
  const std::string& task_data() const { return task_data_; }
  std::int64_t task_limit() const { return task_limit_; }
  const std::string& status_file() const { return status_file_; }
  double comm_timeout() const { return comm_timeout_; }  // seconds that a rank waits for others
  /// The number of ranks that only hold the teacher; 0: each rank has its own teacher.
  int teacher_ranks() const { return static_cast<int>(scale_.teachers); }
  /// Prints a plan. If --ranks or --teacher-ranks ask for it, also prints how several ranks divide a step.
  void print(const RecipePlan& plan) const;
  int threads() const { return threads_; }  // 0: all CPUs that the process may use

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

/// Sets the files of prompts and held-out prompts that come with the programs, if the settings need such files and name
/// none. The files are in the folder that the environment variable KDLIB_DATA_DIR names, or else where the programs
/// were built. ConfigError: the files do not exist.
void fill_bundled_text(RecipeText& text);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/distil_checks_inl.hpp"
#include "kdlib/tools/distil_options_inl.hpp"
#endif

#endif
