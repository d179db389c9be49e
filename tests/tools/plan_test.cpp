// SPDX-License-Identifier: Apache-2.0
// What big models cost, counted from configurations: against the models that are built from them, published counts, and
// numbers by hand.
#include <chrono>
#include <cmath>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/checkpoint/hf_experts.hpp"
#include "kdlib/kdlib.hpp"
#include "kdlib/model/adapter.hpp"
#include "kdlib/recipe/plan.hpp"
#include "kdlib/tools/known_configs.hpp"
#include "kdlib/tools/scale_text.hpp"
#include "model/golden.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

namespace {

std::vector<DecoderConfig> small_configs() {
  std::vector<DecoderConfig> list;
  for (const Family family :
       {Family::llama, Family::qwen2, Family::qwen3, Family::qwen3_moe, Family::qwen2_moe, Family::gpt_oss})
    list.push_back(golden_config(family));
  for (const DecoderConfig& big : {qwen2_5_32b_config(), qwen2_5_7b_config(), gpt_oss_20b_config(), vpmoe_config()})
    list.push_back(tiny_config(big));
  DecoderConfig mixed = golden_config(Family::qwen3_moe);  // dense and sparse layers
  mixed.sparse = {0, 1};
  list.push_back(mixed);
  return list;
}

double part(const RecipePlan& plan, const std::string& begin) {
  for (const auto& [name, bytes] : plan.memory)
    if (name.rfind(begin, 0) == 0) return bytes;
  return -1;
}

}  // namespace

TEST_CASE("counts from a configuration are those of the model that is built from it", "[tools][plan]") {
  for (const DecoderConfig& config : small_configs()) {
    CAPTURE(family_name(config.family), config.layers);
    Model model = Model::from_config(config, 1);
    std::int64_t parameters = 0, experts = 0, linears = 0;
    for (const auto* p : model.parameters()) {
      parameters += p->value.count();
      if (detail::is_expert_tensor(p->name) && !p->name.ends_with("_bias")) experts += p->value.count();
    }
    const std::vector<LinearShape> shapes = linear_shapes(config);
    const auto maps = model.linears();
    REQUIRE(shapes.size() == maps.size());
    for (std::size_t i = 0; i < maps.size(); ++i) {
      CHECK((shapes[i].path == maps[i]->path && shapes[i].in == maps[i]->in && shapes[i].out == maps[i]->out));
      linears += maps[i]->in * maps[i]->out;
    }
    const ModelCost cost = model_cost(config);
    CHECK(config.parameter_count() == parameters);
    CHECK(cost.parameters == static_cast<double>(parameters));
    CHECK(cost.experts == static_cast<double>(experts));
    CHECK(cost.linears == static_cast<double>(linears));
    for (const LoraSettings& lora : {LoraSettings{.rank = 3}, LoraSettings{.rank = 5, .targets = {"q_proj", "v_proj"}},
                                     LoraSettings{.rank = 2, .targets = {"o_proj"}, .routers = true}}) {
      if (lora.routers && config.mixtures() == 0) continue;
      add_lora(model, lora);
      std::int64_t trained = 0;
      for (const auto* p : model.parameters()) trained += p->trainable ? p->value.count() : 0;
      CHECK(lora_parameter_count(config, lora) == trained);
      remove_adapter(model);
    }
  }
}

TEST_CASE("the big configurations have the published numbers of parameters", "[tools][plan]") {
  CHECK(qwen2_5_7b_config().parameter_count() == 7615616512);
  CHECK(qwen2_5_32b_config().parameter_count() == 32763876352);
  CHECK(gpt_oss_20b_config().parameter_count() == 20914757184);
  CHECK(gpt_oss_120b_config().parameter_count() == 116829156672);
  // vpMoE with the chosen widths. A layer: two norms; q, o [1024, 1024]; k, v [256, 1024]; router [256, 1024]; 256
  // experts and a shared one of three maps; its gate.
  const std::int64_t h = 1024, layer = 2 * h + 2 * h * h + 2 * 256 * h + 256 * h + 256 * 3 * h * 128 + 3 * h * 512 + h;
  CHECK(vpmoe_config().parameter_count() == 80 * layer + h + 2 * 201088 * h);
  CHECK(vpmoe_config().active_parameter_count() == 80 * (layer - 252 * 3 * h * 128) + h + 2 * 201088 * h);
  CHECK(vpmoe_config().layers == 80);
  CHECK(vpmoe_config().moe.experts == 256);
  CHECK(vpmoe_config().moe.active == 4);
  CHECK(vpmoe_config().vocab_size == 201088);
  for (const DecoderConfig& config :
       {qwen2_5_7b_config(), qwen2_5_32b_config(), gpt_oss_20b_config(), gpt_oss_120b_config(), vpmoe_config()})
    config.check("known");
}

