// SPDX-License-Identifier: Apache-2.0
// Training against a teacher on the other end of a socket: the same bits as beside it, and steps that overlap.
#include <cmath>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/loss/reverse_kl.hpp"
#include "kdlib/loss/top_k.hpp"
#include "kdlib/optim/adamw.hpp"
#include "kdlib/optim/schedule.hpp"
#include "kdlib/teacher/live.hpp"
#include "kdlib/teacher/remote.hpp"
#include "kdlib/teacher/remote_at.hpp"
#include "kdlib/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"
#include "support/shared.hpp"
#include "support/timed_teacher.hpp"
#include "support/training_parts.hpp"
#if defined(KDLIB_TEST_SERVICE)
#include "support/served_teacher.hpp"
#endif

using namespace kdlib;
using kdlib_tests::FakeReply;
using kdlib_tests::FakeRequest;
using kdlib_tests::FakeTeacherServer;
using kdlib_tests::RaggedDocuments;
using kdlib_tests::refusal;
#if defined(KDLIB_TEST_SERVICE)
using kdlib_tests::Served;
#endif
using kdlib_tests::TimedSource;
using kdlib_tests::TimedTeacher;
using kdlib_tests::VirtualTime;
using Toy = kdlib_tests::ToyModel<float>;
using Ids = std::vector<std::int32_t>;

namespace {

/// Seconds of virtual time that three steps take: 4 micro-batches of one document, each 0.1 s to write and 0.1 s to
/// score.
template <bool announces>
double step_seconds(std::int64_t in_flight) {
  VirtualTime time;
  RemoteTeacherSettings s{
      .urls = {"http://h:1"}, .dialect = Dialect::vllm, .vocabulary = 17, .top_k = 3, .in_flight = in_flight};
  time.set_waiting(true);
  TimedTeacher<announces> teacher(
      {s, std::make_unique<kdlib_tests::TimedTransport>(time, 0.1), {[&time] { return time.now(); }, {}}}, time);
  time.set_waiting(false);
  const double begin = time.now();
  Toy student(17, 4, 2);
  Trainer trainer{student, TimedSource{RaggedDocuments{{.documents = 1, .seed = 3}}, time, 0.1},
                  Objective{std::move(teacher), TopKForwardKl{}}, AdamW{}, ConstantRate{0.01}};
  trainer.run({.steps = 3, .micro_batches = 4}, NoMetrics{}, NoCheckpoints{});
  return (time.now() - begin) / 3;
}

}  // namespace

TEST_CASE("a step with a teacher of 100 ms takes at most 1.25 times its longer side", "[remote]") {
  // Writing takes 0.4 s; batch k is scored while batch k + 1 is written, and the last one at the end.
  REQUIRE(step_seconds<true>(4) <= 1.25 * 0.4 + 1e-9);
  REQUIRE(std::abs(step_seconds<false>(4) - 0.8) < 1e-9);  // without announce(): one after the other
}

#if defined(KDLIB_TEST_SERVICE) && defined(KDLIB_WITH_REMOTE)
namespace {

template <class Teacher, class Loss>
std::vector<float> trained(Teacher teacher, const Loss& loss) {
  Toy student(17, 4, 2);
  Trainer trainer{student, RaggedDocuments{{.seed = 5}}, Objective{std::move(teacher), loss}, AdamW{},
                  ConstantRate{0.01}};
  const RunResult result = trainer.run({.steps = 6, .micro_batches = 3}, NoMetrics{}, NoCheckpoints{});
  std::vector<float> out = kdlib_tests::all_values(student);
  out.push_back(static_cast<float>(result.loss));
  return out;
}

using Hidden = RemoteTeacher<HiddenTargets<float, Cpu>>;
using TopK = RemoteTeacher<TopKTargets<float, Cpu>>;

}  // namespace

TEST_CASE("f32 hidden states over a socket train bit for bit like a live teacher", "[remote]") {
  Toy model(17, 6, 1);
  Served served(model);
  Hidden remote(served.settings(Dialect::automatic));
  REQUIRE(remote.client().facts().dialect == Dialect::kdlib);
  REQUIRE(remote.vocab_size() == 17);
  REQUIRE(remote.client().facts().end_ids == Ids{2});
  const std::vector<float> live = trained(LiveTeacher<Toy>{model}, ReverseKl{});
  REQUIRE(trained(remote, ReverseKl{}) == live);
  auto s = served.settings();
  s.precision = RemotePrecision::bf16;
  const std::vector<float> half = trained(Hidden{s}, ReverseKl{});
  REQUIRE(half != live);
  REQUIRE(std::abs(half.back() - live.back()) < 2e-3f);
}

