// SPDX-License-Identifier: Apache-2.0
// Sources of written text: on-policy, teacher-written and the lambda-mix; their rows, coins, cursors and kept files.
#include <cmath>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/data/document_dataset.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/rollout/mixed.hpp"
#include "kdlib/rollout/on_policy.hpp"
#include "kdlib/rollout/teacher_written.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"
#include "support/toy_model.hpp"

using namespace kdlib;
using kdlib_tests::TemporaryDirectory;
using Model = kdlib_tests::ToyModel<float>;
using Ids = std::vector<std::int32_t>;

static_assert(RolloutSource<OnPolicy, Model>);
static_assert(!DataSource<OnPolicy>);
static_assert(DataSource<TeacherWritten<Model>>);
static_assert(RolloutSource<Mixed<DocumentDataset, OnPolicy>, Model>);
static_assert(!std::is_constructible_v<TeacherWritten<Model>, Model&&, Prompts, Sampler>);
static_assert(!std::is_constructible_v<TeacherWritten<Model>, const Model&&, Prompts, Sampler>);

namespace {

Prompts seven_prompts() {
  return Prompts(std::vector<Ids>{{3}, {4, 5}, {6, 7, 8}, {9}, {10, 11}, {12}, {13, 14}}, Ids{2});
}

TokenBatch given(int documents) {
  TokenBatch batch;
  for (int i = 0; i < documents; ++i) batch.append(Ids{20, 21 + i, 22});
  return batch;
}

bool same(const TokenBatch& a, const TokenBatch& b) {
  return a.ids == b.ids && a.offsets == b.offsets && a.weights == b.weights &&
         a.behaviour_log_probs == b.behaviour_log_probs && a.sources == b.sources;
}

/// The documents of several batches as one list of ids.
std::vector<Ids> documents(const std::vector<TokenBatch>& batches) {
  std::vector<Ids> out;
  for (const TokenBatch& batch : batches)
    for (std::int64_t b = 0; b < batch.documents(); ++b)
      out.emplace_back(batch.ids.begin() + batch.offsets[static_cast<std::size_t>(b)],
                       batch.ids.begin() + batch.offsets[static_cast<std::size_t>(b + 1)]);
  return out;
}

template <class Source, class Next>
void require_exact_resume(Source& source, Source& second, Next next) {
  std::vector<TokenBatch> batches;
  std::vector<SourceCursor> cursors;
  for (int i = 0; i < 8; ++i) {
    cursors.push_back(source.cursor());
    batches.push_back(*next(source));
  }
  for (const std::size_t from : {3u, 0u, 6u}) {
    second.seek(cursors[from]);
    for (std::size_t i = from; i < batches.size(); ++i) {
      REQUIRE(second.cursor() == cursors[i]);
      REQUIRE(same(*next(second), batches[i]));
    }
  }
}

}  // namespace

TEST_CASE(
    "an on-policy batch holds prompts x samples texts, counts exactly what was written and carries its log-probs (C31)",
    "[rollout][C31]") {
  Model student(30, 6, 1);
  OnPolicy source(seven_prompts(), Sampler{.max_new_tokens = 6}, {.prompts = 3, .samples = 2});
  const TokenBatch batch = *source.next(student);
  batch.check(30);
  REQUIRE(batch.documents() == 6);
  const TokenBatch::Rows rows = batch.rows();
  REQUIRE(batch.weight() == static_cast<double>(rows.token.size()));
  std::size_t prompt_tokens = 0;
  for (std::int64_t b = 0; b < 6; ++b)
    prompt_tokens += static_cast<std::size_t>(
        seven_prompts()[std::stoi(batch.sources[static_cast<std::size_t>(b)].substr(7))].size());
  REQUIRE(rows.token.size() == batch.ids.size() - prompt_tokens);
  for (const float log_prob : rows.behaviour) REQUIRE(log_prob < 0);
  REQUIRE(batch.sources[0] == batch.sources[1]);
  REQUIRE(documents({batch})[0] != documents({batch})[1]);
}

