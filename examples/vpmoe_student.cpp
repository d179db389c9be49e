// SPDX-License-Identifier: Apache-2.0
// gpt-oss-20b teaches a student of the vpMoE layout: 80 layers of 256 small experts, 4 active, one shared. All its
// weights are trained, on text that the student writes half of the time, with the experts that wrote it. `--dry-run
// --device H200` plans it, `--scale tiny --random-weights` runs it here. With --stage the student learns from rows of
// thoughts in three stages instead: given text, text weighted by the teacher's confidence, own text.
#include <string_view>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/tools/distil_pair.hpp"
#include "kdlib/tools/model_files.hpp"
#include "kdlib/tools/reasoning_run.hpp"

namespace kd = kdlib;

namespace {

int run_pair(int argc, char** argv) {
  kd::DistilPair pair;
  pair.program = "vpmoe_student";
  pair.purpose =
      "Distils gpt-oss-20b into a student of the vpMoE layout (widths chosen); plans the run for this CPU or a named "
      "GPU without any weights. With --stage it trains from rows of thoughts in three stages: --stage all --help.";
  pair.teacher_name = "gpt-oss-20b";
  pair.student_name = "vpMoE (widths chosen)";
  pair.teacher = kd::gpt_oss_20b_config();
  pair.student = kd::vpmoe_config();
  pair.defaults.student.rounded = false;
  pair.defaults.student.trains = kd::RecipeTrains::all;
  pair.defaults.text.lambda = 0.5;
  pair.defaults.text.replay_routing = true;
  pair.defaults.training.learning_rate = 3e-4;
  pair.defaults.text.max_new_tokens = 512;
  pair.defaults.training.recompute = true;
  return kd::PlainProgramTypes::with([&]<class... Types>() { return kd::run_distil_pair<Types...>(argc, argv, pair); });
}

int run_stages(int argc, char** argv) {
  kd::start_process();
  kd::ReasoningSettings s;
  kd::Options options{"vpmoe_student", "Trains a student from rows of thoughts (synth's token files) in three stages."};
  kd::add_reasoning_options(options, s);
  options.parse(argc, argv);
  s.fraction_given = options.given("fraction");
  s.min_reasoning_given = options.given("min-reasoning");
  options.check_needs({{{"device"}, s.dry_run, "it names the machine that --dry-run plans for"}});
  kd::check_reasoning_settings(s);
  if (s.dry_run) return std::printf("%s", kd::reasoning_plan(s).c_str()), 0;
  kd::start_threads(s.threads);
  return kd::ReasoningRun<kd::Cpu, float>(s).run();
}

}  // namespace

int main(int argc, char** argv) try {
  bool stages = false;
  for (int i = 1; i < argc; ++i)
    stages = stages || std::string_view(argv[i]) == "--stage" || std::string_view(argv[i]).starts_with("--stage=");
  return kd::finish(stages ? run_stages(argc, argv) : run_pair(argc, argv));
} catch (const std::exception& error) {
  return kd::report(error);
}
