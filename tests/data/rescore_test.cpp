// SPDX-License-Identifier: Apache-2.0
// A teacher's log-probabilities beside token files, and what is made of them: parts of several workers, weights around
// a running mean, modes of reasoning. The numbers of weights, steps and modes are worked out by hand or by Python from
// the formulas of docs/formats.md ("Rescored parts") and kdlib/data/confidence.hpp; those of the modes by an
// independent Philox4x32-10.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "data/cut_tokenizers.hpp"
#include "kdlib/data/curriculum.hpp"
#include "kdlib/data/rescore.hpp"
#include "kdlib/data/rescored_mix.hpp"
#include "kdlib/data/token_files.hpp"
#include "kdlib/io/blake2b.hpp"
#include "kdlib/train/spans.hpp"
#include "support/catch.hpp"

using namespace kdlib;
using namespace kdlib_tests;

static_assert(DataSource<RescoredMix>);

namespace {

const Tokenizer& tokenizer() { return cut_tokenizer(); }

/// Token files of `n` rows, in shards of 7.
void write_rows(const TemporaryDirectory& folder, int n, const std::string& effort = "high") {
  std::string text;
  for (int i = 0; i < n; ++i)
    text += "{\"synth_id\":\"row " + std::to_string(i) + "\",\"language\":\"" + (i % 3 == 0 ? "de" : "en") +
            "\",\"exercise\":\"" + (i % 2 == 0 ? "math" : "rag") + "\",\"query\":\"Why " + std::to_string(i) +
            "?\",\"synthetic_reasoning\":\"" + std::string(1 + i % 5, 'a') + " b c\",\"synthetic_answer\":\"So " +
            std::to_string(i) + ".\"}\n";
  write_file_atomically(folder / "rows.jsonl", text);
  TokenFileSettings s;
  s.inputs = {folder / "rows.jsonl"};
  s.out = folder / "files";
  s.split = "0";
  s.shard_rows = 7;
  s.rows.effort = effort;
  write_token_files(tokenizer(), s);
}

/// A teacher whose log-probability of a token follows from its id and place.
double toy_log_prob(std::int32_t id, std::size_t place) {
  return -0.001 * static_cast<double>((static_cast<std::size_t>(id) * 31 + place * 7) % 9000);
}
std::vector<double> toy_scores(std::span<const std::int32_t> ids) {
  std::vector<double> out;
  for (std::size_t t = 1; t < ids.size(); ++t) out.push_back(toy_log_prob(ids[t], t));
  return out;
}

RescoreSettings settings_for(const std::string& out) {
  RescoreSettings s;
  s.out = out;
  s.fraction = "1";
  s.part_documents = 8;
  s.teacher = "toy";
  return s;
}

std::map<std::string, std::string> contents(const std::string& root) {
  std::map<std::string, std::string> out;
  for (const char* folder : {"", "parts"}) {
    const std::string path = join_path(root, folder);
    for (const std::string& name : list_directory(path))
      if (is_regular_file(join_path(path, name))) out[join_path(folder, name)] = read_file(join_path(path, name));
  }
  return out;
}

/// numpy's view of the parts, by a reader that shares no code with this library; 77: numpy is not here.
int numpy_status(const std::string& root) {
  const char* source = ::getenv("KDLIB_SOURCE_DIR");
  const std::string command = "python3 '" + std::string(source != nullptr ? source : ".") +
                              "/benchmarks/peers/megatron_reader.py' '" + root + "' > /dev/null 2>&1";
  return ::system(command.c_str()) / 256;
}

std::string steps_of(double share, int n, char yes, char no) {
  std::string out;
  for (int k = 0; k < n; ++k) out += is_shared_step(k, share) ? yes : no;
  return out;
}

}  // namespace

