// SPDX-License-Identifier: Apache-2.0
// Batched writing: what a sequence says does not depend on its company, and its log-probs are those of the model.
#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/core/parallel.hpp"
#include "kdlib/rollout/generate.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"
#include "support/toy_model.hpp"

using namespace kdlib;
using kdlib_tests::Tolerance;
using kdlib_tests::ToyModel;
using IdLists = std::vector<std::vector<std::int32_t>>;

namespace {

const IdLists ragged = {{3}, {1, 2, 3, 4, 5, 6, 7}, {9, 9}, {0, 11, 12}, {5, 4, 3, 2}, {30, 31}, {8}, {8, 8, 8, 8, 8}};

/// Log-softmax of the logits after the last of `ids`, by the whole forward pass.
template <class T>
std::vector<double> next_log_probs(ToyModel<T>& model, const std::vector<std::int32_t>& ids) {
  TokenBatch batch;
  batch.append(ids);
  const Tensor<T, Cpu> hidden = model.forward(batch);
  const Tensor<T, Cpu> logits = head_logits(model.head(), View<const T, Cpu>(hidden.rows(batch.tokens() - 1, 1)));
  std::vector<double> out(logits.data(), logits.data() + logits.count());
  double largest = -std::numeric_limits<double>::infinity(), sum = 0;
  for (const double z : out) largest = std::max(largest, z);
  for (const double z : out) sum += std::exp(z - largest);
  for (double& z : out) z -= largest + std::log(sum);
  return out;
}

void require_equal(const std::vector<Completion>& a, const std::vector<Completion>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    CAPTURE(i);
    REQUIRE(a[i].ids == b[i].ids);
    REQUIRE(a[i].stopped == b[i].stopped);
    for (std::size_t k = 0; k < a[i].ids.size(); ++k)
      REQUIRE(std::abs(a[i].log_probs[k] - b[i].log_probs[k]) < Tolerance<float>::model);
  }
}

}  // namespace

TEMPLATE_TEST_CASE("the toy model satisfies GenerativeModel", "[rollout]", float, double) {
  STATIC_REQUIRE(GenerativeModel<ToyModel<TestType>>);
}

TEMPLATE_TEST_CASE("the log-prob of a drawn token equals the model's log-prob of that token", "[rollout]", float,
                   double) {
  ToyModel<TestType> model(50, 8, 7);
  const Sampler sampler{.max_new_tokens = 9, .seed = 4, .stop_ids = {2}};
  const std::vector<Completion> written = generate(model, ragged, sampler);
  REQUIRE(written.size() == ragged.size());
  for (std::size_t i = 0; i < ragged.size(); ++i) {
    std::vector<std::int32_t> ids = ragged[i];
    for (std::size_t k = 0; k < written[i].ids.size(); ++k) {
      const std::vector<double> expected = next_log_probs(model, ids);
      const auto id = static_cast<std::size_t>(written[i].ids[k]);
      REQUIRE(std::abs(written[i].log_probs[k] - expected[id]) < Tolerance<float>::loss * 10);
      REQUIRE(written[i].full_log_probs[k] == written[i].log_probs[k]);
      ids.push_back(written[i].ids[k]);
    }
  }
}

TEMPLATE_TEST_CASE("texts are the same alone, in any batch, in any order and with any number of threads", "[rollout]",
                   float, double) {
  ToyModel<TestType> model(50, 8, 7);
  const Sampler sampler{.temperature = 0.9, .top_p = 0.95, .max_new_tokens = 12, .seed = 3, .stop_ids = {2, 6, 9}};
  const std::vector<Completion> expected = generate(model, ragged, sampler, {.batch = 1});
  for (const std::int64_t batch : {2, 3, 8, 100}) {
    require_equal(generate(model, ragged, sampler, {.batch = batch}), expected);
    require_equal(generate(model, ragged, sampler, {.batch = batch, .prompt_tokens = 1}), expected);
  }
  const int threads = thread_count();
  set_thread_count(3);
  require_equal(generate(model, ragged, sampler, {.batch = 4}), expected);
  set_thread_count(threads);

  std::vector<WritingRequest> reversed;
  for (std::size_t i = ragged.size(); i-- > 0;) reversed.push_back({ragged[i], 0, static_cast<std::uint32_t>(i), {}});
  std::vector<Completion> back = generate(model, std::span<const WritingRequest>(reversed), sampler, {.batch = 3});
  std::reverse(back.begin(), back.end());
  require_equal(back, expected);
}

