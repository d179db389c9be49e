// SPDX-License-Identifier: Apache-2.0
// The plan of reasoning_settings.hpp: what three stages cost on one device that trains and seven that write and score.
#ifndef KDLIB_TOOLS_REASONING_PLAN_INL_HPP
#define KDLIB_TOOLS_REASONING_PLAN_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/recipe/machines.hpp"
#include "kdlib/recipe/model_cost.hpp"
#include "kdlib/recipe/number_text.hpp"
#include "kdlib/tools/known_configs.hpp"
#include "kdlib/tools/reasoning_settings.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Numbers that the plan starts from. What is no property of a model or device is an assumption, and printed as one.
struct ReasoningPlan {
  Accelerator device;
  ModelCost student, teacher;
  double helpers = 7;
  double efficiency = 0.4;              // of the device's bf16 operations, for passes over many tokens
  double bandwidth = 0.6;               // of the device's memory bandwidth, for decoding
  double stage_1 = 1e9, stage_2 = 2e9;  // tokens that count
  double scored = 1e9;                  // of stage 2's
  double rows = 75958895;               // of the published conversion of SYNTH
  double prompt = 150, text = 700;      // tokens of a question with its frame, and of a text that is trained on
  double sequences = 256;               // that one device decodes together

  double rate() const { return device.bf16_flops * efficiency; }
};

KDLIB_TOOLS_FUNC std::string short_number(double x) {
  for (const auto& [size, unit] : {std::pair<double, const char*>{1e12, " T"}, {1e9, " B"}, {1e6, " M"}, {1e3, " k"}})
    if (x >= size) return number_text("%.2f", x / size) + unit;
  return number_text("%.3g", x);
}
KDLIB_TOOLS_FUNC std::string hours(double seconds) { return number_text("%.1f h", seconds / 3600); }
KDLIB_TOOLS_FUNC std::string gigabytes(double bytes) { return number_text("%.1f GB", bytes * 1e-9); }

/// "tokens x operations a parameter x parameters / operations a second = hours".
KDLIB_TOOLS_FUNC double add_work(std::string& out, const char* what, double tokens, double factor, double parameters,
                                 double rate, double devices) {
  const double seconds = tokens * factor * parameters / (rate * devices);
  out += concat("  ", what, ": ", short_number(tokens), " tokens x ", number_text("%.0f", factor), " x ",
                short_number(parameters), " active parameters / (", number_text("%.0f", devices), " x ",
                number_text("%.0f", rate * 1e-12), " TFLOP/s) = ", hours(seconds), "\n");
  return seconds;
}

/// Tokens a second of one device that decodes: each step reads every weight that is met, once, and the keys and values.
KDLIB_TOOLS_FUNC double add_writing_rate(std::string& out, const ReasoningPlan& p) {
  const double weights = 2 * (p.student.parameters - p.student.experts + p.student.touched_experts(p.sequences));
  const double keys = 2 * p.student.kv_values * p.sequences * (p.prompt + p.text / 2);
  const double seconds = (weights + keys) / (p.device.bandwidth * p.bandwidth);
  const double rate = p.sequences / seconds;
  out +=
      concat("  a device writes ", number_text("%.0f", p.sequences), " texts side by side: (", gigabytes(weights),
             " of weights + ", gigabytes(keys), " of keys and values) / ",
             number_text("%.2f", p.device.bandwidth * p.bandwidth * 1e-12),
             " TB/s = ", number_text("%.1f ms", 1e3 * seconds), " a token each, ", short_number(rate), " tokens/s\n");
  return rate;
}

