// SPDX-License-Identifier: Apache-2.0
// Settings of a recipe: the command line gives every one of them, config.yaml holds every one of them, and combinations
// that make no sense are refused.
#include <algorithm>
#include <cmath>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/recipe/objective.hpp"
#include "kdlib/recipe/run_folder.hpp"
#include "kdlib/recipe/run_place.hpp"
#include "kdlib/tools/distil_options.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using kdlib_tests::contains;
using kdlib_tests::TemporaryDirectory;

namespace {

std::vector<std::string> sorted_lines(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  std::sort(lines.begin(), lines.end());
  return lines;
}

/// Reads a command line into `command`.
void parse(DistilCommand& command, const std::vector<std::string>& arguments) {
  std::vector<const char*> argv{"distil", "--teacher", "t"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  command.parse(static_cast<int>(argv.size()), argv.data());
}

/// Every option that a setting stands behind, with a value other than its default.
const std::vector<std::string> everything_changed{"--student=a model",
                                                  "--quantize=nf4",
                                                  "--group-size=128",
                                                  "--double-quant",
                                                  "--train=qat_lora",
                                                  "--lora-rank=3",
                                                  "--lora-alpha=0.1",
                                                  "--lora-targets",
                                                  "q_proj",
                                                  "v_proj",
                                                  "--loss=jsd",
                                                  "--beta=0.25",
                                                  "--temperature=1.5",
                                                  "--t-squared=off",
                                                  "--lambda=0.3",
                                                  "--sample-temperature",
                                                  "0.7",
                                                  "--prompts=p \"q\".x",
                                                  "--data=d#e",
                                                  "--validation=v: w",
                                                  "--max-length=77",
                                                  "--max-new-tokens=11",
                                                  "--replay-routing",
                                                  "--steps=7",
                                                  "--batch=2",
                                                  "--micro-batches=3",
                                                  "--learning-rate=1e-05",
                                                  "--schedule=cosine",
                                                  "--warmup=1",
                                                  "--weight-decay=0.01",
                                                  "--beta1=0.8",
                                                  "--beta2=0.99",
                                                  "--clip=0.5",
                                                  "--recompute",
                                                  "--workspace=3",
                                                  "--gradient-threshold=0.125",
                                                  "--evaluate-tasks",
                                                  "arc_easy",
                                                  "hellaswag",
                                                  "--task-data=tasks",
                                                  "--out=o",
                                                  "--save-every=2",
                                                  "--keep=4",
                                                  "--evaluate-every=9",
                                                  "--resume=no",
                                                  "--straight-through",
                                                  "clipped",
                                                  "--preset=lean",
                                                  "--threads=2",
                                                  "--seed=18446744073709551615"};

}  // namespace

TEST_CASE("config.yaml holds every option of the command line, with the value that was given", "[recipe]") {
  const std::vector<std::string> texts_like_numbers{"--evaluate-tasks=mmlu", "--task-data=2026", "--comm-timeout=1e21"};
  for (const auto& arguments : {std::vector<std::string>{}, everything_changed, texts_like_numbers}) {
    DistilCommand command;
    parse(command, arguments);
    std::vector<std::string> options = sorted_lines(command.options().yaml());
    std::erase_if(options, [](const std::string& line) {  // they are in the text of the loss
      return line.starts_with("alpha:") || line.starts_with("beta:") || line.starts_with("temperature:") ||
             line.starts_with("t-squared:") || line.starts_with("status-file:");  // the last changes nothing of a run
    });
    CHECK(sorted_lines(run_config_text(describe(command.settings()))) == options);
  }
}

TEST_CASE("what config.yaml holds is read back, and a setting that differs is refused by name", "[recipe]") {
  const TemporaryDirectory dir;
  DistilCommand command, defaults;
  parse(command, everything_changed);
  parse(defaults, {});
  const std::vector<DescribedSetting> all = describe(command.settings());
  write_file_atomically(dir / "config.yaml", run_config_text(all));
  const std::vector<DescribedSetting> back = read_run_config(dir / "config.yaml");
  REQUIRE(back.size() == all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    CHECK(back[i].key == all[i].key);
    CHECK(back[i].values == all[i].values);
  }
  const RunFolder folder(dir.path());
  CHECK_NOTHROW(folder.check_same(all));
  const std::vector<DescribedSetting> plain = describe(defaults.settings());
  int different = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i].values == plain[i].values || free_recipe_setting(all[i].key)) continue;
    ++different;
    std::vector<DescribedSetting> changed = all;
    changed[i].values = plain[i].values;
    CHECK_THROWS_WITH(folder.check_same(changed), contains(all[i].key + ": " + all[i].text()));
  }
  CHECK(different > 30);
}

