// SPDX-License-Identifier: Apache-2.0
// Bodies of distil_report.hpp.
#ifndef KDLIB_TOOLS_DISTIL_REPORT_INL_HPP
#define KDLIB_TOOLS_DISTIL_REPORT_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/io/jsonl.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/recipe/model_files.hpp"
#include "kdlib/text/chat_template.hpp"
#include "kdlib/tools/distil_report.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Curves of metrics.jsonl by name.
KDLIB_TOOLS_FUNC ReportSeries metric_series(const std::vector<Json>& lines, const char* key, const char* name,
                                            bool points = false) {
  ReportSeries series{name, {}, {}, points};
  for (const Json& line : lines) {
    const std::optional<Json> value = line.find_set(key);
    if (!value) continue;
    series.x.push_back(line.at("step").as_double());
    series.y.push_back(value->as_double());
  }
  return series;
}

KDLIB_TOOLS_FUNC void add_chart(RunReport& report, ReportChart chart) {
  std::vector<ReportSeries> present;
  for (ReportSeries& series : chart.series)
    if (!series.x.empty()) present.push_back(std::move(series));
  chart.series = std::move(present);
  if (!chart.series.empty()) report.charts.push_back(std::move(chart));
}

/// A path as a shell takes it: in quotes where it has other characters than names usually have.
KDLIB_TOOLS_FUNC std::string shell_word(const std::string& path) {
  const char* plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@";
  if (!path.empty() && path.find_first_not_of(plain) == std::string::npos) return path;
  std::string out = "'";
  for (const char c : path) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

/// The held-out value of what is trained.
KDLIB_TOOLS_FUNC ReportSeries objective_curve(const std::vector<Json>& lines, const RecipeResult& result) {
  const std::string name = "held-out " + (result.objective == "forward_kl" ? "forward KL" : result.objective);
  return metric_series(lines, "evaluation/objective", name.c_str(), true);
}

/// The student's distance from the teacher on held-out answers; the strongest ground is the 95th percentile before
/// training.
KDLIB_TOOLS_FUNC void add_heat_maps(RunReport& report, const RecipeResult& result) {
  std::vector<double> all;
  for (const TokenMap& map : result.token_maps)
    for (const double value : map.values.front().second)
      if (std::isfinite(value)) all.push_back(value);
  if (all.empty()) return;
  std::sort(all.begin(), all.end());
  const double full = std::max(0.05, all[(all.size() - 1) * 95 / 100]);
  for (const TokenMap& map : result.token_maps) {
    ReportHeatMap& heat = report.heat_maps.emplace_back();
    heat.title = "How far the student is from the teacher, token by token";
    heat.unit = "nats";
    heat.full = full;
    for (const auto& row : map.values) heat.rows.push_back(row.first);
    for (std::size_t i = 0; i < map.tokens.size(); ++i) {
      ReportToken& token = heat.tokens.emplace_back(ReportToken{map.tokens[i], {}});
      for (const auto& row : map.values) token.values.push_back(row.second[i]);
    }
  }
}

/// The tokenizer that `generate --model RUN` reads; empty where there is none, or nothing can be read there any more.
KDLIB_TOOLS_FUNC std::optional<Tokenizer> tokenizer_of_run(const RecipeSettings& s) {
  const bool lora = s.student.trains == RecipeTrains::lora;
  try {
    return find_model_tokenizer(lora && !s.student.rounded ? s.models.student_path()
                                                           : join_path(s.output.folder, lora ? "base" : "model"));
  } catch (const Error&) {
    return std::nullopt;
  }
}

KDLIB_TOOLS_FUNC bool has_chat_template(const Tokenizer& tokenizer) {
  try {
    static_cast<void>(ChatTemplate::of(tokenizer));
    return true;
  } catch (const Error&) {
    return false;
  }
}

/// How to write with the student: a turn of its chat template where there is one, else text to continue.
KDLIB_TOOLS_FUNC std::pair<std::string, std::string> write_step(const RecipeSettings& s, const std::string& out) {
  const std::optional<Tokenizer> tokenizer = tokenizer_of_run(s);
  const std::string generate = "generate --model " + out;
  if (!tokenizer)
    return {"Write with the student, which has no tokenizer: lines {\"prompt_ids\": [...]} of ids",
            generate + " --prompts prompts.jsonl"};
  const std::string& named = s.text.chat_template;
  if (s.text.raw || (named.empty() && !has_chat_template(*tokenizer)))
    return {"Write with the student", generate + " --prompt \"The sky is blue because\""};
  const std::string how = named.empty() ? "" : " --template " + shell_word(named);
  return {"Write with the student", generate + " --chat" + how + " --prompt \"Why is the sky blue?\""};
}

}  // namespace detail