TEST_CASE("rescored parts hold the teacher's values for the medium rendering, in any number of workers",
          "[data][rescore]") {
  const TemporaryDirectory folder;
  write_rows(folder, 30);
  const TokenShards files = TokenShards::open(folder / "files", "train");
  const RescoreResult alone = rescore_documents(files, settings_for(folder / "alone"), toy_scores);
  CHECK(alone.selected == 30);
  CHECK(alone.parts == 4);
  CHECK(alone.made_parts == 4);
  CHECK(alone.complete);
  const auto whole = contents(folder / "alone");
  for (const std::int64_t worker : {2, 0, 1}) {
    RescoreSettings s = settings_for(folder / "three");
    s.worker = worker;
    s.workers = 3;
    CHECK(rescore_documents(files, s, toy_scores).complete == (worker == 1));
  }
  CHECK(contents(folder / "three") == whole);
  const int numpy = numpy_status(folder / "alone");
  CHECK((numpy == 0 || numpy == 77 || numpy == 127));
  const TokenShards parts = TokenShards::open(folder / "alone", "parts", true);
  REQUIRE(parts.documents() == 30);
  CHECK(parts.has_log_probs());
  CHECK_NOTHROW(parts.require_tokenizer(tokenizer()));
  StoredDocument scored, plain;
  std::int64_t counted = 0;
  for (std::int64_t d = 0; d < 30; ++d) {
    parts.get(d, scored);
    files.get(d, plain);
    const RowRecord row = parts.records()[static_cast<std::size_t>(d)];
    CHECK(plain.ids[static_cast<std::size_t>(row.effort_at)] == 1932);    // high
    CHECK(scored.ids[static_cast<std::size_t>(row.effort_at)] == 14093);  // medium
    CHECK(row.effort == "medium");
    CHECK(scored.loss == plain.loss);
    for (std::size_t t = 0; t + 1 < scored.ids.size(); ++t) {
      if (scored.loss[t] == 0) continue;
      ++counted;
      const double x = toy_log_prob(scored.ids[t + 1], t + 1);
      CHECK(std::abs(static_cast<double>(scored.log_probs[t]) - x) <= std::abs(x) * 0.0005 + 1e-7);  // 11 bits
    }
  }
  CHECK(counted == alone.scored);
}

TEST_CASE("a rerun makes what is missing or damaged, and no other run's parts are touched", "[data][rescore]") {
  const TemporaryDirectory folder;
  write_rows(folder, 30);
  const TokenShards files = TokenShards::open(folder / "files", "train");
  rescore_documents(files, settings_for(folder / "alone"), toy_scores);
  const auto whole = contents(folder / "alone");
  // A rerun makes nothing; a part that lost its bytes is made again.
  CHECK(rescore_documents(files, settings_for(folder / "alone"), toy_scores).made_parts == 0);
  write_file_atomically(folder / "alone/parts/part_00002_teacherlogp.bin", "x");
  std::vector<std::string> messages;
  RescoreSettings again = settings_for(folder / "alone");
  again.message = [&](const std::string& text) { messages.push_back(text); };
  CHECK_THROWS_WITH(TokenShards::open(folder / "alone", "parts", true), contains("part_00002_teacherlogp"));
  CHECK(rescore_documents(files, again, toy_scores).made_parts == 1);
  CHECK(contents(folder / "alone") == whole);
  REQUIRE(messages.size() == 1);
  CHECK_THAT(messages[0], contains("part_00002 is made again"));
  again.teacher = "another";
  CHECK_THROWS_WITH(rescore_documents(files, again, toy_scores), contains("is a part of the run"));
}

