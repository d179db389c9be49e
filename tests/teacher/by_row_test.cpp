// SPDX-License-Identifier: Apache-2.0
// Several teachers: every row comes from the teacher of its document, and a run with them is a run with one where they
// are the same.
#include <cmath>
#include <fstream>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/loss/reverse_kl.hpp"
#include "kdlib/optim/adamw.hpp"
#include "kdlib/optim/schedule.hpp"
#include "kdlib/teacher/any_hidden.hpp"
#include "kdlib/teacher/by_row.hpp"
#include "kdlib/teacher/live.hpp"
#include "kdlib/teacher/top_k_of.hpp"
#include "kdlib/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"
#include "support/training_parts.hpp"

using namespace kdlib;
using kdlib_tests::RaggedDocuments;
using kdlib_tests::refusal;
using Toy = kdlib_tests::ToyModel<float>;
using Ids = std::vector<std::int32_t>;

namespace {

/// log p of the label is -(label + 100 number), whatever stands before it.
struct LabelTeacher {
  using targets_type = SampledTargets;
  int number = 0;
  std::int64_t vocabulary = 17;
  std::vector<float> rows{};
  std::vector<TokenBatch> announced{};

  std::int64_t vocab_size() const { return vocabulary; }
  void announce(const TokenBatch& batch) { announced.push_back(batch); }
  void prepare(const TokenBatch& batch) {
    rows.clear();
    for (const std::int32_t label : batch.rows().label) rows.push_back(-static_cast<float>(label + 100 * number));
  }
  targets_type targets(std::int64_t begin, std::int64_t count) const { return SampledTargets{rows}.rows(begin, count); }
  SettingsList describe() const { return {{"number", concat(number)}}; }
};

/// Two tokens a row: the label and the teacher's number.
struct TopTeacher {
  using targets_type = TopKTargets<float, Cpu>;
  std::int32_t number = 0;
  std::int64_t k = 2;
  std::vector<std::int32_t> ids{};
  std::vector<float> log_probs{}, tail{};

  std::int64_t vocab_size() const { return 17; }
  void prepare(const TokenBatch& batch) {
    ids.clear(), log_probs.clear(), tail.clear();
    for (const std::int32_t label : batch.rows().label) {
      for (std::int64_t i = 0; i < k; ++i) {
        ids.push_back(i == 0 ? label : number);
        log_probs.push_back(-static_cast<float>(number + 1 + i));
      }
      tail.push_back(-static_cast<float>(10 + number));
    }
  }
  targets_type targets(std::int64_t begin, std::int64_t count) const {
    const auto rows = static_cast<std::int64_t>(tail.size());
    return targets_type{View<const std::int32_t, Cpu>(ids.data(), Shape{rows, k}),
                        View<const float, Cpu>(log_probs.data(), Shape{rows, k}),
                        View<const float, Cpu>(tail.data(), Shape{rows})}
        .rows(begin, count);
  }
};

/// Four documents with 2, 1, 0 and 3 rows, the first and the last of "math".
TokenBatch four_documents() {
  TokenBatch batch;
  batch.append(Ids{1, 2, 3});
  batch.append(Ids{4, 5, 6}, std::vector<float>{0, 1, 0});
  batch.append(Ids{7, 8}, std::vector<float>{0, 0});
  batch.append(Ids{9, 10, 11, 12});
  batch.sources = {"d:1", "d:2", "d:3", "d:4"};
  return batch;
}

TeacherNames names_of_four() {
  TeacherNames names("code");
  names.set("d:1", "math");
  names.set("d:4", "math");
  return names;
}

std::vector<float> numbers(std::span<const float> values) { return {values.begin(), values.end()}; }

}  // namespace

