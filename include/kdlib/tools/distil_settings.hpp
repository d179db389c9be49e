// SPDX-License-Identifier: Apache-2.0
// Everything that the program `distil` can be told, with the defaults of its recipe, as a table of options.
#ifndef KDLIB_TOOLS_DISTIL_SETTINGS_HPP
#define KDLIB_TOOLS_DISTIL_SETTINGS_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kdlib/nn/lora.hpp"
#include "kdlib/quant/coded_data.hpp"
#include "kdlib/tools/options.hpp"

KDLIB_NAMESPACE_BEGIN

struct DistilSettings {
  // models
  std::string teacher;            // HF directory or GGUF file
  std::string student;            // empty: a copy of the teacher
  std::string quantize = "int4";  // of the student's linear layers
  std::string quantize_rule = "symmetric";
  int group_size = 64;        // weights that share a scale
  bool double_quant = false;  // nf4, fp4: scales in 8 bits
  std::string train = "lora";
  std::string straight_through = "identity";
  bool merge = false;  // lora on codes: also round the sum and write it
  int lora_rank = 16;
  double lora_alpha = 32;
  std::vector<std::string> lora_targets{"all-linear"};
  // loss
  std::string loss = "forward_kl";
  double beta = 0.5;              // jsd: weight of the teacher in the mixture, [0, 1]
  double temperature = 1;         // of the loss, > 0
  std::optional<bool> t_squared;  // empty: on where the temperature is not 1
  // text
  double lambda = 0;              // share of steps on student-written text, [0, 1]
  double sample_temperature = 1;  // of the sampler, >= 0
  int top_k = 0;                  // 0: off
  double top_p = 1, min_p = 0;
  std::string prompts, data, validation;
  int max_length = 1024;  // tokens of prompt and answer
  int max_new_tokens = 112;
  bool replay_routing = false;  // student-written text is trained on with the experts that wrote it
  // training
  int steps = 30, batch = 8, micro_batches = 1;
  double learning_rate = 1e-3;
  std::string schedule = "linear";
  int warmup = 4;
  double weight_decay = 0, beta1 = 0.9, beta2 = 0.999, clip = 1;
  bool recompute = false;
  int workspace = 256;  // MiB for chunks of logits
  // output
  std::string out = "distilled";
  int save_every = 5, keep = 2, evaluate_every = 10;
  std::string preset = "fast", resume = "auto";
  bool dry_run = false;
  std::string device = "cpu";  // of --dry-run: cpu or a name of tools/machines.hpp
  int threads = 0;             // 0: all CPUs of the process
  std::uint64_t seed = 1;

  /// There is an adapter, beside the weights or inside the rounding.
  bool adapts() const { return train == "lora" || train == "qat_lora"; }
  /// What --lora-* and --seed ask for; the word routers in the list means the routers of mixtures.
  LoraSettings adapter() const;
  /// What --quantize and its companions ask for; mxfp4 always has groups of 32.
  QuantizeSettings quantizer() const;
  const std::string& student_path() const { return student.empty() ? teacher : student; }
};

/// Who asks: the program `distil`, or one that brings its own models and needs no --teacher.
struct DistilProgram {
  std::string name = "distil";
  std::string purpose =
      "Distils a student from a frozen teacher: forward or reverse KL or JSD of every answer token, on text that the "
      "teacher or the student writes.";
  bool needs_teacher = true;
};

/// Binds every setting to its option. `settings` must outlive the result.
Options distil_options(DistilSettings& settings, const DistilProgram& program = {});

/// Refuses combinations that make no sense or are not built yet, naming the option and what to do. Throws ConfigError.
void check_distil_settings(const DistilSettings& settings, const Options& options);

KDLIB_NAMESPACE_END

#include "kdlib/tools/distil_settings_inl.hpp"

#endif