TEST_CASE("words of enumerations are read and written, and others are refused with the list", "[recipe]") {
  for (const RecipeTrains value : {RecipeTrains::lora, RecipeTrains::qat_lora, RecipeTrains::all, RecipeTrains::scales})
    CHECK(recipe_value<RecipeTrains>(recipe_word(value)) == value);
  CHECK_THROWS_WITH(recipe_value<RecipeSchedule>("square"),
                    contains("schedule is 'square'") && contains("constant, linear, cosine"));
}

TEST_CASE("a library call refuses what a command line would", "[recipe]") {
  RecipeSettings s;
  CHECK_THROWS_WITH(check_recipe(s), contains("no teacher is named") && contains("--student MODEL"));
  s.models.teacher = "t";
  s.output.folder = "";
  CHECK_THROWS_WITH(check_run_place(s), contains("--out is empty"));
  s.output.folder = "o";
  s.text.prompts.path = "a\xff";
  CHECK_THROWS_WITH(check_recipe(s), contains("--prompts") && contains("UTF-8"));
  s.text.prompts.path = "a\xc3\xa4";
  CHECK_NOTHROW(check_recipe(s));
  s.student.adapter.rank = 65536;
  CHECK_THROWS_WITH(check_recipe(s), contains("--lora-rank is 65536"));
  s.student.adapter.rank = 4;
  s.student.merge = true;
  s.student.rounded = false;
  CHECK_THROWS_WITH(check_recipe(s), contains("--merge belongs"));
  s.student.merge = false;
  s.text.lambda = 0.5;
  s.text.top_p = 0.9;
  CHECK_THROWS_WITH(check_recipe(s), contains("--accept-truncated-text"));
  s.text.accept_truncated_text = true;
  CHECK_NOTHROW(check_recipe(s));
  s.objective.loss = parse_loss("forward_kl + 0.1 policy_gradient");
  CHECK_THROWS_WITH(check_recipe(s), contains("cuts tokens off"));
  s.text.top_p = 1;
  s.text.sample_temperature = 0.7;
  CHECK_NOTHROW(check_recipe(s));  // the ratio corrects
  s.objective.loss = parse_loss("sampled_kl(estimator=k2)");
  CHECK_THROWS_WITH(check_recipe(s), contains("drawn at temperature 0.7"));
  s.text.lambda = 0;
  s.objective.loss = parse_loss("forward_kl");
  s.training.steps = 20;
  s.training.warmup = 20;
  CHECK_NOTHROW(check_recipe(s));
  s.training.warmup = 21;
  CHECK_THROWS_WITH(check_recipe(s), contains("--warmup is 21 of --steps 20"));
  CHECK_THROWS_AS(check_recipe(s), SettingsError);
  s.training.warmup_ratio = 0.5;  // then `warmup` is not read
  CHECK_NOTHROW(check_recipe(s));
  CHECK(warmup_steps(s.training) == 10);
  s.training.warmup_ratio = 1.5;
  CHECK_THROWS_WITH(check_recipe(s), contains("--warmup-ratio is 1.5; it must be from 0 to 1"));
  s.training.warmup_ratio = 0;
  s.training.warmup = 4;
  for (const double weight : {0.0, -1.0, static_cast<double>(INFINITY), std::nan("")}) {
    s.objective.loss.terms[0].weight = weight;
    CHECK_THROWS_WITH(check_recipe(s), contains("--loss: the weight of forward_kl is " + setting_text(weight)));
  }
  s.objective.loss = parse_loss("top_k_forward_kl");
  CHECK_THROWS_WITH(check_recipe(s), contains("top_k_forward_kl reads the teacher's top-k"));
}