TEST_CASE("each row's log-probability comes from the teacher of its document", "[teacher]") {
  static_assert(TeacherSource<TeacherByRow<LabelTeacher>> && TeacherByRow<LabelTeacher>::mixes);
  TeacherByRow<LabelTeacher> teacher({{"math", {.number = 1}}, {"code", {.number = 2}}}, names_of_four());
  teacher.prepare(four_documents());
  const std::vector<float> expected = {-102, -103, -206, -110, -111, -112};
  REQUIRE(numbers(teacher.targets(0, 6).log_probs) == expected);
  REQUIRE(numbers(teacher.targets(1, 3).log_probs) == std::vector<float>{-103, -206, -110});
  REQUIRE(refusal([&] { teacher.targets(4, 3); }).find("rows 4 to 7 of 6") != std::string::npos);
  teacher.prepare(four_documents());
  const auto metrics = teacher.step_metrics();
  REQUIRE(metrics == std::vector<std::pair<std::string, double>>{{"teacher/math/rows", 10}, {"teacher/code/rows", 2}});
  REQUIRE(teacher.step_metrics().front().second == 0);  // they are counted anew
}

TEST_CASE("a batch of one teacher is given to it whole, and announced as it is prepared", "[teacher]") {
  TeacherByRow<LabelTeacher> one({{"math", {.number = 1}}, {"code", {.number = 2}}}, TeacherNames("code"));
  one.prepare(four_documents());
  REQUIRE(numbers(one.targets(0, 6).log_probs) == std::vector<float>{-202, -203, -206, -210, -211, -212});
  TokenBatch none;
  none.append(Ids{1, 2}, std::vector<float>{0, 0});
  one.prepare(none);
  REQUIRE(one.targets(0, 0).log_probs.empty());
}

TEST_CASE("top-k rows of several teachers lie side by side; another K is refused", "[teacher]") {
  TeacherByRow<TopTeacher> teacher({{"math", {.number = 1}}, {"code", {.number = 2}}}, names_of_four());
  teacher.prepare(four_documents());
  const TopKTargets<float, Cpu> t = teacher.targets(0, 6);
  const std::vector<std::int32_t> ids = {2, 1, 3, 1, 6, 2, 10, 1, 11, 1, 12, 1};
  REQUIRE(std::vector<std::int32_t>(t.ids.data(), t.ids.data() + 12) == ids);
  REQUIRE(t.log_probs.data()[4] == -3);
  REQUIRE(numbers({t.log_tail.data(), 6}) == std::vector<float>{-11, -11, -12, -11, -11, -11});
  TeacherByRow<TopTeacher> other({{"math", {.number = 1}}, {"code", {.number = 2, .k = 3}}}, names_of_four());
  REQUIRE(refusal([&] { other.prepare(four_documents()); }).find("gives 2 tokens a row") != std::string::npos);
}

TEST_CASE("hidden states of several teachers come in runs of rows, each with its own head", "[teacher]") {
  Toy first(17, 5, 1), second(17, 4, 2);
  using Live = LiveTeacher<Toy>;
  static_assert(!TeacherByRow<Live>::mixes);
  TeacherByRow<Live> teacher({{"math", Live(first)}, {"code", Live(second)}}, names_of_four());
  teacher.prepare(four_documents());
  const std::vector<RowRun> runs = teacher.row_runs();
  REQUIRE(runs.size() == 3);  // rows 0, 1 of math, 2 of code, 3 to 5 of math
  Live alone(first);
  alone.prepare(four_documents().document(3));
  for (std::size_t i = 0; i < 3; ++i) {
    const auto targets = teacher.targets(runs[i].begin, runs[i].count);
    REQUIRE(targets.head.weight.data() == (i == 1 ? second : first).head().weight.data());
    REQUIRE(targets.hidden[0] == (i == 2 ? 3 : i == 1 ? 1 : 2));
  }
  for (std::int64_t r = 0; r < 3; ++r)  // the last document's rows, wherever a run of it begins
    for (std::int64_t j = 0; j < 5; ++j)
      REQUIRE(std::abs(teacher.targets(3 + r, 1).hidden.data()[j] - alone.targets(r, 1).hidden.data()[j]) < 1e-6f);
  const std::string message = refusal([&] { teacher.targets(1, 2); });
  REQUIRE(message.find("rows 1 to 3 belong to several teachers") != std::string::npos);
  teacher.prepare(four_documents().document(3));
  REQUIRE(teacher.targets(0, 3).head.weight.data() == first.head().weight.data());
  teacher.prepare(four_documents().document(1));
  REQUIRE(teacher.targets(0, 1).head.weight.data() == second.head().weight.data());
}