TEST_CASE("a sequence ends with the first stop id, which is kept and drawn from the model (C19)", "[rollout][C19]") {
  ToyModel<float> model(12, 4, 1);
  const Sampler sampler{.max_new_tokens = 40, .seed = 9, .stop_ids = {5, 7}};
  IdLists prompts(64, {1, 2});
  bool both[2] = {false, false};
  for (const Completion& c : generate(model, prompts, sampler, {.batch = 7})) {
    for (std::size_t k = 0; k + 1 < c.ids.size(); ++k) REQUIRE((c.ids[k] != 5 && c.ids[k] != 7));
    REQUIRE(c.stopped == (c.ids.back() == 5 || c.ids.back() == 7));
    if (c.stopped) both[c.ids.back() == 5 ? 0 : 1] = true;
    REQUIRE(std::isfinite(c.log_probs.back()));
    REQUIRE(c.log_probs.back() < 0);
  }
  REQUIRE((both[0] && both[1]));
}

TEST_CASE("equal prompts in different rows or steps get different texts, the same key the same text", "[rollout]") {
  ToyModel<float> model(100, 4, 1, 0.1);
  const std::vector<std::int32_t> prompt = {4, 5};
  const std::vector<WritingRequest> requests = {
      {prompt, 0, 0, {}}, {prompt, 0, 1, {}}, {prompt, 1, 0, {}}, {prompt, 0, 0, {}}};
  const auto texts = generate(model, std::span<const WritingRequest>(requests), Sampler{.max_new_tokens = 10}, {});
  REQUIRE(texts[0].ids == texts[3].ids);
  REQUIRE(texts[0].ids != texts[1].ids);
  REQUIRE(texts[0].ids != texts[2].ids);
  const auto teacher = generate(model, std::span<const WritingRequest>(requests), Sampler{.max_new_tokens = 10},
                                {.purpose = RngPurpose::sample_teacher});
  REQUIRE(teacher[0].ids != texts[0].ids);
  const auto other =
      generate(model, std::span<const WritingRequest>(requests), Sampler{.max_new_tokens = 10, .seed = 2}, {});
  REQUIRE(other[0].ids != texts[0].ids);
}

TEST_CASE("finished sequences make room: the batch stays full while prompts wait", "[rollout]") {
  ToyModel<float> model(6, 4, 1, 0.3);  // a stop id in six: lengths differ a lot
  const IdLists prompts(60, {1});
  std::int64_t steps = 0, last = 0;
  GenerationProgress end;
  GenerateSettings settings{.batch = 5};
  settings.progress = [&](const GenerationProgress& p) {
    ++steps;
    REQUIRE(p.finished >= last);
    last = p.finished;
    end = p;
  };
  const auto texts = generate(model, prompts, Sampler{.max_new_tokens = 50, .stop_ids = {0}}, settings);
  std::int64_t tokens = 0;
  for (const Completion& c : texts) tokens += static_cast<std::int64_t>(c.ids.size());
  REQUIRE(end.finished == 60);
  REQUIRE(end.new_tokens == tokens);
  REQUIRE(end.prompt_tokens == 60);
  REQUIRE(model.largest_decode == 5);
  REQUIRE(steps * 5 < tokens + 5 * 51);  // idle slots only at the end
}