TEST_CASE("the prompts' end tokens stop the student, and the end token is a row (C19)", "[rollout][C19]") {
  Model student(8, 4, 3, 0.2);
  OnPolicy source(Prompts(std::vector<Ids>{{3}}, Ids{2}), Sampler{.max_new_tokens = 200}, {.prompts = 4});
  const TokenBatch batch = *source.next(student);
  int ended = 0;
  for (const Ids& document : documents({batch})) ended += document.back() == 2 ? 1 : 0;
  REQUIRE(ended == 4);
  int end_rows = 0;
  for (const TokenBatch::Rows rows = batch.rows(); const std::int32_t label : rows.label)
    end_rows += label == 2 ? 1 : 0;
  REQUIRE(end_rows == 4);
}

TEST_CASE("texts do not depend on how prompts are divided into batches", "[rollout]") {
  Model student(30, 6, 1);
  const Sampler sampler{.max_new_tokens = 6};
  OnPolicy one(seven_prompts(), sampler, {.prompts = 8}),
      four(seven_prompts(), sampler, {.prompts = 2, .decode_batch = 3});
  const std::vector<Ids> whole = documents({*one.next(student)});
  std::vector<TokenBatch> parts;
  for (int i = 0; i < 4; ++i) parts.push_back(*four.next(student));
  REQUIRE(documents(parts) == whole);
}

TEST_CASE("each epoch takes every prompt once and writes new text (D20: nothing skipped or repeated)",
          "[rollout][D20]") {
  Model student(30, 6, 1, 0.1);
  OnPolicy source(seven_prompts(), Sampler{.max_new_tokens = 6}, {.prompts = 2, .epochs = 2});
  std::map<std::string, int> seen;
  std::vector<TokenBatch> batches;
  while (auto batch = source.next(student)) {
    for (const std::string& name : batch->sources) ++seen[name];
    batches.push_back(*batch);
  }
  REQUIRE(seen.size() == 7);
  for (const auto& [name, count] : seen) REQUIRE(count == 2);
  REQUIRE(std::map<Ids, int>([&] {
            std::map<Ids, int> texts;
            for (const Ids& d : documents(batches)) ++texts[d];
            return texts;
          }())
              .size() == 14);
}

TEST_CASE("an on-policy source that seeks repeats what followed, bit for bit (D20)", "[rollout][D20]") {
  Model student(30, 6, 1);
  const Sampler sampler{.temperature = 0.9, .max_new_tokens = 6};
  OnPolicy a(seven_prompts(), sampler, {.prompts = 3, .samples = 2}),
      b(seven_prompts(), sampler, {.prompts = 3, .samples = 2});
  require_exact_resume(a, b, [&](OnPolicy& s) { return s.next(student); });
  OnPolicy other(Prompts(std::vector<Ids>{{3}}, Ids{2}), sampler);
  REQUIRE_THROWS_WITH(other.seek(a.cursor()), contains("has changed"));
}

TEST_CASE("a batch that is cut short leaves the source where it was and is written again whole", "[rollout]") {
  Model student(30, 6, 1);
  bool interrupt = false;
  OnPolicySettings settings{.prompts = 4};
  settings.progress = [&](const GenerationProgress& p) {
    if (interrupt && p.new_tokens > 8) throw std::runtime_error("interrupted");
  };
  OnPolicy source(seven_prompts(), Sampler{.max_new_tokens = 6}, settings),
      quiet(seven_prompts(), Sampler{.max_new_tokens = 6}, {.prompts = 4});
  REQUIRE(same(*source.next(student), *quiet.next(student)));
  const SourceCursor before = source.cursor();
  interrupt = true;
  REQUIRE_THROWS_WITH(source.next(student), contains("interrupted"));
  REQUIRE(source.cursor() == before);
  interrupt = false;
  REQUIRE(same(*source.next(student), *quiet.next(student)));
}

