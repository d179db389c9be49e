// SPDX-License-Identifier: Apache-2.0
// SmolLM2-135M-Instruct from its GGUF file against transformers: log-probabilities, argmax, logits, greedy ids.
#include <algorithm>
#include <cstdlib>

#include "kdlib/checkpoint/load.hpp"
#include "kdlib/io/json.hpp"
#include "reference_models.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

constexpr double smollm2_tolerance =
    2e-3;  // of log-probabilities; the reference's own float32 order of summation moves them by 1e-4

std::optional<std::string> smollm2_path() {
  if (const char* path = std::getenv("KDLIB_SMOLLM2_GGUF")) return path;
  const std::string path = source_dir() + "/build/models/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!exists(path)) return std::nullopt;
  return path;
}

std::vector<std::int32_t> int32s(const Json& list) {
  std::vector<std::int32_t> out;
  for (const Json& x : list) out.push_back(static_cast<std::int32_t>(x.as_int()));
  return out;
}

}  // namespace

TEST_CASE("SmolLM2 from GGUF equals transformers", "[model][smollm2]") {
  const auto path = smollm2_path();
  if (!path) KDLIB_SKIP("SmolLM2-135M-Instruct.Q4_1.gguf is not here (set KDLIB_SMOLLM2_GGUF, or run scripts/demo)");
  using Model = Decoder<Cpu, float>;
  Model model = Model::from_pretrained(*path);
  const DecoderConfig& c = model.config();
  CHECK(c.hidden_size == 576);
  CHECK(c.parameter_count() == 134515008);
  CHECK(c.tied_head);
  const Json reference = Json::parse_file(reference_file("smollm2/smollm2.json"));
  const SafetensorsFile cut(reference_file("smollm2/smollm2_cut.safetensors"));
  const Json texts = reference.is_array() ? reference : reference.at("texts");
  std::size_t number = 0;
  for (const Json& text : texts) {
    CAPTURE(number);
    const std::vector<std::int32_t> ids = int32s(text.at("ids")), argmax = int32s(text.at("argmax"));
    TokenBatch batch;
    batch.append(ids);
    const auto hidden = model.forward(batch);
    const std::vector<float> logits = logits_of(model, hidden);
    const std::size_t v = static_cast<std::size_t>(c.vocab_size);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const float* row = logits.data() + i * v;
      double sum = 0;
      for (std::size_t j = 0; j < v; ++j) sum += std::exp(static_cast<double>(row[j]));
      const double lse = std::log(sum);
      CHECK(std::abs(lse - text.at("log_sum_exp")[i].as_double()) < smollm2_tolerance);
      CHECK(std::max_element(row, row + v) - row == argmax[i]);
      if (i + 1 < ids.size())
        CHECK(std::abs(static_cast<double>(row[ids[i + 1]]) - lse - text.at("next_token_log_prob")[i].as_double()) <
              smollm2_tolerance);
    }
    const auto last = read_as<float>(cut.at(concat(number, ".last_logits"))),
               state = read_as<float>(cut.at(concat(number, ".last_hidden")));
    CHECK(max_difference(logits.data() + logits.size() - v, last.data(), last.size()) < smollm2_tolerance);
    CHECK(max_difference(hidden.rows(hidden[0] - 1, 1).data(), state.data(), state.size()) < smollm2_tolerance);
    const std::vector<std::int32_t> wanted = int32s(text.at("greedy_ids"));
    CHECK(greedy(model, ids, wanted.size()) == wanted);
    ++number;
  }
  CHECK(number == 5);
}