TEST_CASE("a warm-up that is not asked for fits the steps, a share is rounded up by what it is in decimals",
          "[recipe]") {
  DistilCommand few, asked, share;
  parse(few, {"--steps", "2"});
  CHECK(few.settings().training.warmup == 2);
  CHECK_THROWS_WITH(parse(asked, {"--steps", "2", "--warmup", "3"}), contains("--warmup is 3 of --steps 2"));
  parse(share, {"--steps", "3", "--warmup-ratio", "0.5"});
  CHECK(warmup_steps(share.settings().training) == 2);
  // 0.07 * 100 is 7.000000000000001 in doubles.
  CHECK(warmup_steps({.steps = 100, .warmup_ratio = 0.07}) == 7);
  CHECK(warmup_steps({.steps = 100, .warmup_ratio = 0.071}) == 8);
  CHECK(warmup_steps({.steps = 100, .warmup_ratio = 1}) == 100);
}

TEST_CASE("options of distil that nothing would read are refused by name", "[recipe]") {
  const TemporaryDirectory dir;
  write_file_atomically(dir / "prompts.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n");
  write_file_atomically(dir / "given.jsonl",
                        "{\"ids\": [1, 2, 3]}\n{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}]}\n");
  const auto said = [](const std::vector<std::string>& words) {
    DistilCommand command;
    try {
      parse(command, words);
    } catch (const Error& error) {
      return std::string(is_usage_error(error) ? "" : "status 1: ") + error.what();
    }
    return std::string();
  };
  const std::string data = "--data=" + (dir / "given.jsonl"), given = "--validation=" + (dir / "given.jsonl"),
                    asks = "--validation=" + (dir / "prompts.jsonl");
  for (const char* word : {"--prompts=p", "--max-prompts=3", "--samples=2"})
    CHECK_THAT(said({data, word}),
               contains("would have no effect: with given text and --lambda 0 no prompts are read"));
  for (const char* word : {"--sample-temperature=0.5", "--top-k=3", "--top-p=0.9", "--min-p=0.1", "--max-new-tokens=5",
                           "--teacher-cache=c"}) {
    INFO(word);
    CHECK_THAT(said({data, given, word}), contains("would have no effect: all text is given (--data)"));
    CHECK_THAT(said({data, "--validation-share=0.5", word}), contains("would have no effect"));
    CHECK(said({data, asks, word}) == "");  // the teacher answers the held-out prompts
    CHECK(said({data, word}) == "");        // those of the program
  }
  CHECK(said({data, "--lambda=0.5", "--prompts=p", "--max-new-tokens=5"}) == "");
  CHECK_THAT(said({"--sample-temperature=0", "--top-k=3"}), contains("--top-k would have no effect: at"));
  CHECK_THAT(said({"--accept-truncated-text"}), contains("would have no effect: with --lambda 0"));
  CHECK_THAT(said({"--replay-routing"}), contains("would have no effect: with --lambda 0"));
  CHECK(said({"--replay-routing=off"}) == "");
  CHECK_THAT(said({"--teacher-cache-mb=5"}), contains("it belongs to --teacher-cache DIR"));
  CHECK_THAT(said({"--task-limit=5"}), contains("it belongs to --evaluate-tasks"));
  CHECK_THAT(said({"--json"}), contains("it belongs to --dry-run"));
  CHECK_THAT(said({"--ranks=2"}), contains("scripts/launch/ranks W starts ranks"));
  CHECK_THAT(said({"--dry-run", "--link=1Gbit"}), contains("--link") && contains("--dry-run --ranks W"));
  CHECK_THAT(said({"--mass=raw"}), contains("it belongs to --cache"));
  CHECK_THAT(said({"--quantize=none", "--group-size=32"}), contains("--quantize none rounds nothing"));
  CHECK_THAT(said({"--quantize=nf4", "--quantize-rule=affine"}), contains("it is the rule of --quantize int3, int4"));
  CHECK_THAT(said({"--double-quant"}), contains("it belongs to --quantize nf4 and fp4"));
  CHECK_THAT(said({"--straight-through=clipped"}), contains("it belongs to --train qat_lora and all"));
  CHECK_THAT(said({"--train=all", "--lora-alpha=3"}), contains("--train all has no adapter"));
  CHECK_THAT(said({"--student-adapter=a", "--lora-rank=3"}), contains("has its own"));
}

