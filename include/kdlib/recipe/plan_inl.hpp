// SPDX-License-Identifier: Apache-2.0
// Bodies of plan.hpp without template parameters: what is counted, and its text.
#ifndef KDLIB_RECIPE_PLAN_INL_HPP
#define KDLIB_RECIPE_PLAN_INL_HPP

#include <algorithm>

#include "kdlib/io/json_writer.hpp"
#include "kdlib/recipe/number_text.hpp"
#include "kdlib/recipe/plan.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

constexpr double student_writers = 16,
                 teacher_writers = 32;  // sequences decoded together: OnPolicySettings, TeacherWrittenSettings

/// Bytes of a weight in codes, its share of scales and zeros included.
KDLIB_FUNC double packed_bytes(const QuantizeSettings& s) {
  const double bits = code_bits(s.kind), scale = s.kind == PackedKind::mxfp4 || s.double_quantized ? 1 : 4;
  return bits / 8 + scale * (s.rule == Int4Rule::symmetric ? 1 : 2) / static_cast<double>(s.group_size);
}

KDLIB_FUNC std::string grouped_number(double value) {
  std::string digits = number_text("%.0f", value), out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) out += ' ';
    out += digits[i];
  }
  return out;
}

KDLIB_FUNC std::string plan_line(std::string name, const std::string& value) {
  name.resize(std::max<std::size_t>(name.size() + 1, 46), ' ');
  return "  " + name + value + "\n";
}

/// What the device's own context, code and libraries take comes on top.
KDLIB_FUNC std::string counted_text(const CountedSteps& c) {
  const auto gib = [](std::int64_t bytes) { return number_text("%10.3f GiB", static_cast<double>(bytes) / plan_gib); };
  return concat("counted memory of the first ", c.steps, " steps, without the device's context and workspaces\n") +
         plan_line("models", gib(c.loaded.used)) + plan_line("at most in use", gib(c.trained.peak)) +
         plan_line("taken from the device for that", gib(c.trained.reserved));
}

KDLIB_FUNC double linear_bytes(const RecipeSettings& s, const PlanMachine& machine) {
  return !s.student.rounded ? machine.scalar_bytes : packed_bytes(s.student.rounding());
}

/// Seconds to write `tokens` tokens with `together` sequences at a time: each step reads the weights it meets, and
/// multiplies by them.
KDLIB_FUNC double writing_seconds(const ModelCost& model, double tokens, double together, double length,
                                  double weight_bytes, double expert_bytes, const PlanMachine& m) {
  const double steps = tokens / together;
  const double bytes = (model.linears + model.head) * weight_bytes + model.touched_experts(together) * expert_bytes +
                       together * length * model.kv_values * m.scalar_bytes;
  const double flops = together * (model.layer_flops(length) + 2 * model.head);
  return steps * std::max(bytes / m.bandwidth, flops / m.flops);
}

}  // namespace detail

KDLIB_FUNC PlanMachine assumed_machine(const Accelerator& a, const DecoderConfig& teacher) {
  const double products = 0.4, reading = 0.6;
  PlanMachine m;
  m.name = a.name;
  m.flops = products * a.bf16_flops;
  m.bandwidth = reading * a.bandwidth;
  m.memory = a.memory;
  m.dtype = "bfloat16";
  m.scalar_bytes = m.gradient_bytes = m.logit_bytes = 2;
  m.moment_bytes = 4;
  m.teacher_expert_bytes = teacher.family == Family::gpt_oss ? 17.0 / 32 : 2;
  m.basis = concat("assumed: 40 % of ", detail::number_text("%.0f", a.bf16_flops / 1e12), " TFLOP/s bf16, 60 % of ",
                   detail::number_text("%.2f", a.bandwidth / 1e12), " TB/s; bf16 weights",
                   teacher.family == Family::gpt_oss ? ", the teacher's experts in MXFP4" : "",
                   ". What kdlib does on this device has not been measured");
  return m;
}