TEST_CASE("each text may have a length of its own and is told of when it is complete", "[rollout]") {
  ToyModel<float> model(50, 8, 7);
  const Sampler sampler{.max_new_tokens = 20, .seed = 4};  // no stop id: texts end with their length
  const std::vector<Completion> longest = generate(model, ragged, sampler);
  std::vector<WritingRequest> requests;
  for (std::size_t i = 0; i < ragged.size(); ++i)
    requests.push_back({ragged[i], 0, static_cast<std::uint32_t>(i), {}, i == 2 ? 0 : 9 - static_cast<int>(i)});
  std::vector<std::size_t> order;
  GenerateSettings settings{.batch = 8};
  settings.finished = [&](std::size_t request, const Completion& text) {
    order.push_back(request);
    CHECK(text.ids.size() == (request == 2 ? 20 : 9 - request));
  };
  const std::vector<Completion> texts = generate(model, std::span<const WritingRequest>(requests), sampler, settings);
  CHECK(order == std::vector<std::size_t>{7, 6, 5, 4, 3, 1, 0, 2});  // the shortest first
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::size_t n = i == 2 ? 20 : 9 - i;
    CHECK(texts[i].ids ==
          std::vector<std::int32_t>(longest[i].ids.begin(), longest[i].ids.begin() + static_cast<std::ptrdiff_t>(n)));
    CHECK_FALSE(texts[i].stopped);
  }
}

TEST_CASE("an exception from the progress callback ends the writing", "[rollout]") {
  ToyModel<float> model(50, 8, 7);
  GenerateSettings settings;
  settings.progress = [](const GenerationProgress& p) {
    if (p.new_tokens > 20) throw std::runtime_error("stop");
  };
  REQUIRE_THROWS_WITH(generate(model, ragged, Sampler{}, settings), contains("stop"));
}

TEST_CASE("a full context ends the text; greedy text is the argmax of each step", "[rollout]") {
  ToyModel<double> model(50, 8, 7, 1.0, 10);
  const auto texts = generate(model, ragged, Sampler{.temperature = 0.0, .max_new_tokens = 100}, {.batch = 3});
  for (std::size_t i = 0; i < ragged.size(); ++i) {
    REQUIRE(ragged[i].size() + texts[i].ids.size() == 10);
    REQUIRE_FALSE(texts[i].stopped);
    std::vector<std::int32_t> ids = ragged[i];
    for (const std::int32_t id : texts[i].ids) {
      const std::vector<double> p = next_log_probs(model, ids);
      REQUIRE(id == static_cast<std::int32_t>(std::max_element(p.begin(), p.end()) - p.begin()));
      ids.push_back(id);
    }
  }
}

TEST_CASE("prompts that cannot be written after are refused with what to do", "[rollout]") {
  ToyModel<float> model(50, 8, 7, 1.0, 4);
  const auto write = [&](const std::vector<std::int32_t>& prompt) {
    const std::vector<WritingRequest> requests = {{prompt, 0, 0, "prompts.jsonl:12"}};
    return generate(model, std::span<const WritingRequest>(requests), Sampler{}, {});
  };
  REQUIRE_THROWS_AS(write({}), InputError);
  REQUIRE_THROWS_WITH(write({}), contains("prompts.jsonl:12 is empty"));
  REQUIRE_THROWS_WITH(write({1, 50}), contains("id 50 at position 1") && contains("vocabulary of 50"));
  REQUIRE_THROWS_WITH(write({1, -1}), contains("id -1"));
  REQUIRE_THROWS_WITH(write({1, 1, 1, 1}), contains("4 tokens and the context holds 4") && contains("shorten"));
  REQUIRE(write({1, 1, 1})[0].ids.size() == 1);
  REQUIRE_THROWS_WITH(generate(model, IdLists{{1}}, Sampler{}, {.batch = 0}), contains("batch is 0"));
  REQUIRE_THROWS_AS(generate(model, IdLists{{1}}, Sampler{.top_p = 2}, {}), ConfigError);
  REQUIRE(generate(model, IdLists{}, Sampler{}, {}).empty());
}