KDLIB_TOOLS_FUNC double add_stage_3(std::string& out, const ReasoningPlan& p, const ReasoningSettings& s) {
  const double own = s.opd_tokens, anchors = own * s.plans.anchor_share / (1 - s.plans.anchor_share);
  out += concat("stage 3, ", short_number(own), " tokens of own text, and anchor steps of the same size (share ",
                number_text("%.2f", s.plans.anchor_share), "): ", short_number(anchors), "\n");
  const double rate = add_writing_rate(out, p);
  const double train = add_work(out, "training, 1 device", own + anchors, 6, p.student.active, p.rate(), 1);
  const double read = own * (1 + p.prompt / p.text);
  double best = 0;
  int writers = 0;
  for (int w = 1; w < static_cast<int>(p.helpers); ++w) {
    const double slowest =
        std::max(own / (rate * w), 2 * p.teacher.active * read / (p.rate() * (p.helpers - static_cast<double>(w))));
    if (writers == 0 || slowest < best) best = slowest, writers = w;
  }
  const double write = own / (rate * writers);
  out += concat("  writing: ", short_number(own), " tokens / (", writers, " x ", short_number(rate),
                " tokens/s) = ", hours(write), "\n");
  const double score = add_work(out, "scoring, with the questions", read, 2, p.teacher.active, p.rate(),
                                p.helpers - static_cast<double>(writers));
  const double steps = own / (static_cast<double>(s.rollouts) * p.text);
  const double all = std::max({train, write, score});
  out += concat("  the three overlap: the longest decides, ", hours(all), "; ", short_number(steps), " steps of ",
                s.rollouts, " texts of ", number_text("%.0f", p.text), " tokens, ",
                number_text("%.2f s", all / steps * (1 - s.plans.anchor_share)), " a step\n");
  const double weights = 2 * p.student.parameters;
  out += concat("  an update is published to ", writers, " writers: ", gigabytes(weights), " each, ",
                number_text("%.1f GB/s", weights * writers / (all / steps) * 1e-9),
                " in all; two versions live: ", gigabytes(2 * weights), " a writer\n");
  return all;
}

}  // namespace detail

KDLIB_TOOLS_FUNC std::string reasoning_plan(const ReasoningSettings& s) {
  detail::ReasoningPlan p{find_accelerator(s.device), model_cost(vpmoe_config()), model_cost(gpt_oss_20b_config())};
  using detail::gigabytes;
  using detail::short_number;
  std::string out =
      concat("student vpMoE (widths chosen): ", short_number(p.student.parameters), " parameters, ",
             short_number(p.student.active),
             " met by a token; teacher gpt-oss-20b: ", short_number(p.teacher.parameters), " and ",
             short_number(p.teacher.active), "\n1 ", p.device.name, " trains, ", detail::number_text("%.0f", p.helpers),
             " write and score. Assumed: ", detail::number_text("%.0f %%", 100 * p.efficiency), " of ",
             detail::number_text("%.0f", p.device.bf16_flops * 1e-12), " TFLOP/s in passes, ",
             detail::number_text("%.0f %%", 100 * p.bandwidth), " of ",
             detail::number_text("%.1f", p.device.bandwidth * 1e-12), " TB/s in decoding, questions of ",
             detail::number_text("%.0f", p.prompt), " tokens, texts of ", detail::number_text("%.0f", p.text),
             ". Nothing here was measured on such a machine.\n");
  double all = 0;
  out += "stage 1\n";
  all += detail::add_work(out, "training, 1 device", p.stage_1, 6, p.student.active, p.rate(), 1);
  out += concat("  token files of these tokens: 4 + 1 + 1 bytes a token = ", gigabytes(6 * p.stage_1), "; SYNTH has ",
                short_number(p.rows), " rows, so about ", gigabytes(6 * p.rows * (p.prompt + p.text)), " in all\n");
  out += "stage 2a\n";
  all += detail::add_work(out, "scoring", p.scored * (1 + p.prompt / p.text), 2, p.teacher.active, p.rate(), p.helpers);
  out += concat("  parts: 4 + 1 + 1 + 2 bytes a token = ", gigabytes(8 * p.scored * (1 + p.prompt / p.text)), "\n");
  out += "stage 2b\n";
  all += detail::add_work(out, "training, 1 device", p.stage_2, 6, p.student.active, p.rate(), 1);
  all += detail::add_stage_3(out, p, s);
  const double training = (2 + 4 + 4 + 4 + 4) * p.student.parameters;
  out += concat("memory of training: weights in 16 bits, float masters, gradients and two moments, 18 bytes x ",
                short_number(p.student.parameters), " = ", gigabytes(training), " of ", gigabytes(p.device.memory),
                training < p.device.memory ? ", before activations\n" : ": it does not fit into one device\n");
  out += concat("a checkpoint: masters and moments, 12 bytes x ", short_number(p.student.parameters), " = ",
                gigabytes(12 * p.student.parameters), "\nin all ", detail::hours(all), " one after the other, ",
                detail::number_text("%.0f", all / 3600 * (1 + p.helpers)), " device hours\n");
  return out;
}

KDLIB_NAMESPACE_END

#endif