TEST_CASE("documents are selected by key, language, exercise and length, and bad values are refused",
          "[data][rescore]") {
  const TemporaryDirectory folder;
  write_rows(folder, 40);
  const TokenShards files = TokenShards::open(folder / "files", "train");
  RescoreSettings s = settings_for(folder / "out");
  s.fraction = "0.25";
  s.strata = {"de/*=0.9", "*/rag=0"};
  s.store_f32 = true;
  rescore_documents(files, s, toy_scores);
  const TokenShards parts = TokenShards::open(folder / "out", "parts");
  std::vector<std::string> chosen, expected;
  for (const RowRecord& row : parts.records()) chosen.push_back(row.key);
  for (int i = 0; i < 40; ++i) {
    const double share = i % 3 == 0 ? 0.9 : i % 2 == 0 ? 0.25 : 0;
    const std::string key = "row " + std::to_string(i);
    if (std::ldexp(static_cast<double>(blake2b64("rescore:" + key)), -64) < share) expected.push_back(key);
  }
  CHECK(chosen == expected);
  CHECK(chosen.size() > 5);
  CHECK(verify_rescored(parts, 5, 2e-3, toy_scores) < 1e-6);
  const auto wrong = [](std::span<const std::int32_t> ids) {
    auto scores = toy_scores(ids);
    scores[scores.size() - 2] -= 0.5;
    return scores;
  };
  CHECK_THROWS_WITH(verify_rescored(parts, 3, 2e-3, wrong), contains("scored again as"));
  for (const double bad : {std::nan(""), 0.01, -1001.0, -std::numeric_limits<double>::infinity()}) {
    CAPTURE(bad);
    const auto broken = [bad](std::span<const std::int32_t> ids) {
      auto scores = toy_scores(ids);
      scores[4] = bad;
      return scores;
    };
    CHECK_THROWS_WITH(rescore_documents(files, settings_for(folder / "bad"), broken),
                      contains("token 5 of 'row 0'") && contains("-1000 to 0"));
    CHECK_FALSE(path_exists(folder / "bad/parts/part_00000.json"));
    CHECK_FALSE(path_exists(folder / "bad/manifest.json"));
  }
  s.out = folder / "none";
  s.strata.clear();
  s.min_reasoning = 1000;
  CHECK_THROWS_WITH(rescore_documents(files, s, toy_scores), contains("none is selected"));
  s.strata = {"de=0.5"};
  CHECK_THROWS_WITH(rescore_documents(files, s, toy_scores), contains("LANGUAGE/EXERCISE=SHARE"));
  CHECK_THROWS_WITH(TokenShards::open(folder / "files", "parts"), contains("synth_rescored_v1"));
  CHECK(log_prob_bin(0) == 0);
  CHECK(log_prob_bin(-0.0099) == 0);
  CHECK(log_prob_bin(-0.01) == 1);
  CHECK(log_prob_bin(-2.3) == 5);
  CHECK(log_prob_bin(-10) == 7);
  CHECK(static_cast<float>(f16(-2.3f)) == -2.30078125f);
  CHECK(static_cast<float>(f16(-17.3f)) == -17.296875f);
}