TEST_CASE("on-policy settings out of range are refused", "[rollout]") {
  REQUIRE_THROWS_WITH(OnPolicy(seven_prompts(), Sampler{}, {.prompts = 0}), contains("prompts is 0"));
  REQUIRE_THROWS_WITH(OnPolicy(seven_prompts(), Sampler{}, {.samples = 0}), contains("samples is 0"));
  REQUIRE_THROWS_AS(OnPolicy(seven_prompts(), Sampler{.top_p = 2}), ConfigError);
  Model student(30, 6, 1, 1.0, 3);
  OnPolicy long_prompts(seven_prompts(), Sampler{}, {.prompts = 7});
  REQUIRE_THROWS_WITH(long_prompts.next(student), contains("3 tokens and the context holds 3"));
}

TEST_CASE("the coin is never for lambda 0, always for 1, and near lambda between (C33)", "[rollout][C33]") {
  for (const std::uint64_t seed : {1ull, 7ull, 12345678901ull}) {
    int written = 0;
    for (std::int64_t step = 0; step < 4000; ++step) {
      REQUIRE_FALSE(student_writes(0.0, seed, step));
      REQUIRE(student_writes(1.0, seed, step));
      written += student_writes(0.3, seed, step) ? 1 : 0;
    }
    REQUIRE(std::abs(written - 1200) < 100);  // 3.4 standard deviations
  }
}

TEST_CASE("the coin depends on seed and step only: not on the batch, what was drawn before, or a resume (C33)",
          "[rollout][C33]") {
  Model student(30, 6, 1), other_student(30, 6, 2);
  const auto make = [&](double lambda, std::int64_t micro) {
    return Mixed(DocumentDataset(given(5), {.batch = 2}),
                 OnPolicy(seven_prompts(), Sampler{.max_new_tokens = 4}, {.prompts = 2}),
                 MixedSettings{.lambda = lambda, .seed = 9, .micro_batches = micro});
  };
  auto a = make(0.5, 1), b = make(0.5, 1), c = make(0.5, 2);
  int student_text = 0;
  for (std::int64_t step = 0; step < 40; ++step) {
    const bool expected = student_writes(0.5, 9, step);
    student_text += expected ? 1 : 0;
    REQUIRE(a.next_is_student_written() == expected);
    const TokenBatch from_a = *a.next(student), from_b = *b.next(other_student);
    REQUIRE(from_a.behaviour_log_probs.empty() != expected);
    REQUIRE(from_b.behaviour_log_probs.empty() != expected);
    for (int micro = 0; micro < 2; ++micro)
      REQUIRE(c.next(student)->behaviour_log_probs.empty() != expected);  // one coin a step
  }
  REQUIRE(student_text > 5);
  REQUIRE(student_text < 35);
}

TEST_CASE("lambda 0 and 1 use one part alone, whose cursor moves alone", "[rollout][C33]") {
  Model student(30, 6, 1);
  for (const double lambda : {0.0, 1.0}) {
    DocumentDataset offline(given(5), {.batch = 2});
    OnPolicy online(seven_prompts(), Sampler{.max_new_tokens = 4}, {.prompts = 2});
    const SourceCursor offline_start = offline.cursor(), online_start = online.cursor();
    Mixed mixed(offline, online, {.lambda = lambda});
    for (int i = 0; i < 6; ++i) REQUIRE(mixed.next(student)->behaviour_log_probs.empty() == (lambda == 0.0));
    REQUIRE((offline.cursor() == offline_start) == (lambda == 1.0));
    REQUIRE((online.cursor() == online_start) == (lambda == 0.0));
  }
}