KDLIB_TOOLS_FUNC std::vector<std::pair<std::string, std::string>> next_steps(const RecipeSettings& s) {
  const std::string out = detail::shell_word(s.output.folder), gguf = "student.gguf";
  std::vector<std::pair<std::string, std::string>> steps = {detail::write_step(s, out)};
  const char* python = "from transformers import AutoModelForCausalLM";
  if (s.student.trains != RecipeTrains::lora) {
    steps.emplace_back("One file for llama.cpp",
                       "convert --model " + out + "/model --to gguf --type q8_0 --out " + gguf);
    steps.emplace_back(
        "Load it in transformers",
        concat("python -c '", python, "\nmodel = AutoModelForCausalLM.from_pretrained(\"", out, "/model\")'"));
    return steps;
  }
  const std::string base = s.student.rounded ? out + "/base" : detail::shell_word(s.models.student_path());
  steps.emplace_back(
      "One file for llama.cpp, adapter merged",
      "convert --model " + base + " --adapter " + out + "/adapter --merge --to gguf --type q8_0 --out " + gguf);
  const std::string plain = s.student.rounded ? out + "/base_values" : base;
  const std::string decode =
      s.student.rounded ? "convert --model " + base + " --to hf --dtype float32 --out " + plain + "\n" : "";
  steps.emplace_back("Load the adapter in PEFT",
                     concat(decode, "python -c '", python, "\nfrom peft import PeftModel\n",
                            "model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(\"", plain,
                            "\"), \"", out, "/adapter\")'"));
  return steps;
}

KDLIB_TOOLS_FUNC RunReport distil_report(const RecipeResult& result, const RecipeSettings& settings) {
  std::vector<Json> lines;
  for (JsonlReader reader(join_path(settings.output.folder, "metrics.jsonl"));
       std::optional<Json> line = reader.next();)
    lines.push_back(*line);
  RunReport report;
  report.title = "Distillation report";
  report.summary = result_summary(result);
  std::vector<std::vector<std::string>> rows = evaluation_table(result);
  ReportTable table{"Held-out result", "", rows.front(), {rows.begin() + 1, rows.end()}};
  if (!result.rows.empty())
    table.note = concat("Means over ", static_cast<std::int64_t>(result.rows.back().tokens),
                        " held-out answer tokens. KL in nats a token, forward: KL(teacher || model); top-1: same most "
                        "probable token; top-5: share of the "
                        "five most probable tokens in common; perplexity of the held-out text. \xC2\xB1: 95 % interval "
                        "over documents.");
  report.tables.push_back(table);
  detail::add_chart(
      report, {"Loss",
               "step",
               "nats per token",
               {detail::metric_series(lines, "train/loss", "training loss"), detail::objective_curve(lines, result)}});
  detail::add_chart(report, {"Agreement with the teacher",
                             "step",
                             "share of tokens",
                             {detail::metric_series(lines, "train/top1_agreement", "top-1, training text"),
                              detail::metric_series(lines, "train/top5_overlap", "top-5, training text"),
                              detail::metric_series(lines, "evaluation/top1_agreement", "top-1, held out", true),
                              detail::metric_series(lines, "evaluation/top5_overlap", "top-5, held out", true)}});
  detail::add_chart(report, {"Entropy",
                             "step",
                             "nats per token",
                             {detail::metric_series(lines, "train/student_entropy", "student"),
                              detail::metric_series(lines, "train/teacher_entropy", "teacher")}});
  detail::add_chart(report, {"Gradient norm before clipping",
                             "step",
                             "",
                             {detail::metric_series(lines, "train/grad_norm", "gradient norm")}});
  detail::add_heat_maps(report, result);
  for (const SampleAnswers& sample : result.samples) report.samples.push_back({sample.prompt, sample.answers});
  report.next_steps = next_steps(settings);
  report.facts = result.facts;
  return report;
}

KDLIB_NAMESPACE_END

#endif