TEST_CASE("a step on a mixed micro-batch of hidden states is that of one micro-batch a teacher", "[teacher]") {
  // Two documents a batch, of two teachers, against the same documents one by one.
  struct Pairs {
    std::int64_t each = 2;
    RaggedDocuments inside{{.documents = 2, .seed = 9}};
    std::vector<TokenBatch> left{};
    std::optional<TokenBatch> next() {
      if (left.empty()) {
        TokenBatch batch = *inside.next();
        batch.sources = {"a", "b"};
        if (each == 2) return batch;
        left = {batch.document(1), batch.document(0)};
      }
      TokenBatch one = std::move(left.back());
      left.pop_back();
      return one;
    }
    std::string cursor() const { return inside.cursor(); }
    void seek(const std::string& cursor) { inside.seek(cursor); }
  };
  Toy math(17, 5, 1), code(17, 4, 2);
  using Any = AnyTeacher<HiddenTargets<float, Cpu>>;
  TeacherNames names("math");
  names.set("b", "code");
  const auto trained = [&](std::int64_t each) {
    TeacherByRow<Any> teacher({{"math", Any(LiveTeacher<Toy>(math))}, {"code", Any(LiveTeacher<Toy>(code))}}, names);
    Toy student(17, 4, 3);
    Trainer trainer{student, Pairs{each}, Objective{Any(std::move(teacher)), ReverseKl{}}, AdamW{}, ConstantRate{0.05}};
    trainer.run({.steps = 4, .micro_batches = 2 / each}, NoMetrics{}, NoCheckpoints{});
    return kdlib_tests::all_values(student);
  };
  const std::vector<float> mixed = trained(2), apart = trained(1);
  for (std::size_t i = 0; i < mixed.size(); ++i) REQUIRE(std::abs(mixed[i] - apart[i]) < 1e-5f);
}

TEST_CASE("the most probable tokens of hidden states are those of a row of logits", "[teacher]") {
  Toy model(17, 5, 1);
  TopKOf<LiveTeacher<Toy>> teacher(LiveTeacher<Toy>(model), {.top_k = 3, .temperature = 2, .workspace_bytes = 200});
  LiveTeacher<Toy> live(model);
  teacher.prepare(four_documents());
  live.prepare(four_documents());
  Tensor<float, Cpu> logits(Shape{6, 17});
  write_head_logits<float, Cpu>(model.head(), live.targets(0, 6).hidden, logits.view());
  const auto t = teacher.targets(0, 6);
  REQUIRE(t.temperature == 2);
  for (std::int64_t r = 0; r < 6; ++r) {
    double sum = 0, kept = 0;
    for (std::int64_t v = 0; v < 17; ++v) sum += std::exp(static_cast<double>(logits.data()[r * 17 + v]) / 2);
    for (std::int64_t k = 0; k < 3; ++k) {
      const double z = static_cast<double>(logits.data()[r * 17 + t.ids.data()[r * 3 + k]]) / 2;
      REQUIRE(std::abs(static_cast<double>(t.log_probs.data()[r * 3 + k]) - (z - std::log(sum))) < 1e-5);
      REQUIRE((k == 0 || t.log_probs.data()[r * 3 + k] <= t.log_probs.data()[r * 3 + k - 1]));
      kept += std::exp(z) / sum;
    }
    REQUIRE(std::abs(std::exp(static_cast<double>(t.log_tail.data()[r])) - (1 - kept)) < 1e-5);
  }
  REQUIRE(refusal([&] { teacher.targets(5, 2); }).find("rows 5 to 7 of 6") != std::string::npos);
  TopKOf<LiveTeacher<Toy>> wide(LiveTeacher<Toy>(model), {.top_k = 18});
  REQUIRE(refusal([&] { wide.prepare(four_documents()); }).find("18 tokens of a row") != std::string::npos);
  const SettingsList facts = teacher.describe();
  REQUIRE(facts.back() == std::pair<std::string, std::string>{"teacher.temperature", "2"});
}

