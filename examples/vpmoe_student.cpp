// SPDX-License-Identifier: Apache-2.0
// gpt-oss-20b teaches a student of the vpMoE layout: 80 layers of 256 small experts, 4 active, one shared. All its
// weights are trained, on text that the student writes half of the time, with the experts that wrote it. `--dry-run
// --device H200` plans it, `--scale tiny --random-weights` runs it here.
#include "kdlib/backend/cpu.hpp"
#include "kdlib/tools/distil_pair.hpp"

namespace kd = kdlib;

int main(int argc, char** argv) try {
  kd::DistilPair pair;
  pair.program = "vpmoe_student";
  pair.purpose =
      "Distils gpt-oss-20b into a student of the vpMoE layout (widths chosen); plans the run for this CPU or a named "
      "GPU without any weights.";
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
  return kd::finish(kd::run_distil_pair<kd::SessionType<kd::Cpu, float>>(argc, argv, pair));
} catch (const std::exception& error) {
  return kd::report(error);
}