KDLIB_FUNC double RecipePlan::memory_bytes() const {
  double sum = 0;
  for (const auto& part : memory) sum += part.second;
  return sum;
}

KDLIB_FUNC void RecipePlan::require_fit(const std::string& tag, const std::string& advice) const {
  if (fits()) return;
  const auto gib = [](double bytes) { return detail::number_text("%.1f", bytes / detail::plan_gib); };
  std::string parts;
  for (const auto& part : memory) parts += concat(parts.empty() ? "" : ", ", part.first, " ", gib(part.second));
  fail<ConfigError>(tag, "the run needs about ", gib(memory_bytes()), " GiB of memory, ", gib(machine.memory),
                    " GiB are available (GiB: ", parts, "). ", advice);
}

KDLIB_FUNC std::string RecipePlan::text() const {
  const auto gib = [](double bytes) { return detail::number_text("%10.3f GiB", bytes / detail::plan_gib); };
  const auto gflop = [](double flops) { return detail::number_text("%.3f GFLOP", flops / 1e9); };
  std::string out = "parameters\n";
  for (const auto& [name, model] :
       {std::pair<const char*, const ModelCost*>{"teacher", &teacher}, {"student", &student}}) {
    out += detail::plan_line(name, detail::grouped_number(model->parameters));
    if (model->experts > 0)
      out += detail::plan_line(concat(name, ", met by one token"), detail::grouped_number(model->active));
  }
  out += detail::plan_line("trained", detail::grouped_number(trained_parameters));
  out += "operations for a counted token\n" + detail::plan_line("student, forward", gflop(student_flops)) +
         detail::plan_line("student, training step", gflop(training_flops)) +
         detail::plan_line("teacher, forward", gflop(teacher_flops));
  out += concat("predicted memory, weights and activations in ", machine.dtype, "\n");
  for (const auto& part : memory) out += detail::plan_line(part.first, gib(part.second));
  out += detail::plan_line("total", gib(memory_bytes()));
  if (machine.memory > 0)
    out += detail::plan_line(concat(machine.name, fits() ? ": it fits into" : ": it does not fit into"),
                             gib(machine.memory));
  if (counted) out += detail::counted_text(*counted);
  if (machine.flops <= 0) return out + concat("time on ", machine.name, "\n  ", machine.basis, "\n");
  out += concat("predicted time on ", machine.name, "\n  ", machine.basis, "\n");
  out += detail::plan_line("a step", concat(detail::number_text("%.0f", step_tokens), " tokens, up to ",
                                            detail::number_text("%.0f", counted_tokens), " of them counted; ",
                                            detail::number_text("%.0f", step_flops / 1e9), " GFLOP"));
  out += detail::plan_line("training", detail::number_text("%.2f s a step", step_seconds)) +
         detail::plan_line("writing text", detail::number_text("%.2f s a step", writing_seconds)) +
         detail::plan_line("all steps, before evaluation", duration_text(total_seconds));
  return out;
}

KDLIB_FUNC std::string RecipePlan::json(const std::string& ranks) const {
  JsonWriter json(JsonStyle{2, NonFinite::null});
  json.begin_object().key("parameters").begin_object();
  json.member("teacher", teacher.parameters).member("student", student.parameters);
  json.member("teacher_active", teacher.active).member("student_active", student.active);
  json.member("trained", trained_parameters).end_object();
  json.key("flops_per_counted_token").begin_object();
  json.member("student_forward", student_flops).member("student_training", training_flops);
  json.member("teacher_forward", teacher_flops).end_object();
  json.member("dtype", machine.dtype);
  json.key("memory_bytes").begin_object();
  for (const auto& [part, bytes] : memory) json.member(part, bytes);
  json.member("total", memory_bytes()).end_object();
  if (counted) {
    json.key("counted_bytes").begin_object().member("steps", counted->steps);
    json.member("loaded", counted->loaded.used).member("peak", counted->trained.peak);
    json.member("reserved", counted->trained.reserved).end_object();
  }
  json.key("machine").begin_object().member("name", machine.name).member("rates", machine.basis);
  json.member("flops_per_s", machine.flops).member("bytes_per_s", machine.bandwidth);
  json.member("memory_bytes", machine.memory).member("fits", fits()).end_object();
  json.key("step").begin_object().member("tokens", step_tokens).member("counted_tokens", counted_tokens);
  json.member("flops", step_flops).member("training_seconds", step_seconds);
  json.member("writing_seconds", writing_seconds).end_object();
  if (!ranks.empty()) json.key("ranks").raw(ranks);
  return json.member("total_seconds", total_seconds).end_object().text();
}