TEST_CASE("confidence weights, spans and the step's loss are the golden numbers", "[data][confidence]") {
  ConfidenceWeights weights;
  CHECK_THROWS_AS(weights.center(), ConfigError);
  SpanWeights spans({{"reasoning", 1}, {"final", 1}});
  // L = sum of span loss / count of the span, each token's loss times its weight.
  const auto step = [&](const std::vector<float>& teacher, const std::vector<std::int32_t>& span,
                        const std::vector<double>& student) {
    weights.begin_step(teacher, span);
    spans.begin_step();
    spans.count(span);
    const std::vector<float> w = spans.weights(span);
    double loss = 0;
    for (std::size_t r = 0; r < span.size(); ++r)
      loss += static_cast<double>(w[r]) * weights.weight(teacher[r], span[r]) * -student[r];
    return loss;
  };
  const double first = step({-0.1f, -2.3f, -5, -0.7f, -0.01f}, {0, 0, 0, 1, 1}, {-0.5, -2, -4, -1, -0.2});
  CHECK(weights.center() == Approx(-1.622).epsilon(1e-6));
  CHECK(weights.weight(-0.1f) == 4);
  CHECK(weights.weight(-2.3f) == Approx(0.507631).epsilon(1e-5));
  CHECK(weights.weight(-5) == 0.25);
  CHECK(weights.weight(-0.7f) == Approx(2.514314).epsilon(1e-5));
  CHECK(first == Approx(1.338421 + 1.657157).epsilon(1e-6));
  ConfidenceWeights copy;
  copy.restore(weights.state());
  const double second = step({-1, -3, -0.2f}, {0, 0, 1}, {-1.2, -2.5, -0.3});
  CHECK(weights.center() == Approx(-1.53875).epsilon(1e-6));
  CHECK(weights.weight(-1) == Approx(1.713863).epsilon(1e-5));
  CHECK(weights.weight(-3) == 0.25);
  CHECK(weights.weight(-0.2f) == Approx(3.814273).epsilon(1e-5));
  CHECK(second == Approx(2.485100).epsilon(1e-6));
  copy.begin_step({-1, -3, -0.2f}, {0, 0, 1});
  CHECK(copy.state() == weights.state());  // every bit
  copy.begin_step({}, {});
  CHECK(copy.state() == weights.state());
  CHECK_THROWS_AS(copy.restore("0123"), FormatError);
  CHECK_THROWS_AS(copy.restore(std::string(64, 'x')), FormatError);
  ConfidenceWeights apart({.decay = 0.5, .center_by_span = true});
  apart.begin_step({-1, -3, -0.5f}, {0, 0, 1});
  apart.begin_step({-2}, {0});
  CHECK(apart.center(0) == Approx((0.5 * -4 - 2) / (0.5 * 2 + 1)));
  CHECK(apart.center(1) == -0.5);
  CHECK_THROWS_AS(ConfidenceWeights({.temperature = 0}), ConfigError);
  CHECK_THROWS_AS(ConfidenceWeights({.least = 2}), ConfigError);
}

TEST_CASE("kinds of steps are spread evenly, modes and phases follow ticket and progress", "[data][curriculum]") {
  CHECK(steps_of(0.65, 20, 'R', 'v') == "vRvRRvRRvRRvRRvRRvRR");
  CHECK(steps_of(0.15, 20, 'A', 'o') == "ooooooAooooooAoooooA");
  CHECK_THROWS_AS(is_shared_step(0, 1.5), ConfigError);
  const Curriculum curriculum;
  const auto modes = [&](double trained) {
    std::string out;
    for (std::int64_t n = 0; n < 10; ++n)
      out += "LMH"[static_cast<std::size_t>(curriculum.mode(n, curriculum.at(trained).shares))];
    return out;
  };
  CHECK(modes(0) == "MLLMLLLLLL");
  CHECK(modes(0.3 * 8e9) == "HLMMMMLMLM");
  CHECK(modes(0.7 * 8e9) == "HLHHMMMHMH");
  CHECK(curriculum.at(0.29 * 8e9).samples == 1);
  CHECK(curriculum.at(0.66 * 8e9).samples == 2);
  CHECK(curriculum.at(0.66 * 8e9).tickets == 32);
  CHECK(curriculum.at(0.66 * 8e9).shares == std::array<double, 3>{0.2, 0.6, 0.2});
  CHECK(curriculum.at(0, 1).caps == std::array<std::int64_t, 3>{768, 1536, 3072});
  CHECK(curriculum.at(0.8 * 8e9, 2).shares[1] == Approx(0.6));
  CHECK(curriculum.at(0.8 * 8e9, 2).shares[2] == Approx(0.3));
  CurriculumSettings wrong;
  wrong.rollouts = 7;
  CHECK_THROWS_WITH(Curriculum(wrong), contains("7 texts a step"));
  BackPressure pressure;
  int level = 0;
  for (int i = 0; i < 19; ++i) level += pressure.add_step(3, 7);
  CHECK(level == 0);
  CHECK(pressure.add_step(3, 7) == 1);
  for (int i = 0; i < 20; ++i) CHECK(pressure.add_step(3, 7) == 0);  // it rests
  CHECK(pressure.add_step(3, 7) == 1);
  level = pressure.level();
  for (int i = 0; i < 45; ++i) level += pressure.add_step(0, 7);
  CHECK(level == 1);
  CHECK(pressure.level() == 1);
}