TEST_CASE("a mixed source that seeks repeats coins and text, bit for bit (D20)", "[rollout][D20]") {
  Model student(30, 6, 1);
  const auto make = [&] {
    return Mixed(DocumentDataset(given(5), {.batch = 2}),
                 OnPolicy(seven_prompts(), Sampler{.max_new_tokens = 4}, {.prompts = 2}),
                 MixedSettings{.lambda = 0.5, .seed = 3});
  };
  auto a = make(), b = make();
  require_exact_resume(a, b, [&](auto& s) { return s.next(student); });
  for (const char* text : {"", "mixed 3", "mixed x|a|b", "mixed 1|a", "on_policy 1|2|3"})
    REQUIRE_THROWS_AS(a.seek(text), Error);
  REQUIRE_THROWS_WITH(Mixed(DocumentDataset(given(5)), OnPolicy(seven_prompts(), Sampler{}), {.lambda = 1.5}),
                      contains("lambda is 1.5"));
}

TEST_CASE("teacher-written text is the teacher's, written once, and the same in later epochs", "[rollout]") {
  Model teacher(30, 6, 4);
  TeacherWritten source(teacher, seven_prompts(), Sampler{.max_new_tokens = 6},
                        {.prompts = 7, .ahead = 3, .decode_batch = 2});
  const TokenBatch first = *source.next(), second = *source.next();
  std::map<std::string, Ids> texts;
  for (std::size_t i = 0; i < 7; ++i) texts[first.sources[i]] = documents({first})[i];
  REQUIRE(texts.size() == 7);
  REQUIRE(first.sources != second.sources);
  for (std::size_t i = 0; i < 7; ++i) REQUIRE(documents({second})[i] == texts[second.sources[i]]);
  // Blocks change when a text is written, not what it says.
  TeacherWritten at_once(teacher, seven_prompts(), Sampler{.max_new_tokens = 6}, {.prompts = 7, .ahead = 100});
  REQUIRE(at_once.next()->ids == first.ids);
}

TEST_CASE("kept blocks are read again, by a resumed run too, without asking the teacher", "[rollout][D20]") {
  const TemporaryDirectory folder;
  Model teacher(30, 6, 4), changed(30, 6, 5);
  const Sampler sampler{.max_new_tokens = 6};
  const TeacherWrittenSettings settings{.prompts = 2, .ahead = 3, .folder = folder / "text", .teacher_name = "toy"};
  TeacherWritten a(teacher, seven_prompts(), sampler, settings);
  std::vector<TokenBatch> batches;
  for (int i = 0; i < 6; ++i) batches.push_back(*a.next());
  REQUIRE(list_directory(folder / "text") ==
          std::vector<std::string>{"teacher_text-0.jsonl", "teacher_text-1.jsonl", "teacher_text-2.jsonl"});

  TeacherWritten b(changed, seven_prompts(), sampler, settings);  // would write other text
  for (const TokenBatch& expected : batches) REQUIRE(same(*b.next(), expected));
  REQUIRE(changed.largest_decode == 0);

  remove_tree(folder /
              "text/teacher_text-1.jsonl");  // a block that was not finished is written anew, equal to the first
  TeacherWritten c(teacher, seven_prompts(), sampler, settings);
  for (const TokenBatch& expected : batches) REQUIRE(same(*c.next(), expected));
  TeacherWritten d(teacher, seven_prompts(), sampler, settings), e(teacher, seven_prompts(), sampler, settings);
  require_exact_resume(d, e, [](auto& s) { return s.next(); });
}