TEST_CASE("operations of a token by hand: products, and keys seen through a window", "[tools][plan]") {
  DecoderConfig c = golden_config(Family::llama);  // 2 layers, H 8, I 12, 4 heads of 4, 2 key heads
  const double products = 2 * (2 * 8 * 16 + 2 * 8 * 8 + 3 * 8 * 12);
  CHECK(model_cost(c).layer_flops(9) ==
        2 * products + 2 * 4 * 16 * 5.0);  // positions 0 to 8 see 1 to 9 keys: 5 on average
  c.windows = {3, 0};
  const double seen = (1 + 2 + 3 * 7) / 9.0;
  CHECK(near(model_cost(c).layer_flops(9), 2 * products + 4 * 16 * (5.0 + seen), Tolerance<double>::reduction));
  const ModelCost moe = model_cost(golden_config(Family::qwen3_moe));  // 2 of 4 experts, inner width 6
  CHECK(moe.active_experts == 2 * 2 * 3 * 8 * 6.0);
  CHECK(near(moe.touched_experts(1), moe.active_experts, Tolerance<double>::reduction));
  CHECK(near(moe.touched_experts(2), moe.experts * 0.75, Tolerance<double>::reduction));
}

TEST_CASE("a plan of 32 B to 7 B holds the sums, says what fits where, and takes no memory", "[tools][plan]") {
  const DecoderConfig teacher = qwen2_5_32b_config(), student = qwen2_5_7b_config();
  RecipeSettings s;
  s.student.rounded = false;
  s.student.adapter.rank = 32;
  memory_use<Cpu>().reset_peak();
  const std::int64_t before = memory_use<Cpu>().now;
  const auto planned = [&](const char* device) {
    return plan_recipe(s, {teacher, student}, assumed_machine(find_accelerator(device), teacher));
  };
  const RecipePlan h200 = planned("h200");
  const double trained = 32.0 * 28 * (2 * (3584 + 3584) + 2 * (3584 + 512) + 3 * (3584 + 18944));
  CHECK(h200.trained_parameters == trained);
  CHECK(part(h200, "teacher's weights") == 2 * 32763876352.0);
  CHECK(part(h200, "student's weights") == 2 * 7615616512.0);
  CHECK(part(h200, "adapters") == 2 * trained);
  CHECK(part(h200, "gradients") == 2 * trained);
  CHECK(part(h200, "optimiser") == 8 * trained);
  CHECK(part(h200, "KV cache") == 32 * (64 + 112) * 2.0 * 8 * 128 * 64 * 2);
  CHECK(part(h200, "loss workspace") == 256 * 1048576.0);
  const double named = 2 * 32763876352.0 + 2 * 7615616512.0 + (2 + 2 + 8) * trained +
                       32 * (64 + 112) * 2.0 * 8 * 128 * 64 * 2 + 256 * 1048576.0;
  CHECK(near(h200.memory_bytes(), named + part(h200, "activations"), Tolerance<double>::reduction));
  CHECK(h200.memory_bytes() > named);
  CHECK(h200.fits());
  CHECK_FALSE(planned("H100").fits());
  CHECK_FALSE(planned("rtx-4090").fits());
  CHECK_THAT(planned("rtx 4090").text(),
             contains("RTX 4090: it does not fit into") && contains("assumed: 40 % of 165 TFLOP/s"));
  CHECK_THAT(h200.text(), contains("32 763 876 352") && contains("H200: it fits into") &&
                              contains("student, training step") && contains("teacher, forward"));
  CHECK(h200.step_seconds > 0);
  CHECK(near(planned("a100").step_seconds, h200.step_seconds * 989 / 312, Tolerance<double>::reduction));
  CHECK(near(planned("h100").writing_seconds / h200.writing_seconds, 4.8 / 3.35,
             0.05));  // reading weights decides, and a little the prompts
  CHECK(memory_use<Cpu>().peak == before);
  CHECK_THROWS_WITH(find_accelerator("TPU"), contains("expected cpu or one of H100, H200, A100, L40S, RTX 4090"));
}