TEST_CASE("top-k and sampled rows in binary form, and vLLM's interface of the same server, agree with the head",
          "[remote]") {
  Toy model(17, 6, 1);
  Served served(model);
  const TokenBatch batch = RaggedDocuments{{.documents = 5}}.batch(3);
  const auto labels = batch.rows().label;
  const auto R = static_cast<std::int64_t>(labels.size());
  LiveTeacher live{model};
  live.prepare(batch);
  Tensor<float, Cpu> logits(Shape{R, 17});
  write_head_logits<float, Cpu>(model.head(), live.targets(0, R).hidden, logits.view());
  TopK binary(served.settings());
  auto of_vllm = served.settings(Dialect::vllm);
  TopK vllm(of_vllm);
  RemoteTeacher<SampledTargets> sampled(served.settings()), sampled_vllm(of_vllm);
  for (auto* t : {&binary, &vllm}) t->prepare(batch);
  for (auto* t : {&sampled, &sampled_vllm}) t->prepare(batch);
  const auto a = binary.targets(0, R), b = vllm.targets(0, R);
  for (std::int64_t r = 0; r < R; ++r) {
    const std::vector<double> one{1.0};
    const std::int32_t label = labels[static_cast<std::size_t>(r)];
    const TopKRow row = top_k_row(std::span<float>(logits.data() + r * 17, 17), 5, one, label);
    for (std::int64_t k = 0; k < 5; ++k) {
      REQUIRE(a.ids.data()[r * 5 + k] == row.ids[static_cast<std::size_t>(k)]);
      REQUIRE(a.log_probs.data()[r * 5 + k] == row.log_probs[static_cast<std::size_t>(k)]);
      REQUIRE(b.ids.data()[r * 5 + k] == row.ids[static_cast<std::size_t>(k)]);
      REQUIRE(std::abs(b.log_probs.data()[r * 5 + k] - row.log_probs[static_cast<std::size_t>(k)]) < 1e-6f);
    }
    REQUIRE(a.log_tail.data()[r] == row.log_tail[0]);
    REQUIRE(std::abs(b.log_tail.data()[r] - row.log_tail[0]) < 1e-5f);
    REQUIRE(sampled.targets(r, 1).log_probs[0] == row.label_log_prob);
    REQUIRE(std::abs(sampled_vllm.targets(r, 1).log_probs[0] - row.label_log_prob) < 1e-6f);
  }
}

TEST_CASE("a server tells the tokens that the client chose", "[remote]") {
  Toy model(17, 6, 1);
  Served served(model);
  const auto settings = served.settings();
  RemoteClient client(settings, RemoteWant::sampled, make_http_transport(settings));
  const TokenBatch batch = RaggedDocuments{{.documents = 4}}.batch(2);
  const auto labels = batch.rows().label;
  const auto R = static_cast<std::int64_t>(labels.size());
  std::vector<std::int32_t> ids;
  for (std::int64_t r = 0; r < R; ++r)
    for (const std::int32_t id : {labels[static_cast<std::size_t>(r)], static_cast<std::int32_t>(r % 17), 16})
      ids.push_back(id);
  const std::vector<float> found = remote_log_probs_at(client, batch, ids, 3);
  LiveTeacher live{model};
  live.prepare(batch);
  Tensor<float, Cpu> logits(Shape{R, 17});
  write_head_logits<float, Cpu>(model.head(), live.targets(0, R).hidden, logits.view());
  for (std::int64_t r = 0; r < R; ++r) {
    double sum = 0;
    for (std::int64_t v = 0; v < 17; ++v) sum += std::exp(static_cast<double>(logits.data()[r * 17 + v]));
    for (std::int64_t k = 0; k < 3; ++k) {
      const auto at = static_cast<std::size_t>(r * 3 + k);
      const double expected = static_cast<double>(logits.data()[r * 17 + ids[at]]) - std::log(sum);
      REQUIRE(std::abs(static_cast<double>(found[at]) - expected) < 1e-5);
    }
  }
  REQUIRE_THAT(refusal([&] { remote_log_probs_at(client, batch, ids, 2); }), contains("ids for"));
  ids.back() = 17;
  REQUIRE_THAT(refusal([&] { remote_log_probs_at(client, batch, ids, 3); }), contains("the teacher has 17"));
  served.replaced_hash = "sha256:fox";
  ids.back() = 1;
  REQUIRE_THAT(refusal([&] { remote_log_probs_at(client, batch, ids, 3); }),
               contains("another teacher than at the start"));
  const auto other = served.settings(Dialect::vllm);
  RemoteClient vllm(other, RemoteWant::sampled, make_http_transport(other));
  REQUIRE_THAT(refusal([&] { remote_log_probs_at(vllm, batch, ids, 3); }), contains("tells no tokens that the client"));
}

TEST_CASE("a server that changes its teacher in the middle of a run is noticed", "[remote]") {
  Toy model(17, 6, 1);
  Served served(model);
  Hidden remote(served.settings());
  served.replaced_hash = "sha256:fox";
  const TokenBatch batch = RaggedDocuments{{}}.batch(0);
  REQUIRE_THAT(refusal([&] { remote.prepare(batch); }), contains("the server has another teacher than at the start"));
}

