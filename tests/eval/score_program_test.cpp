// SPDX-License-Identifier: Apache-2.0
// The program `score`: log-probabilities, logits and hidden states against transformers, and errors on bad input.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/jsonl.hpp"
#include "kdlib/io/safetensors.hpp"
#include "support/catch.hpp"
#include "support/run_program.hpp"
#include "support/tolerance.hpp"

using namespace kdlib_tests;

namespace {

std::string model() { return "--model " + reference_file("models/qwen3"); }

/// Rows of the reference batch without their padding, as lines.
struct Reference {
  kdlib::SafetensorsFile expected{reference_file("models/qwen3") + "/expected.safetensors"};
  std::vector<std::vector<std::int64_t>> lines;
  std::int64_t length = 0, vocabulary = 0;

  Reference() {
    const auto ids = kdlib::read_as<std::int64_t>(expected.at("ids")),
               mask = kdlib::read_as<std::int64_t>(expected.at("mask"));
    length = expected.at("ids").shape()[1];
    vocabulary = expected.at("logits").shape()[2];
    for (std::int64_t b = 0; b < expected.at("ids").shape()[0]; ++b) {
      lines.emplace_back();
      for (std::int64_t i = 0; i < length; ++i)
        if (mask[static_cast<std::size_t>(b * length + i)] != 0)
          lines.back().push_back(ids[static_cast<std::size_t>(b * length + i)]);
    }
  }
  std::string text() const {
    std::string out;
    for (const auto& line : lines) {
      kdlib::JsonWriter json;
      json.begin_object().member("ids", line).end_object();
      out += json.text() + "\n";
    }
    return out;
  }
};

}  // namespace

TEST_CASE("score gives transformers' logits and the log-probability of every token after the first",
          "[eval][program]") {
  if (!exists(program_path("score"))) KDLIB_SKIP("the program score is not built (KDLIB_BIN_DIR)");
  const Reference reference;
  const TemporaryDirectory folder;
  kdlib::write_file_atomically(folder / "in", reference.text());
  const ProgramAnswer answer =
      run_program("score", model() + " --input " + (folder / "in") + " --out " + (folder / "out") + " --logits " +
                               (folder / "logits") + " --hidden " + (folder / "hidden"));
  CAPTURE(answer.error);
  REQUIRE(answer.status == 0);
  REQUIRE_THAT(answer.error, contains("tokens/s") && contains("perplexity"));
  const std::vector<float> logits = kdlib::read_as<float>(reference.expected.at("logits"));
  const kdlib::SafetensorsFile got_logits(folder / "logits"), got_hidden(folder / "hidden");
  kdlib::JsonlReader out(folder / "out");
  for (std::size_t b = 0; b < reference.lines.size(); ++b) {
    const auto& ids = reference.lines[b];
    const std::vector<float> got = kdlib::read_as<float>(got_logits.at(std::to_string(b) + ".logits"));
    REQUIRE(got.size() == ids.size() * static_cast<std::size_t>(reference.vocabulary));
    REQUIRE(got_hidden.at(std::to_string(b) + ".hidden").shape()[0] == static_cast<std::int64_t>(ids.size()));
    const float* expected = logits.data() + b * static_cast<std::size_t>(reference.length * reference.vocabulary);
    REQUIRE(max_difference(got.data(), expected, got.size()) < Tolerance<float>::model);
    const kdlib::Json line = *out.next();
    const kdlib::Json log_probs = line.at("log_probs");
    REQUIRE(line.at("ids").size() == ids.size());
    REQUIRE(log_probs.size() == ids.size() - 1);
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      const float* z = expected + i * static_cast<std::size_t>(reference.vocabulary);
      double sum = 0;
      for (std::int64_t j = 0; j < reference.vocabulary; ++j) sum += std::exp(static_cast<double>(z[j]));
      REQUIRE(std::abs(log_probs[i].as_double() - (static_cast<double>(z[ids[i + 1]]) - std::log(sum))) <
              Tolerance<float>::model);
    }
  }
  REQUIRE_FALSE(out.next());
}

TEST_CASE("score answers a single token with no log-probability", "[eval][program][C15]") {
  if (!exists(program_path("score"))) KDLIB_SKIP("the program score is not built (KDLIB_BIN_DIR)");
  const TemporaryDirectory folder;
  kdlib::write_file_atomically(folder / "in", "{\"ids\":[7]}\n");
  REQUIRE(run_program("score", model() + " --input " + (folder / "in") + " --out " + (folder / "out")).status == 0);
  REQUIRE(kdlib::read_file(folder / "out") == "{\"ids\":[7],\"log_probs\":[]}\n");
}

TEST_CASE("score ends with 1 on bad input, 2 on bad usage, and leaves no output then", "[eval][program]") {
  if (!exists(program_path("score"))) KDLIB_SKIP("the program score is not built (KDLIB_BIN_DIR)");
  REQUIRE(run_program("score", "--help").status == 0);
  REQUIRE(run_program("score", model()).status == 2);
  const TemporaryDirectory folder;
  const auto fails = [&](const std::string& lines, const std::string& part) {
    kdlib::write_file_atomically(folder / "in", lines);
    const ProgramAnswer answer =
        run_program("score", model() + " --input " + (folder / "in") + " --out " + (folder / "out"));
    CAPTURE(lines, answer.error);
    REQUIRE(answer.status == 1);
    REQUIRE_THAT(answer.error, contains(part));
    REQUIRE_FALSE(exists(folder / "out"));
  };
  fails("", "has no lines");
  fails("{\"ids\":[]}", "is empty");
  fails("{\"ids\":[320]}", ":1: id 320 at position 0 is outside the vocabulary of 320");
  fails("{\"text\":\"a\"}", "needs a tokenizer");
  fails("{\"prompt_ids\":[1]}", "is a prompt without an answer");
  fails("{\"ids\":[1,2]", "byte");
  kdlib::write_file_atomically(folder / "in", "{\"ids\":[1,2]}");
  REQUIRE(run_program("score", model() + " --input " + (folder / "in") + " --out " + (folder / "in") + "/x").status ==
          1);
  REQUIRE(run_program("score", model() + " --input " + (folder / "missing") + " --out " + (folder / "out")).status ==
          1);
}