TEST_CASE("the time of a step grows with what is trained, and a packed student is smaller", "[tools][plan]") {
  const DecoderConfig config = golden_config(Family::llama);
  PlanMachine machine;
  machine.flops = 1e9;
  machine.bandwidth = 1e9;
  RecipeSettings s;
  s.student.rounded = false;
  const RecipePlan lora = plan_recipe(s, {config, config}, machine);
  s.student.trains = RecipeTrains::all;
  const RecipePlan all = plan_recipe(s, {config, config}, machine);
  s.training.recompute = true;
  const RecipePlan again = plan_recipe(s, {config, config}, machine);
  CHECK(all.training_flops > lora.student_flops);
  CHECK(all.trained_parameters == static_cast<double>(config.parameter_count()));
  CHECK(again.step_flops > all.step_flops);
  CHECK(part(again, "activations") < part(all, "activations"));
  s = {};
  const RecipePlan packed = plan_recipe(s, {config, config, true}, machine);
  CHECK(part(packed, "student's linear layers, int4") == model_cost(config).linears * (0.5 + 4.0 / 64));
  CHECK(part(packed, "student's other weights") == -1);
  s.text.lambda = 1;
  CHECK(plan_recipe(s, {config, config}, machine).writing_seconds > 0);
}

TEST_CASE("weights that stay in their files are planned with their bytes there, once", "[tools][plan]") {
  const DecoderConfig config = golden_config(Family::llama);
  PlanMachine machine;
  machine.flops = machine.bandwidth = 1e9;
  RecipeSettings s;
  s.student.rounded = false;
  const RecipePlan decoded = plan_recipe(s, {config, config}, machine);
  PlannedModels models{config, config};
  models.teacher_file = {1000, 2000};  // bfloat16
  models.student_file = {800, 450};    // blocks of 32 values in 18 bytes
  const RecipePlan mapped = plan_recipe(s, models, machine);
  CHECK(part(decoded, "teacher's weights, mapped") == -1);
  CHECK(part(mapped, "teacher's weights, mapped from its file") == 2000);
  CHECK(part(mapped, "student's weights, mapped from its file") == 450);
  CHECK(mapped.memory_bytes() == decoded.memory_bytes() - 4 * 1800 + 2450);
}

TEST_CASE("the memory of this machine is known", "[tools][plan]") {
  CHECK(available_memory() > 1e6);
  CHECK(free_disk("/nowhere/at/all") > 0);
}

TEST_CASE("a plan for ranks divides the plan for one, and says what the network costs", "[tools][plan]") {
  const DecoderConfig teacher = qwen2_5_32b_config(), student = qwen2_5_7b_config();
  RecipeSettings s;
  s.student.rounded = false;
  s.student.adapter.rank = 16;
  s.training.micro_batches = 8;
  s.text.lambda = 1;
  const RecipePlan plan = plan_recipe(s, {teacher, student}, assumed_machine(find_accelerator("H200"), teacher));
  const auto planned = [&](const ScaleWords& words) { return plan_scale(scale_inputs(plan, s, words)); };
  const double training = plan.step_seconds * (1 - plan.teacher_step_flops / plan.step_flops),
               scoring = plan.step_seconds - training;
  const ScalePlan one = planned({});
  CHECK(near(one.step, plan.step_seconds + plan.writing_seconds, 1e-12));
  CHECK(one.reduce == 0);
  // Two machines on a wire: half of the work each, and 4 bytes a trained number.
  const ScalePlan two = planned({.ranks = 2, .link = "10Gbit", .latency = "1ms"});
  CHECK(near(two.train, training / 2, 1e-12));
  CHECK(near(two.score, scoring / 2, 1e-12));
  CHECK(near(two.reduce, 4 * plan.trained_parameters / 1.25e9 + 0.002, 1e-12));
  // On one machine they share its rate.
  CHECK(near(planned({.ranks = 2}).train, training, 1e-12));
  // Teachers apart: hidden states of 5120 numbers, and no weights of the teacher in a rank.
  const ScaleWords apart{.ranks = 2, .teachers = 1, .link = "1Gbit", .latency = "0ms"};
  const ScaleInputs in = scale_inputs(plan, s, apart);
  CHECK(in.row_bytes == 5120 * 4);
  CHECK(near(planned(apart).score, scoring, 1e-12));
  CHECK(near(rank_memory(plan, in), plan.memory_bytes() - part(plan, "teacher's weights"), 1e-9));
  CHECK_THAT(scale_text(plan, in, apart), contains("a step on 2 ranks and 1 that only hold the teacher") &&
                                              contains("network of 1Gbit, 0ms") && contains("bounded by"));
  CHECK(Json::parse(plan.json(scale_json(plan, in)), "plan").at("ranks").at("teachers_apart").as_double() == 1);
  CHECK_THROWS_WITH(scale_inputs(plan, s, {.ranks = 9}), contains("--micro-batches 9 or more"));
  CHECK_THROWS_WITH(scale_inputs(plan, s, {.teachers = 1}), contains("--link 1Gbit"));
}