TEST_CASE("a mix of plain and rescored steps weighs by confidence, and resumes with every bit of its sums",
          "[data][rescore]") {
  const TemporaryDirectory folder;
  write_rows(folder, 30);
  const TokenShards files = TokenShards::open(folder / "files", "train");
  rescore_documents(files, settings_for(folder / "parts"), toy_scores);
  const TokenShards parts = TokenShards::open(folder / "parts", "parts");
  const RescoredMixSettings settings{.share = 0.65, .micro_batches = 2, .confidence = {.decay = 0.9}};
  const auto make = [&] {
    return RescoredMix(IndexedDataset(files, {.tokens = 200}), IndexedDataset(parts, {.tokens = 300}), settings);
  };
  struct Step {
    SourceCursor before;
    std::vector<std::vector<float>> weights;
    std::vector<std::pair<std::string, double>> metrics;
  };
  const auto take = [](RescoredMix& source) {
    Step step{source.cursor(), {}, {}};
    std::vector<TokenBatch> batches;
    for (int i = 0; i < 2; ++i) batches.push_back(*source.next());
    SpanWeights spans({{"reasoning", 1}, {"final", 1}});
    spans.weigh(batches);
    const std::vector<TokenBatch> plain = batches;
    source.weigh_rows(batches);
    for (std::size_t b = 0; b < batches.size(); ++b) step.weights.push_back(batches[b].weights);
    step.metrics = source.step_metrics();
    if (step.metrics.front().second == 0) CHECK(batches[0].weights == plain[0].weights);
    return step;
  };
  RescoredMix source = make();
  std::vector<Step> steps;
  std::string kinds;
  for (int k = 0; k < 12; ++k) {
    steps.push_back(take(source));
    kinds += steps.back().metrics.front().second == 1 ? 'R' : 'v';
  }
  CHECK(kinds == "vRvRRvRRvRRv");
  const auto value = [](const Step& step, const std::string& name) {
    for (const auto& [key, number] : step.metrics)
      if (key == name) return number;
    return std::nan("");
  };
  const Step& scored = steps[1];
  CHECK(value(scored, "train/confidence_center") < 0);
  CHECK(value(scored, "train/confidence_mean") > 0.25);
  double bins = 0;
  for (int i = 0; i < 8; ++i) bins += value(scored, "teacher/logp_bin" + std::to_string(i) + "/reasoning");
  CHECK(bins == Approx(1));
  RescoredMix second = make();
  for (const std::size_t from : {std::size_t{5}, std::size_t{1}, std::size_t{8}}) {
    second.seek(steps[from].before);
    for (std::size_t k = from; k < steps.size(); ++k) {
      const Step again = take(second);
      CHECK(again.before == steps[k].before);
      CHECK(again.weights == steps[k].weights);
      CHECK(again.metrics == steps[k].metrics);
    }
  }
}

TEST_CASE("a mix refuses parts without a teacher, other cursors and other batches", "[data][rescore]") {
  const TemporaryDirectory folder;
  write_rows(folder, 12);
  const TokenShards files = TokenShards::open(folder / "files", "train");
  rescore_documents(files, settings_for(folder / "parts"), toy_scores);
  const TokenShards parts = TokenShards::open(folder / "parts", "parts");
  CHECK_THROWS_WITH(RescoredMix(IndexedDataset(files), IndexedDataset(files)), contains("log-probabilities"));
  RescoredMix source(IndexedDataset{files}, IndexedDataset{parts}, {.share = 1});
  CHECK_THROWS_AS(source.seek("indexed 0 0"), ConfigError);
  std::vector<TokenBatch> strange(1);
  strange[0].append(std::vector<std::int32_t>{1, 2});
  strange[0].sources = {"elsewhere"};
  static_cast<void>(source.next());
  CHECK_THROWS_AS(source.weigh_rows(strange), InputError);
}