TEST_CASE("a written document has one row for each written token and none for the prompt (C14, C31)",
          "[rollout][C14][C31]") {
  TokenBatch batch;
  append_completion(batch, std::vector<std::int32_t>{10, 11, 12}, {{7, 8}, {-0.5f, -0.25f}, {-0.5f, -0.25f}, true},
                    "a");
  append_completion(batch, std::vector<std::int32_t>{20}, {{9}, {-1.5f}, {-1.5f}, false}, "b");
  batch.check(30);
  const TokenBatch::Rows rows = batch.rows();
  REQUIRE(rows.token == std::vector<std::int64_t>{2, 3, 5});
  REQUIRE(rows.label == std::vector<std::int32_t>{7, 8, 9});
  REQUIRE(rows.behaviour == std::vector<float>{-0.5f, -0.25f, -1.5f});
  REQUIRE(batch.weight() == 3);
  REQUIRE(batch.sources == std::vector<std::string>{"a", "b"});
}

TEST_CASE("a text that ends by a rule of one's own is cut with all that belongs to its ids", "[rollout]") {
  const std::vector<std::int32_t> prompt{10, 11};
  Completion text{{7, 8, 9}, {-1, -2, -3}, {-4, -5, -6}, true, {0, 1, 0}};
  text.routing = {4, 1, {{20, 21, 22, 23}}};  // of the prompt's two tokens and all ids but the last
  Completion whole = text;
  whole.cut(3);
  CHECK(whole.stopped);
  CHECK(whole.routing.tokens == 4);
  text.cut(2);
  CHECK(text.ids == std::vector<std::int32_t>{7, 8});
  CHECK(text.log_probs == std::vector<float>{-1, -2});
  CHECK(text.full_log_probs == std::vector<float>{-4, -5});
  CHECK(text.given == std::vector<std::uint8_t>{0, 1});
  CHECK_FALSE(text.stopped);  // its stop id is gone
  CHECK(text.routing.tokens == 3);
  CHECK(text.routing.active == 1);
  CHECK(text.routing.ids == std::vector<std::vector<std::int32_t>>{{20, 21, 22}});
  TokenBatch batch;
  append_completion(batch, prompt, text);
  batch.check(30);
  CHECK(batch.ids == std::vector<std::int32_t>{10, 11, 7, 8});
  CHECK(batch.weights == std::vector<float>{0, 1, 0, 0});
  CHECK_THROWS_WITH(text.cut(0), contains("[Completion::cut] length is 0 and the text has 2 ids; give 1 to 2"));
  CHECK_THROWS_WITH(text.cut(3), contains("length is 3 and the text has 2 ids"));
}

TEST_CASE("a completion whose lists differ in length is refused", "[rollout]") {
  const std::vector<std::int32_t> prompt{10, 11};
  TokenBatch batch;
  const auto append = [&](const Completion& text) { append_completion(batch, prompt, text); };
  CHECK_THROWS_WITH(
      append({{7}, {-1, -2, -3}, {-1, -2, -3}}),
      contains("[append_completion] the completion has 1 ids and 3 log_probs; it needs one for each id") &&
          contains("Completion::cut(n)"));
  CHECK_THROWS_AS(append({{7, 8}, {-1}, {-1, -2}}), ShapeError);
  CHECK_THROWS_WITH(append({{7, 8}, {}, {}}), contains("2 ids and 0 log_probs"));
  CHECK_THROWS_WITH(append({{7}, {-1}, {-1, -2}}), contains("1 ids and 2 values of full_log_probs"));
  CHECK_THROWS_WITH(append({{7}, {-1}, {-1}, false, {0, 1}}), contains("1 ids and 2 values of given"));
  CHECK(batch.documents() == 0);
  append({{7}, {-1}, {}});  // full_log_probs are not read
  CHECK(batch.documents() == 1);
}
