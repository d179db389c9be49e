// SPDX-License-Identifier: Apache-2.0
// Qwen2.5-32B teaches Qwen2.5-7B through LoRA on all linear layers. `--dry-run --device H200` plans it, `--scale tiny
// --random-weights` runs it here.
#include "kdlib/backend/cpu.hpp"
#include "kdlib/tools/distil_pair.hpp"

namespace kd = kdlib;

int main(int argc, char** argv) try {
  kd::DistilPair pair;
  pair.program = "qwen_32b_to_7b";
  pair.purpose =
      "Distils Qwen2.5-32B into Qwen2.5-7B with LoRA; plans the run for this CPU or a named GPU without any weights.";
  pair.teacher_name = "Qwen2.5-32B";
  pair.student_name = "Qwen2.5-7B";
  pair.teacher = kd::qwen2_5_32b_config();
  pair.student = kd::qwen2_5_7b_config();
  pair.defaults.student.rounded = false;
  pair.defaults.student.adapter.rank = 32;
  pair.defaults.student.adapter.alpha = 64;
  pair.defaults.training.learning_rate = 2e-4;
  pair.defaults.text.max_new_tokens = 512;
  return kd::finish(
      kd::PlainProgramTypes::with([&]<class... Types>() { return kd::run_distil_pair<Types...>(argc, argv, pair); }));
} catch (const std::exception& error) {
  return kd::report(error);
}
