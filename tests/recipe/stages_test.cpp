// SPDX-License-Identifier: Apache-2.0
// Groups of parameters and stages: what patterns decide, the files of --groups and --stages, every refusal.
#include "kdlib/recipe/stages.hpp"

#include <functional>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/recipe/objective.hpp"
#include "kdlib/tools/distil_options.hpp"
#include "kdlib/tools/stages_file.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using kdlib_tests::contains;
using kdlib_tests::TemporaryDirectory;

namespace {

const std::string layer = "model.layers.0.", core = layer + "mlp.experts.up_shared_core.";

/// Names of a compressed mixture (shared cores, wrappers) with numbers of elements.
std::vector<GroupSelection::Named> compressed_names() {
  return {{"model.embed_tokens.weight", 640},
          {layer + "input_layernorm.weight", 8},
          {layer + "self_attn.q_proj.weight", 64},
          {layer + "mlp.gate.weight", 32},
          {core + "core", 96},
          {core + "input_wrapper.U", 16},
          {core + "output_wrapper.V", 24},
          {layer + "post_attention_layernorm.weight", 8},
          {"model.norm.weight", 8},
          {"lm_head.weight", 640}};
}

RateGroups groups(std::vector<RateGroup> list, double default_rate = 1) { return {std::move(list), default_rate}; }

std::string refusal(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

std::string selection_refusal(const RateGroups& g) {
  return refusal([&] { GroupSelection(g, compressed_names(), "F.yaml: stage 'one'"); });
}

std::string file_refusal(const std::string& text, bool stages = true) {
  const TemporaryDirectory dir;
  write_file_atomically(dir / "F.yaml", text);
  return refusal([&] {
    if (stages) check_stages(read_stages_file(dir / "F.yaml"), "F.yaml");
    else check_groups(read_groups_file(dir / "F.yaml"), "F.yaml");
  });
}

RecipeSettings command(std::vector<std::string> words) {
  DistilCommand parsed;
  words.insert(words.begin(), {"distil", "--teacher=T"});
  std::vector<const char*> argv;
  for (const std::string& word : words) argv.push_back(word.c_str());
  parsed.parse(static_cast<int>(argv.size()), argv.data());
  return parsed.settings();
}

}  // namespace

TEST_CASE("a pattern is searched in a name, the first that fits decides, the others learn at the default rate",
          "[recipe][stages]") {
  // The list that the seed of this recipe has: shared_core takes the wrappers with it.
  const GroupSelection s(groups({{"shared_core", 1},
                                 {"experts.*input_wrapper", 2},
                                 {"lm_head", 0.1},
                                 {"embed_tokens", 0.1},
                                 {"norm", 0.5},
                                 {"mlp\\.gate\\.weight$", 0}},
                                0.25),
                         compressed_names(), "F.yaml");
  CHECK(s(core + "core") == 1);
  CHECK(s(core + "input_wrapper.U") == 1);
  CHECK(s("lm_head.weight") == 0.1);
  CHECK(s("model.norm.weight") == 0.5);
  CHECK(s(layer + "post_attention_layernorm.weight") == 0.5);
  CHECK(s(layer + "mlp.gate.weight") == 0);
  CHECK(s(layer + "self_attn.q_proj.weight") == 0.25);
  CHECK(s("a parameter that this run does not train") == 0);
  const std::vector<std::string> notes = s.notes();
  REQUIRE(notes.size() == 7);
  CHECK(notes[0] == "shared_core: rate x 1, 3 tensors, 136 parameters");
  CHECK(notes[1] == "warning: experts.*input_wrapper (rate x 2) decides nothing: earlier patterns take its names");
  CHECK(notes[5] == "mlp\\.gate\\.weight$: frozen, 1 tensors, 32 parameters");
  CHECK(notes[6] == "all other parameters: rate x 0.25, 1 tensors, 64 parameters");
  REQUIRE(s.describe().size() == 1);
  CHECK_THAT(s.describe()[0].second, contains("lm_head=0.1") && contains("default=0.25"));
  CHECK(GroupSelection({}, compressed_names(), "groups").describe().empty());
  CHECK(GroupSelection({}, compressed_names(), "groups")("lm_head.weight") == 1);
}

TEST_CASE("anchors and alternatives of a pattern mean what Python's re.search makes of them", "[recipe][stages]") {
  const GroupSelection s(groups({{"^model\\.embed|head", 1}, {"weight$", 0}, {".*", 3}}), compressed_names(), "F.yaml");
  CHECK(s("model.embed_tokens.weight") == 1);
  CHECK(s("lm_head.weight") == 1);
  CHECK(s("model.norm.weight") == 0);
  CHECK(s(core + "core") == 3);
}

TEST_CASE("a pattern that fits nothing is refused with the nearest names, a selection that trains nothing too",
          "[recipe][stages]") {
  CHECK_THAT(selection_refusal(groups({{"self_atn\\.q_proj", 1}})),
             contains("[distil] F.yaml: stage 'one': the pattern self_atn\\.q_proj fits none of the 10 parameters that "
                      "this run may train") &&
                 contains("the nearest are model.layers.0.self_attn.q_proj.weight"));
  CHECK(selection_refusal(groups({{".*", 0}})) ==
        "[distil] F.yaml: stage 'one' trains nothing: the rate of all 10 parameters that this run may train is 0");
  CHECK_THAT(selection_refusal(groups({}, 0)), contains("trains nothing"));
  CHECK(selection_refusal(groups({{"lm_head", 1}}, 0)) == "accepted");
}

TEST_CASE("the recipes of examples/data read as the table of the recipes says", "[recipe][stages]") {
  const auto read = [](const char* name) {
    const auto stages = read_stages_file(kdlib_tests::source_dir() + "/examples/data/" + name);
    check_stages(stages, name);
    REQUIRE(stages.size() == 2);
    for (const RecipeStage& s : stages) {
      CHECK(s.schedule == RecipeSchedule::cosine);
      CHECK(s.warmup == 100);
      CHECK_FALSE(s.restart_text);
      CHECK(s.steps == 0);
    }
    CHECK(stages[0].epochs == 2);
    CHECK(stages[1].epochs == 1);
    CHECK(stages[0].learning_rate == 5e-5);
    CHECK(stages[1].learning_rate == 1e-5);
    std::vector<GroupSelection> out;
    for (const RecipeStage& s : stages) out.emplace_back(s.groups, compressed_names(), s.name);
    return out;
  };
  const std::string head = "lm_head.weight", router = layer + "mlp.gate.weight", u = core + "input_wrapper.U";
  const auto a = read("stages_seed_a.yaml"), b = read("stages_seed_b.yaml"), own = read("stages_shared_core.yaml");
  CHECK((a[0](core + "core") == 1 && a[0](u) == 1 && a[0](router) == 0 && a[0](head) == 0));
  CHECK((b[0](core + "core") == 0 && b[0](u) == 1 && b[0](router) == 0 && b[0](head) == 0));
  CHECK((own[0](core + "core") == 1 && own[0](u) == 1 && own[0](router) == 0.5 && own[0](head) == 0));
  for (const auto& [name, elements] : compressed_names()) {
    CHECK(a[1](name) == 1);
    CHECK(b[1](name) == 1);
    const bool table = name == head || name == "model.embed_tokens.weight";
    CHECK(own[1](name) == (table ? 0.1 : 1));
  }
}

TEST_CASE("a stage's length is its steps, or its passes over the text rounded up", "[recipe][stages]") {
  CHECK(stage_steps({.name = "a", .steps = 7}, 100, 8) == 7);
  CHECK(stage_steps({.name = "a", .epochs = 2}, 100, 8) == 25);
  CHECK(stage_steps({.name = "a", .epochs = 1}, 100, 8) == 13);
  CHECK(stage_steps({.name = "a", .epochs = 0.01}, 10, 8) == 1);
  RecipeTraining t;
  t.warmup_ratio = 0.5;
  const RecipeTraining of_stage =
      stage_training(t, {.name = "a", .learning_rate = 3e-4, .schedule = RecipeSchedule::cosine, .warmup = 2}, 9);
  const RecipeRate rate = recipe_rate(of_stage);
  CHECK(rate(0) == 1.5e-4);
  CHECK(rate(1) == 3e-4);
  CHECK(rate(9) == 0);
  CHECK(rate.kind == RecipeSchedule::cosine);
  CHECK(refusal([&] { stage_training(t, {.name = "a", .warmup = 10}, 9); }) ==
        "[distil] stage a: warmup is 10 and the stage has 9 steps; warm-up steps are among them");
}

TEST_CASE("stages that cannot be meant are refused with the stage and the value", "[recipe][stages]") {
  const auto refused = [](RecipeStage stage) { return refusal([&] { check_stages({stage}, "F.yaml"); }); };
  CHECK_THAT(refused({.steps = 1}), contains("F.yaml: stage 1 has no name; checkpoints are told apart by it"));
  CHECK_THAT(refused({.name = "a"}), contains("stage 'a' has steps 0 and epochs 0; it needs one of them, above 0"));
  CHECK_THAT(refused({.name = "a", .steps = 3, .epochs = 1}), contains("steps 3 and epochs 1"));
  CHECK_THAT(refused({.name = "a", .steps = -1}), contains("steps -1 and epochs 0"));
  CHECK_THAT(refused({.name = "a", .steps = 1, .learning_rate = 0}),
             contains("learning_rate is 0; it must be above 0"));
  CHECK_THAT(refused({.name = "a", .steps = 1, .warmup = -2}), contains("warmup is -2 steps"));
  CHECK_THAT(refused({.name = "a", .steps = 1, .groups = groups({{"x", -1}})}),
             contains("stage 'a': the rate of x is -1; it must be 0 (frozen) or above"));
  CHECK_THAT(refused({.name = "a", .steps = 1, .groups = groups({{"", 1}})}), contains("a pattern is empty"));
  CHECK_THAT(refused({.name = "a", .steps = 1, .groups = groups({{"(x", 1}})}),
             contains("the pattern (x cannot be read"));
  CHECK_THAT(refused({.name = "a", .steps = 1, .groups = groups({}, -1)}), contains("default_rate is -1"));
  CHECK_THAT(refusal([] {
               check_stages({{.name = "a", .steps = 1}, {.name = "a", .steps = 2}}, "F.yaml");
             }),
             contains("F.yaml: stages 1 and 2 are both called a"));
}

TEST_CASE("files of stages and groups: every key is read, every odd one is refused with its line", "[recipe][stages]") {
  const TemporaryDirectory dir;
  write_file_atomically(dir / "F.yaml",
                        "stages:\n  - {name: one, steps: 3, default_rate: 0, groups: [{pattern: 'a\\.b', rate: 0.5}],\n"
                        "     learning_rate: 2e-3, schedule: constant, warmup: 1, text: restart}\n"
                        "  - {name: two, epochs: 1.5, text: go_on}\n");
  const auto stages = read_stages_file(dir / "F.yaml");
  REQUIRE(stages.size() == 2);
  CHECK(stages_text(stages) ==
        "one: 3 steps, a\\.b=0.5 default=0, rate 0.002, constant, warm-up 1, text from its beginning; two: 1.5 epochs");
  write_file_atomically(dir / "G.yaml", "default_rate: 0.5\ngroups:\n  - {pattern: x, rate: 2}\n");
  CHECK(read_groups_file(dir / "G.yaml").text() == "x=2 default=0.5");

  CHECK_THAT(file_refusal("stages: []\n"), contains("F.yaml: stages must be a list of stages"));
  CHECK_THAT(file_refusal("[1, 2]\n"), contains("F.yaml:1: the file must be a mapping"));
  CHECK_THAT(file_refusal("stages: [{name: a, setps: 3}]\n"),
             contains("F.yaml:1: a stage has the key setps; it can have name, steps"));
  CHECK_THAT(file_refusal("stages:\n - name: a\n   steps: 3\n   steps: 4\n"),
             contains("4: the key steps is given twice"));
  CHECK_THAT(file_refusal("stages: [{name: a, steps: 2.5}]\n"), contains("steps is 2.5; it must be a whole number"));
  CHECK_THAT(file_refusal("stages: [{name: a, epochs: two}]\n"), contains("epochs is two; it must be a number"));
  CHECK_THAT(file_refusal("stages: [{name: a, steps: 1, schedule: step}]\n"),
             contains("schedule is step; it must be one of constant, linear, cosine"));
  CHECK_THAT(file_refusal("stages: [{name: a, steps: 1, text: new}]\n"),
             contains("text is new; it must be one of go_on"));
  CHECK_THAT(file_refusal("stages: [{name: a, steps: 1, groups: [{pattern: x}]}]\n"),
             contains("a group needs pattern and rate"));
  CHECK_THAT(file_refusal("groups: 3\n", false), contains("groups must be a list of {pattern: ..., rate: ...}"));
  CHECK_THAT(file_refusal("groups: [{pattern: x, rate: fast}]\n", false),
             contains("rate is fast; it must be a number"));
  CHECK_THAT(file_refusal("groups: [\n", false), contains("not valid YAML"));
  CHECK_THAT(refusal([&] { read_stages_file(dir / "none.yaml"); }), contains("cannot open") && contains("none.yaml"));
}

TEST_CASE("distil --stages and --groups read their files, once each, and --steps does not go with stages",
          "[recipe][stages]") {
  const TemporaryDirectory dir;
  write_file_atomically(dir / "S.yaml", "stages: [{name: one, steps: 3}, {name: two, epochs: 1}]\n");
  write_file_atomically(dir / "G.yaml", "groups: [{pattern: lora_B, rate: 2}]\n");
  const RecipeSettings s = command({"--stages", dir / "S.yaml"});
  REQUIRE(s.training.stages.size() == 2);
  CHECK(s.training.stages[1].name == "two");
  CHECK(command({"--groups", dir / "G.yaml"}).training.groups.list.at(0).rate == 2);
  const auto refused = [](std::vector<std::string> words) { return refusal([&] { command(words); }); };
  CHECK_THAT(refused({"--stages", dir / "S.yaml", "--groups", dir / "G.yaml"}),
             contains("--groups and --stages are both given: write the groups into the stages"));
  CHECK_THAT(
      refused({"--stages", dir / "S.yaml", "--steps", "9"}),
      contains("--steps is the length of a run without stages") && contains("S.yaml says how long each stage is"));
  write_file_atomically(dir / "S.yaml", "stages: [{name: one, steps: 3}, {name: one, epochs: 1}]\n");
  CHECK_THAT(refused({"--stages", dir / "S.yaml"}), contains("S.yaml: stages 1 and 2 are both called one"));
}

TEST_CASE("--alpha blends the loss with the labels as a composed sum", "[recipe][stages]") {
  const auto loss = [](std::vector<std::string> words) { return command(std::move(words)).objective.loss.text(); };
  CHECK(loss({"--alpha", "0.75", "--temperature", "2"}) ==
        parse_loss("0.25 cross_entropy + 0.75 forward_kl(temperature=2)").text());
  CHECK(loss({"--alpha", "0.5", "--loss", "2 reverse_kl"}) == parse_loss("0.5 cross_entropy + 1 reverse_kl").text());
  CHECK(loss({"--alpha", "1"}) == loss({}));
  CHECK_THROWS_WITH(blended_loss(LossExpression(), 0), contains("alpha is 0; it must be above 0 and at most 1"));
}