TEST_CASE("what does not fit together is refused with names", "[teacher]") {
  using Two = std::vector<std::pair<std::string, LabelTeacher>>;
  const auto made = [](Two teachers) { return refusal([&] { TeacherByRow<LabelTeacher>(teachers, TeacherNames()); }); };
  REQUIRE(made({}).find("no teacher is given") != std::string::npos);
  REQUIRE(made({{"", {}}}).find("teacher 0 has no name") != std::string::npos);
  REQUIRE(made({{"a", {}}, {"a", {}}}).find("two teachers are called a") != std::string::npos);
  REQUIRE(made({{"a", {}}, {"b", {.vocabulary = 18}}}).find("a has 17 tokens and b has 18") != std::string::npos);

  TeacherByRow<LabelTeacher> strict({{"math", {}}}, TeacherNames());
  REQUIRE(refusal([&] { strict.prepare(four_documents()); }).find("is d:1, which no teacher is named for") !=
          std::string::npos);
  TokenBatch nameless = four_documents();
  nameless.sources.clear();
  REQUIRE(refusal([&] { strict.prepare(nameless); }).find("has no name") != std::string::npos);
  TeacherByRow<LabelTeacher> unknown({{"math", {}}}, TeacherNames("poetry"));
  REQUIRE(refusal([&] { unknown.prepare(nameless); }).find("asks for the teacher poetry") != std::string::npos);
}

TEST_CASE("lines name their teacher; a line without one needs a name for the rest", "[teacher]") {
  const std::string path = "by_row_lines.jsonl";
  std::ofstream(path) << R"({"prompt": "1 + 1", "teacher": "math"})"
                      << "\n\n"
                      << R"({"prompt": "int"})"
                      << "\n";
  TeacherNames names("code");
  names.read(path);
  TokenBatch batch = four_documents();
  batch.sources = {path + ":1", path + ":3", "", "elsewhere:1"};
  REQUIRE(names.of(batch, 0) == "math");
  for (std::int64_t b = 1; b < 4; ++b) REQUIRE(names.of(batch, b) == "code");
  TeacherNames strict;
  REQUIRE(refusal([&] { strict.read(path); }).find(":3 has no \"teacher\"") != std::string::npos);
  TeacherNames other("math");
  other.read(path);
  REQUIRE(other.digest() != names.digest());
}

TEST_CASE("training with one teacher under two names has the bits of that teacher, and logs who marked what",
          "[teacher]") {
  // Every second micro-batch is of the other name.
  struct Named {
    RaggedDocuments inside{{.documents = 2, .seed = 3}};
    std::optional<TokenBatch> next() {
      std::optional<TokenBatch> batch = inside.next();
      batch->sources.assign(2, std::stoll(inside.cursor()) % 2 == 0 ? "even" : "odd");
      return batch;
    }
    std::string cursor() const { return inside.cursor(); }
    void seek(const std::string& cursor) { inside.seek(cursor); }
    std::vector<std::pair<std::string, std::string>> describe() const { return inside.describe(); }
  };
  struct Rows {
    double math = 0, code = 0, tokens = 0;
    void scalar(std::string_view name, std::int64_t, double value) {
      if (name == "teacher/math/rows") math += value;
      if (name == "teacher/code/rows") code += value;
      if (name == "train/tokens") tokens += value;
    }
    void flush() {}
  };
  using Live = LiveTeacher<Toy>;
  Toy model(17, 5, 1), alone(17, 4, 2), named(17, 4, 2);
  const RunSettings settings{.steps = 4, .micro_batches = 2};
  Trainer plain{alone, Named{}, Objective{Live(model), ReverseKl{}}, AdamW{}, ConstantRate{0.05}};
  plain.run(settings, NoMetrics{}, NoCheckpoints{});

  TeacherNames names("code");
  names.set("even", "math");
  Trainer both{named, Named{},
               Objective{TeacherByRow<Live>({{"math", Live(model)}, {"code", Live(model)}}, names), ReverseKl{}},
               AdamW{}, ConstantRate{0.05}};
  Rows rows;
  both.run(settings, rows, NoCheckpoints{});
  REQUIRE(rows.math > 0);
  REQUIRE(rows.code > 0);
  REQUIRE(rows.math + rows.code == rows.tokens);
  const auto a = alone.parameters(), b = named.parameters();
  for (std::size_t i = 0; i < a.size(); ++i)
    for (std::int64_t j = 0; j < a[i]->value.count(); ++j) REQUIRE(a[i]->value.data()[j] == b[i]->value.data()[j]);
}