namespace detail {

KDLIB_FUNC void plan_memory(RecipePlan& plan, const RecipeSettings& s, const PlannedModels& models, double sequence) {
  const PlanMachine& m = plan.machine;
  const ModelCost &t = plan.teacher, &c = plan.student;
  const bool lora = s.student.adapts(), scales = s.student.trains == RecipeTrains::scales, packed = s.student.rounded;
  const double tokens = s.training.batch * sequence,
               rows = static_cast<double>(s.training.batch) * s.text.max_new_tokens, b = m.scalar_bytes;
  auto& memory = plan.memory;
  // A part of the weights is mapped as its file holds it; the other part is in memory as numbers.
  const auto weights = [&](const char* name, const char* mapped, double all, const WeightsInFile& file) {
    memory.emplace_back(name, std::max(0.0, all - file.weights * b));
    if (file.bytes > 0) memory.emplace_back(mapped, file.bytes);
  };
  weights("teacher's weights", "teacher's weights, mapped from its file",
          (t.linears + t.others) * b + t.experts * m.teacher_expert_bytes, models.teacher_file);
  if (t.folded > 0) memory.emplace_back("teacher's cores times their factors", t.folded * b);
  if (packed)
    memory.emplace_back(concat("student's linear layers, ", packed_kind_name(s.student.format.kind)),
                        c.linears * linear_bytes(s, m));
  if (packed && !lora && !scales) memory.emplace_back("student's linear layers, as trained", c.linears * b);
  if (packed && s.student.trains == RecipeTrains::qat_lora && !models.shared_weights)
    memory.emplace_back("student's linear layers, under the adapters", c.linears * b);
  if (!models.shared_weights)
    weights(packed ? "student's other weights" : "student's weights", "student's weights, mapped from its file",
            (packed ? c.others + c.experts : c.parameters) * b, models.student_file);
  if (lora) memory.emplace_back("adapters", plan.trained_parameters * b);
  if (m.master_bytes > 0) memory.emplace_back("masters of what is trained", plan.trained_parameters * m.master_bytes);
  memory.emplace_back("gradients", plan.trained_parameters * m.gradient_bytes);
  memory.emplace_back("optimiser (two moments)", 2 * plan.trained_parameters * m.moment_bytes);
  double layers = 0, widest = 0;
  for (std::int64_t i = 0; i < models.student.layers; ++i) {
    const double layer = layer_activations(models.student, i, lora);
    layers += layer;
    widest = std::max(widest, layer);
  }
  const double h = static_cast<double>(models.student.hidden_size);
  memory.emplace_back(
      s.training.recompute ? "activations: one layer, and the inputs of all" : "activations of a micro-batch",
      tokens * b * (s.training.recompute ? widest + static_cast<double>(models.student.layers) * h : layers));
  const double length = std::min<double>(sequence, s.text.max_length);
  const double student_cache =
      s.text.lambda > 0 ? std::min<double>(student_writers, s.training.batch) * length * c.kv_values * b : 0;
  const double teacher_cache =
      s.text.data.empty() && s.text.lambda < 1 ? teacher_writers * length * t.kv_values * b : 0;
  memory.emplace_back("KV cache while text is written", std::max(student_cache, teacher_cache));
  memory.emplace_back(
      "loss workspace (at most)",
      std::min(s.training.workspace * 1048576.0,
               rows * static_cast<double>(models.teacher.vocab_size + models.student.vocab_size) * m.logit_bytes));
}

}  // namespace detail