TEST_CASE("a teacher's server refuses what it cannot answer, each with its status and sentence", "[remote]") {
  Toy model(17, 6, 1);
  Served served(model);
  const auto refused = [&](int status, const std::string& part, const ServiceAnswer& answer) {
    INFO(answer.body);
    return answer.status == status && answer.body.find(part) != std::string::npos;
  };
  const std::string rows = "/v1/teacher/rows", completions = "/v1/completions";
  REQUIRE(served.ask("GET", "/health").status == 200);
  REQUIRE(refused(403, "Host is", served.ask("GET", "/health", "", {{"host", "evil.test"}})));
  REQUIRE(refused(403, "Origin", served.ask("GET", "/v1/teacher", "", {{"origin", "http://evil.test"}})));
  REQUIRE(refused(401, "a token is needed", served.ask("GET", "/v1/teacher", "", {{"authorization", "Bearer x"}})));
  REQUIRE(refused(404, "scores text", served.ask("GET", "/")));
  REQUIRE(refused(405, "takes POST", served.ask("GET", rows)));
  REQUIRE(refused(405, "read by GET", served.ask("POST", "/v1/teacher")));
  REQUIRE(refused(415, "application/json", served.ask("POST", rows, "{}", {{"content-type", "text/plain"}})));
  REQUIRE(refused(400, "documents is missing", served.ask("POST", rows, "{}")));
  REQUIRE(refused(400, "[json] body", served.ask("POST", rows, "{")));
  REQUIRE(refused(422, "'x' is no field", served.ask("POST", rows, R"({"x":1})")));
  const auto with = [](const char* more) {
    return std::string(R"({"documents":[{"ids":[1,2,3],"rows":[0,1]}])") + more + "}";
  };
  REQUIRE(served.ask("POST", rows, with("")).status == 200);
  const char* chosen = R"({"documents":[{"ids":[1,2,3],"rows":[0,1],"at":[[4,5],[6]]}],"want":"at"})";
  REQUIRE(refused(400, "every row has the same number", served.ask("POST", rows, chosen)));
  chosen = R"({"documents":[{"ids":[1,2,3],"rows":[0,1],"at":[[4,5]]}],"want":"at"})";
  REQUIRE(refused(400, "has 1 lists for 2 rows", served.ask("POST", rows, chosen)));
  chosen = R"({"documents":[{"ids":[1,2,3],"rows":[0],"at":[[4,17]]}],"want":"at"})";
  REQUIRE(refused(400, "the teacher has 17 tokens", served.ask("POST", rows, chosen)));
  chosen = R"({"documents":[{"ids":[1,2,3],"rows":[0],"at":[[4]]}]})";
  REQUIRE(refused(422, "it belongs to want", served.ask("POST", rows, chosen)));
  REQUIRE(refused(400, "at is missing", served.ask("POST", rows, with(R"(,"want":"at")"))));
  REQUIRE(refused(422, "want is 'logits'", served.ask("POST", rows, with(R"(,"want":"logits")"))));
  REQUIRE(refused(422, "dtype is 'f8'", served.ask("POST", rows, with(R"(,"dtype":"f8")"))));
  REQUIRE(refused(422, "top_k is 18", served.ask("POST", rows, with(R"(,"want":"top_k","top_k":18)"))));
  const auto one = [](const char* document) { return concat("{\"documents\":[", document, "]}"); };
  REQUIRE(refused(400, "the teacher has 17 tokens", served.ask("POST", rows, one(R"({"ids":[1,17],"rows":[0]})"))));
  REQUIRE(refused(400, "rows rise", served.ask("POST", rows, one(R"({"ids":[1,2],"rows":[1]})"))));
  REQUIRE(refused(400, "rows rise", served.ask("POST", rows, one(R"({"ids":[1,2,3],"rows":[1,0]})"))));
  std::string longest = "1";
  for (int i = 0; i < 64; ++i) longest += ",1";
  REQUIRE(refused(400, "the teacher takes 64",
                  served.ask("POST", rows, one(concat("{\"ids\":[", longest, "],\"rows\":[]}").c_str()))));
  REQUIRE(refused(404, "no model 'fox'", served.ask("POST", completions, R"({"model":"fox","prompt":[1]})")));
  REQUIRE(refused(400, "max_tokens is 16", served.ask("POST", completions, R"({"prompt":[1]})")));
  REQUIRE(refused(400, "'stream' is not built",
                  served.ask("POST", completions, R"({"prompt":[1],"max_tokens":1,"stream":true})")));
  REQUIRE(refused(400, "no tokenizer", served.ask("POST", completions, R"({"prompt":"a","max_tokens":1})")));
  REQUIRE(refused(400, "prompt_logprobs is 18",
                  served.ask("POST", completions, R"({"prompt":[1],"max_tokens":1,"prompt_logprobs":18})")));
  REQUIRE(served.ask("POST", completions, R"({"prompt":[[1,2],[3]],"max_tokens":1,"prompt_logprobs":-1})").status ==
          200);
  REQUIRE(served.ask("GET", "/v1/teacher/head", "", {{"if-none-match", "\"sha256:toy\""}}).status == 304);
}
#else
TEST_CASE("serve --teacher needs libcurl and Boost", "[remote]") {
  SUCCEED();
  std::puts("[kdlib-skip] libcurl or Boost is not here: rows over a socket are not tested");
}
#endif