TEST_CASE("a teacher on another machine is a list of URLs, and what it cannot do is refused by name", "[recipe]") {
  RecipeSettings s;
  s.models.teacher = "http://10.0.0.5:8000,https://b";
  CHECK(s.models.is_remote());
  CHECK_FALSE(s.models.taught());
  CHECK(s.models.remote_urls() == std::vector<std::string>{"http://10.0.0.5:8000", "https://b"});
  const auto said = [](const RecipeSettings& settings) {
    try {
      check_recipe(settings);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK_THAT(said(s), contains("the teacher is on another machine; --student MODEL is needed"));
  s.models.student = "s";
  CHECK_THAT(said(s), contains("--data FILE is needed, or --lambda 1"));
  s.text.data.path = "d";
  CHECK(said(s) == "");
  s.models.teacher_adapter = "a";
  CHECK_THAT(said(s), contains("--teacher-adapter belongs to serve --teacher"));
  s.models.teacher_adapter = "";
  s.models.cache.folder = "c";
  CHECK_THAT(said(s), contains("--cache stands for a teacher"));
  s.models.cache.folder = "";
  s.models.teacher = "http://10.0.0.5:8000/v1";
  CHECK_THAT(said(s), contains("'http://10.0.0.5:8000/v1' is no address of a server"));
  s.models.teacher = "t";
  CHECK(s.models.taught());
  CHECK(s.models.remote_urls().empty());
  DistilCommand command;
  const char* argv[] = {"distil", "--teacher=t", "--teacher-api=vllm"};
  CHECK_THAT(kdlib_tests::refusal([&] { command.parse(3, argv); }), contains("it belongs to --teacher URL"));
}

TEST_CASE("the loss of a command line is a name or a sum, whose open fields the options fill", "[recipe]") {
  const auto loss_of = [](const std::vector<std::string>& arguments) {
    DistilCommand command;
    parse(command, arguments);
    return command.settings().objective.loss.text();
  };
  CHECK(loss_of({}) == "forward_kl");
  CHECK(loss_of({"--loss", "jsd", "--beta", "0.1", "--temperature", "2"}) == "jsd(beta=0.1, temperature=2)");
  CHECK(loss_of({"--loss", "0.8 reverse_kl + 0.2 cross_entropy", "--temperature", "2", "--t-squared", "off"}) ==
        "0.8 reverse_kl(temperature=2, t_squared=off) + 0.2 cross_entropy");
  CHECK(loss_of({"--config", kdlib_tests::source_dir() + "/examples/data/reverse_kl_and_labels.yaml"}) ==
        "0.8 reverse_kl(temperature=2) + 0.2 cross_entropy");
  DistilCommand command;
  CHECK_THROWS_WITH(parse(command, {"--loss", "forward_kl", "--beta", "0.1"}), contains("--beta is given, but no jsd"));
  DistilCommand other;
  CHECK_THROWS_WITH(parse(other, {"--loss", "revers_kl"}), contains("did you mean reverse_kl?"));
}

TEST_CASE("a rate that is not set is smaller where the adapter starts compensated", "[recipe]") {
  RecipeSettings s;
  s.student.trains = RecipeTrains::lora;
  s.student.rounded = true;
  CHECK(s.peak_rate() == 2e-4);
  s.student.start = RecipeAdapterStart::zero;
  CHECK(s.peak_rate() == 1e-3);
  s.training.learning_rate = 5e-4;
  CHECK(s.peak_rate() == 5e-4);
}