KDLIB_FUNC RecipePlan plan_recipe(const RecipeSettings& s, const PlannedModels& models, const PlanMachine& machine) {
  RecipePlan plan;
  plan.machine = machine;
  plan.teacher = model_cost(models.teacher);
  plan.student = model_cost(models.student);
  const ModelCost &t = plan.teacher, &c = plan.student;
  const bool lora = s.student.adapts(), scales = s.student.trains == RecipeTrains::scales, frozen_head = lora || scales;
  if (scales)
    plan.trained_parameters = c.linears / static_cast<double>(s.student.rounding().group_size) *
                              (s.student.rounding().rule == Int4Rule::affine ? 2 : 1);
  else
    plan.trained_parameters =
        lora ? static_cast<double>(lora_parameter_count(models.student, s.adapter())) : c.parameters;
  const double answered = s.text.tools.empty() ? 0.0 : static_cast<double>(s.text.tool_rounds * s.text.tool_tokens),
               sequence = std::min<double>(models.prompt_tokens + s.text.max_new_tokens + answered, s.text.max_length);
  detail::plan_memory(plan, s, models, sequence);

  // A layer's backward pass costs its forward pass once for the inputs' gradient and, where weights are trained, once
  // more for theirs.
  const bool frozen =
      s.student.trains == RecipeTrains::lora ||
      (s.student.trains == RecipeTrains::qat_lora && s.student.straight_through == StraightThrough::identity);
  const double passes = (frozen ? 2 : 3) + (s.training.recompute ? 1 : 0),
               adapters = lora ? 3 * 2 * plan.trained_parameters : 0;
  const double student_layers = c.layer_flops(sequence), teacher_layers = t.layer_flops(sequence);
  plan.student_flops = student_layers + (lora ? 2 * plan.trained_parameters : 0) + 2 * c.head;
  plan.training_flops = passes * student_layers + adapters + 2 * (frozen_head ? 2 : 3) * c.head;
  plan.teacher_flops = teacher_layers + 2 * t.head;
  plan.step_tokens = s.training.batch * sequence * s.training.micro_batches;
  plan.counted_tokens = static_cast<double>(s.training.batch) * s.text.max_new_tokens * s.training.micro_batches;
  plan.teacher_step_flops = plan.step_tokens * teacher_layers + plan.counted_tokens * 2 * t.head;
  plan.step_flops = plan.step_tokens * (teacher_layers + passes * student_layers + adapters) +
                    plan.counted_tokens * 2 * (t.head + (frozen_head ? 2 : 3) * c.head);
  plan.step_seconds = plan.step_flops / machine.flops;
  const double prompts = plan.step_tokens - plan.counted_tokens, b = machine.scalar_bytes,
               linear = detail::linear_bytes(s, machine);
  if (s.text.lambda > 0)
    plan.writing_seconds +=
        s.text.lambda *
        (detail::writing_seconds(c, plan.counted_tokens, std::min<double>(detail::student_writers, s.training.batch),
                                 sequence, linear, b, machine) +
         prompts * student_layers / machine.flops);
  if (s.text.data.empty() && s.text.lambda < 1)
    plan.writing_seconds +=
        (1 - s.text.lambda) * (detail::writing_seconds(t, plan.counted_tokens, detail::teacher_writers, sequence, b,
                                                       machine.teacher_expert_bytes, machine) +
                               prompts * teacher_layers / machine.flops);
  plan.total_seconds = s.training.steps * (plan.step_seconds + plan.writing_seconds);
  return plan;
}

KDLIB_NAMESPACE_END

#endif
