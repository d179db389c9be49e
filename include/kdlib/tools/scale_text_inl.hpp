// SPDX-License-Identifier: Apache-2.0
// Bodies of scale_text.hpp.
#ifndef KDLIB_TOOLS_SCALE_TEXT_INL_HPP
#define KDLIB_TOOLS_SCALE_TEXT_INL_HPP

#include "kdlib/io/json_writer.hpp"
#include "kdlib/recipe/number_text.hpp"
#include "kdlib/tools/scale_text.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Bytes of a row of the teacher's signal: hidden states, or K entries as servers write them (a JSON entry takes about
/// 69 bytes, a binary one 6).
KDLIB_TOOLS_FUNC double signal_bytes(const RecipePlan& plan, const RecipeModels& models) {
  const double k = static_cast<double>(models.cache.top_k);
  const Dialect dialect = models.remote.dialect;
  if (dialect == Dialect::automatic || dialect == Dialect::kdlib)
    return k > 0 ? 6 * k + 8 : plan.teacher.hidden * (models.remote.precision == RemotePrecision::bf16 ? 2 : 4);
  return 69 * (k > 0 ? k : 20);
}

KDLIB_TOOLS_FUNC std::string seconds_line(const std::string& name, double seconds) {
  return plan_line(name, number_text(seconds < 0.1 ? "%.4f s" : "%.2f s", seconds));
}

}  // namespace detail

KDLIB_TOOLS_FUNC ScaleInputs scale_inputs(const RecipePlan& plan, const RecipeSettings& s, const ScaleWords& words) {
  const auto slices = static_cast<std::int64_t>(s.training.micro_batches);
  require<SettingsError>(words.ranks <= slices, "[plan_scale] ", words.ranks,
                         " ranks share the micro-batches of a step, "
                         "and there are ",
                         slices, ": give --micro-batches ", words.ranks, " or more");
  require<SettingsError>(words.teachers == 0 || !words.link.empty(), "[plan_scale] teachers apart (--teacher-ranks ",
                         words.teachers,
                         ") answer over a network: give "
                         "--link, such as --link 1Gbit");
  ScaleInputs in;
  in.ranks = static_cast<double>(words.ranks);
  in.teacher_apart = words.teachers > 0;
  in.teacher_ranks = static_cast<double>(std::max<std::int64_t>(1, words.teachers));
  in.tokens = plan.step_tokens;
  in.rows = plan.counted_tokens;
  in.trained = plan.trained_parameters;
  in.shard_moments = s.training.shard_optimizer;
  in.adapter = true;  // the plan's own counts of operations, put as parameters that 2 and 4 of them stand for
  in.teacher_parameters = plan.teacher_step_flops / (2 * plan.step_tokens);
  in.student_parameters = (plan.step_flops - plan.teacher_step_flops) / (4 * plan.step_tokens);
  const double share = words.link.empty() ? in.ranks : 1;  // of this machine's cores
  in.teacher_flops = in.student_flops = plan.machine.flops / share;
  if (plan.writing_seconds > 0) {
    in.written = plan.counted_tokens;
    in.write_rate = plan.counted_tokens / plan.writing_seconds / share;
  }
  if (in.teacher_apart) in.row_bytes = detail::signal_bytes(plan, s.models);
  in.link = words.link.empty() ? plan.machine.bandwidth : link_bytes(words.link);
  in.latency = latency_seconds(words.latency);
  const std::int64_t most = (slices + words.ranks - 1) / words.ranks;  // of one rank
  in.slices = static_cast<double>(most);
  return in;
}

KDLIB_TOOLS_FUNC double rank_memory(const RecipePlan& plan, const ScaleInputs& in) {
  double bytes = plan.memory_bytes();
  for (const auto& [part, size] : plan.memory) {
    if (in.teacher_apart && part.rfind("teacher's weights", 0) == 0) bytes -= size;
    if (in.shard_moments && part.rfind("optimiser", 0) == 0) bytes -= size * (1 - 1 / in.ranks);
  }
  return bytes;
}

KDLIB_TOOLS_FUNC std::string scale_text(const RecipePlan& plan, const ScaleInputs& in, const ScaleWords& words) {
  using detail::number_text;
  using detail::plan_line;
  using detail::seconds_line;
  const ScalePlan p = plan_scale(in);
  const double alone = plan.step_seconds + plan.writing_seconds;
  const auto count = [](double n) { return number_text("%.0f", n); };
  const auto share = [](double x) { return number_text("%.0f %%", 100 * x); };
  std::string out = concat("a step on ", count(in.ranks), in.ranks > 1 ? " ranks" : " rank");
  out += in.teacher_apart ? concat(" and ", count(in.teacher_ranks), " that only hold the teacher (serve --teacher)")
                          : ", each with the teacher";
  out += words.link.empty() ? ", which share this machine\n"
                            : concat("; network of ", words.link, ", ", words.latency, "\n");
  if (p.write > 0) out += seconds_line("writing text", p.write);
  out += seconds_line("the teacher's passes", p.score);
  if (p.wire > 0) out += seconds_line(concat("its signal, ", count(in.row_bytes), " bytes a row"), p.wire);
  out += seconds_line(concat("training, ", count(in.slices), " micro-batches a rank"), p.train);
  if (p.reduce > 0)
    out += seconds_line(concat("adding gradients of ", detail::grouped_number(in.trained), " numbers"), p.reduce);
  out += plan_line("together", concat(number_text("%.2f s; on one rank ", p.step), number_text("%.2f s: ", alone),
                                      number_text("%.2f times as fast", p.step > 0 ? alone / p.step : 1)));
  out += plan_line("bounded by", p.bottleneck);
  if (in.teacher_apart)
    out += plan_line("idle", concat("teachers ", share(p.teacher_idle), ", students ", share(p.student_idle))) +
           plan_line("teachers that keep up with the students", count(p.balanced_teachers));
  if (p.balanced_row_bytes > 0)
    out += plan_line("signal that the network carries as fast", count(p.balanced_row_bytes) + " bytes a row");
  if (p.local_steps > 1)
    out += plan_line("steps for one addition of gradients, to be a tenth", count(p.local_steps) + " (not built)");
  return out + plan_line("memory of a rank", number_text("%10.3f GiB", rank_memory(plan, in) / detail::plan_gib));
}

KDLIB_TOOLS_FUNC std::string scale_json(const RecipePlan& plan, const ScaleInputs& in) {
  const ScalePlan p = plan_scale(in);
  JsonWriter json(JsonStyle{0, NonFinite::null});
  json.begin_object().member("ranks", in.ranks).member("teachers_apart", in.teacher_apart ? in.teacher_ranks : 0);
  json.member("writing_seconds", p.write).member("teacher_seconds", p.score).member("wire_seconds", p.wire);
  json.member("training_seconds", p.train).member("reduction_seconds", p.reduce).member("step_seconds", p.step);
  json.member("bottleneck", p.bottleneck).member("teacher_idle", p.teacher_idle);
  json.member("student_idle", p.student_idle).member("balanced_teachers", p.balanced_teachers);
  json.member("balanced_row_bytes", p.balanced_row_bytes).member("local_steps", p.local_steps);
  return json.member("memory_bytes", rank_memory(plan, in)).end_object().text();
}

KDLIB_NAMESPACE_END

#endif