TEST_CASE("kept blocks of other settings and damaged ones are refused with what to do", "[rollout]") {
  const TemporaryDirectory folder;
  Model teacher(30, 6, 4);
  const TeacherWrittenSettings settings{.ahead = 3, .folder = folder.path(), .teacher_name = "toy"};
  const auto make = [&](Sampler sampler, const std::string& name) {
    TeacherWrittenSettings s = settings;
    s.teacher_name = name;
    return TeacherWritten(teacher, seven_prompts(), sampler, s);
  };
  make(Sampler{.max_new_tokens = 6}, "toy").write_all();
  REQUIRE_NOTHROW(make(Sampler{.max_new_tokens = 6}, "toy").write_all());
  REQUIRE_THROWS_WITH(make(Sampler{.max_new_tokens = 7}, "toy").write_all(),
                      contains("teacher_text-0.jsonl") && contains("remove it"));
  REQUIRE_THROWS_WITH(make(Sampler{.max_new_tokens = 6}, "other").write_all(), contains("another teacher"));
  const std::string path = folder / "teacher_text-0.jsonl", text = read_file(path);
  write_file_atomically(path, text.substr(0, text.find('\n', text.find('\n') + 1) + 1));
  REQUIRE_THROWS_WITH(make(Sampler{.max_new_tokens = 6}, "toy").write_all(), contains("ends after 2 lines"));
  write_file_atomically(path, text.substr(0, text.size() / 2));
  REQUIRE_THROWS_AS(make(Sampler{.max_new_tokens = 6}, "toy").write_all(), FormatError);
  write_file_atomically(path, "");
  REQUIRE_THROWS_WITH(make(Sampler{.max_new_tokens = 6}, "toy").write_all(), contains("is empty"));
}

TEST_CASE("prompts that the teacher cannot answer are refused before anything is written", "[rollout]") {
  Model small(10, 6, 4), brief(30, 6, 4, 1.0, 3);
  REQUIRE_THROWS_WITH(TeacherWritten(small, seven_prompts(), Sampler{}),
                      contains("outside the model's vocabulary of 10"));
  REQUIRE_THROWS_WITH(TeacherWritten(brief, seven_prompts(), Sampler{}), contains("the context holds 3"));
}

TEST_CASE("a source that samples refuses losses that its sampler does not fit (C37)", "[rollout][C37]") {
  const SampledTextUse whole{}, ratio{.reads_sampled_tokens = true, .corrects_by_ratio = true},
      drawn{.reads_sampled_tokens = true};
  const Sampler filtered{.top_p = 0.5}, tempered{.temperature = 0.3};
  CHECK_NOTHROW(OnPolicy(seven_prompts(), Sampler{}).check_loss(drawn));
  CHECK_THROWS_WITH(OnPolicy(seven_prompts(), filtered).check_loss(drawn), contains("cuts tokens off"));
  CHECK_THROWS_WITH(OnPolicy(seven_prompts(), filtered).check_loss(ratio), contains("cuts tokens off"));
  CHECK_THROWS_WITH(OnPolicy(seven_prompts(), tempered).check_loss(drawn), contains("temperature 0.3"));
  CHECK_NOTHROW(OnPolicy(seven_prompts(), tempered).check_loss(ratio));
  CHECK_THROWS_WITH(OnPolicy(seven_prompts(), filtered).check_loss(whole), contains("accept truncated text"));
  CHECK_NOTHROW(OnPolicy(seven_prompts(), filtered, {.accept_truncated_text = true}).check_loss(whole));
  CHECK_THROWS_WITH(OnPolicy(seven_prompts(), filtered, {.accept_truncated_text = true}).check_loss(ratio),
                    contains("cuts tokens off"));

  Model teacher(30, 6, 4);
  const TeacherWritten written(teacher, seven_prompts(), filtered), whole_text(teacher, seven_prompts(), Sampler{});
  CHECK_NOTHROW(written.check_loss(whole));  // given text, however it was drawn
  CHECK_THROWS_WITH(written.check_loss(ratio), contains("cuts tokens off"));
  CHECK_THROWS_WITH(whole_text.check_loss(drawn), contains("the teacher wrote the text"));
  CHECK_NOTHROW(whole_text.check_loss(ratio));

  OnPolicy online(seven_prompts(), filtered);
  DocumentDataset offline(given(3));
  CHECK_THROWS_WITH(Mixed(offline, online, {.lambda = 0.1}).check_loss(drawn), contains("cuts tokens off"));
  CHECK_NOTHROW(Mixed(offline, online, {.lambda = 0}).check_loss(drawn));  // the student never writes
}
