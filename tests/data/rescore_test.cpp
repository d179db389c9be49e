// SPDX-License-Identifier: Apache-2.0
// A teacher's log-probabilities beside token files, and steps on them: parts of several workers, the mix of plain and
// rescored steps.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "data/cut_tokenizers.hpp"
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
  CHECK_THROWS_WITH(rescore_documents(files, again, toy_scores),
                    contains("is a part of the run") && contains("teacher is 'toy' there and 'another' here"));
  again.teacher = "toy";
  again.min_reasoning = 2;
  CHECK_THROWS_WITH(rescore_documents(files, again, toy_scores), contains("min_reasoning is '1' there and '2' here"));
  again.min_reasoning = 1;
  again.strata = {"de/*=0.5", "en/*=1"};
  CHECK_THROWS_WITH(rescore_documents(files, again, toy_scores),
                    contains("strata is '' there and 'de/*=0.5, en/*=1' here"));
  // A part of before, whose json does not say what it was made of, is refused by the hash of its run.
  const std::string part = folder / "alone/parts/part_00000.json";
  write_file_atomically(part, "{\"run\":\"" + std::string(Json::parse_file(part).at("run").as_string()) + "\"}");
  CHECK_THROWS_WITH(rescore_documents(files, again, toy_scores), contains("its teacher, token files or selection"));
}

TEST_CASE("rescored parts of other files, another teacher or another selection are refused with both values",
          "[data][rescore]") {
  const TemporaryDirectory folder;
  write_rows(folder, 12);
  const TokenShards files = TokenShards::open(folder / "files", "train");
  RescoreSettings s = settings_for(folder / "parts");
  s.fraction = "0.5";
  s.min_reasoning = 2;
  rescore_documents(files, s, toy_scores);
  const RescoredOrigin origin = RescoredOrigin::read(folder / "parts");
  CHECK(origin.token_files == files.run());
  CHECK(origin.teacher == "toy");
  CHECK(origin.fraction == "0.5");
  CHECK(origin.min_reasoning == 2);
  CHECK_NOTHROW(origin.require_same({}));
  CHECK_NOTHROW(origin.require_same({files.run(), "toy", "0.50", 2}));
  CHECK_THROWS_WITH(origin.require_same({"other run", {}, {}, {}}),
                    contains(files.run()) && contains("'other run' is needed"));
  CHECK_THROWS_WITH(origin.require_same({{}, "another", {}, {}}),
                    contains("of the teacher 'toy', and 'another' is needed"));
  CHECK_THROWS_WITH(origin.require_same({{}, {}, "0.6", {}}), contains("'0.5', and '0.6' is needed"));
  CHECK_THROWS_WITH(origin.require_same({{}, {}, {}, 1}), contains("'2', and '1' is needed"));
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

TEST_CASE("a stored log-probability that is no number or above 0 is refused by document and token", "[data][rescore]") {
  for (const bool f32 : {true, false}) {
    CAPTURE(f32);
    const TemporaryDirectory folder;
    write_rows(folder, 3);
    RescoreSettings s = settings_for(folder / "parts");
    s.store_f32 = f32;
    rescore_documents(TokenShards::open(folder / "files", "train"), s, toy_scores);
    const std::string path = folder / "parts/parts/part_00000_teacherlogp.bin", good = read_file(path);
    StoredDocument d;
    TokenShards::open(folder / "parts", "parts", true).get(0, d);
    const auto t = static_cast<std::size_t>(std::find(d.loss.begin(), d.loss.end(), 1) - d.loss.begin());
    // Not a number, infinity and 0.5 as little-endian floats of 32 and of 16 bits.
    for (const char* bits :
         {f32 ? "00 00 c0 7f" : "00 7e", f32 ? "00 00 80 7f" : "00 7c", f32 ? "00 00 00 3f" : "00 38"}) {
      std::string bad = good;
      const std::size_t size = f32 ? 4 : 2;
      for (std::size_t i = 0; i < size; ++i)
        bad[t * size + i] = static_cast<char>(std::stoi(bits + 3 * i, nullptr, 16));
      write_file_atomically(path, bad);
      CHECK_THROWS_WITH(
          TokenShards::open(folder / "parts", "parts").get(0, d),
          contains("parts/part_00000:0: the teacher's log-probability of token " + std::to_string(t + 1)));
      CHECK_THROWS_WITH(TokenShards::open(folder / "parts", "parts", true), contains("part_00000_teacherlogp.bin"));
    }
  }
}

TEST_CASE("a teacher that can begin early hears of each document before it is asked", "[data][rescore]") {
  const TemporaryDirectory folder;
  write_rows(folder, 20);
  const TokenShards files = TokenShards::open(folder / "files", "train");
  RescoreSettings s = settings_for(folder / "early");
  std::vector<std::vector<std::int32_t>> told;
  std::size_t asked = 0, most = 0;
  s.ahead = 3;
  s.announce = [&](std::span<const std::int32_t> ids) { told.emplace_back(ids.begin(), ids.end()); };
  rescore_documents(files, s, [&](std::span<const std::int32_t> ids) {
    REQUIRE(asked < told.size());
    CHECK(told[asked] == std::vector<std::int32_t>(ids.begin(), ids.end()));
    most = std::max(most, told.size() - asked++);
    return toy_scores(ids);
  });
  CHECK(asked == 20);
  CHECK(told.size() == 20);
  CHECK(most == 4);
  rescore_documents(files, settings_for(folder / "plain"), toy_scores);
  CHECK(contents(folder / "early") == contents(folder / "plain"));
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
