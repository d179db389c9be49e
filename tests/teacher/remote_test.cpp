// SPDX-License-Identifier: Apache-2.0
// Remote teachers against a server on the loopback interface, with every fault that a wire has. Clocks are the tests'
// own: nobody waits.
#include "kdlib/teacher/remote.hpp"

#include <sys/resource.h>

#include <cmath>
#include <cstdlib>
#include <set>

#include "kdlib/backend/cpu.hpp"
#include "support/catch.hpp"
#include "support/fake_teacher.hpp"
#include "support/refusal.hpp"
#include "support/remote_clock.hpp"

using namespace kdlib;
using kdlib_tests::FakeReply;
using kdlib_tests::FakeRequest;
using kdlib_tests::FakeTeacherServer;
using kdlib_tests::FormulaTeacher;
using kdlib_tests::refusal;
using kdlib_tests::SilentTransport;
using kdlib_tests::SteppedClock;
using Ids = std::vector<std::int32_t>;
using TopK = RemoteTeacher<TopKTargets<float, Cpu>>;

namespace {

const FormulaTeacher formula(17);

RemoteTeacherSettings settings_of(const FakeTeacherServer& server, Dialect dialect = Dialect::vllm) {
  return {.urls = {server.url()}, .dialect = dialect, .vocabulary = 17, .top_k = 3};
}

TokenBatch small_batch(std::int32_t first = 1) {
  TokenBatch batch;
  batch.append(Ids{first, 5, 9, 2}, std::vector<float>{0, 1, 1, 0});
  batch.append(Ids{first, 7, 7});
  return batch;
}

/// The targets of a batch are the formula's.
void check_targets(const TopKTargets<float, Cpu>& targets, const TokenBatch& batch) {
  const auto rows = batch.rows();
  REQUIRE(targets.ids[0] == static_cast<std::int64_t>(rows.token.size()));
  for (std::size_t r = 0; r < rows.token.size(); ++r) {
    std::int64_t begin = 0;
    for (const std::int64_t offset : batch.offsets)
      if (offset <= rows.token[r]) begin = offset;
    const auto length = static_cast<std::size_t>(rows.token[r] - begin) + 1;
    const auto p = formula.log_probs(std::span(batch.ids).subspan(static_cast<std::size_t>(begin), length));
    const Ids best = FormulaTeacher::order(p);
    for (std::size_t k = 0; k < 3; ++k) {
      REQUIRE(targets.ids.data()[r * 3 + k] == best[k]);
      REQUIRE(targets.log_probs.data()[r * 3 + k] == static_cast<float>(p[static_cast<std::size_t>(best[k])]));
    }
  }
}

/// Scores small_batch against a server that answers as `handler` says once the start is over.
std::string failure_of(FakeTeacherServer::Handler handler, SteppedClock& clock, RemoteTeacherSettings s = {}) {
  std::atomic<bool> started{false};
  FakeTeacherServer server([&](const FakeRequest& r) { return started ? handler(r) : formula.answer(r); });
  s.urls = {server.url()};
  s.dialect = Dialect::vllm;
  s.vocabulary = 17;
  s.top_k = 3;
  TopK teacher(s, make_http_transport(s), clock.clock());
  started = true;
  TokenBatch batch;
  batch.append(Ids{1, 2, 3});
  return refusal([&] { teacher.prepare(batch); });
}

}  // namespace

#if defined(KDLIB_WITH_REMOTE)

TEST_CASE("a remote teacher gives the rows of its server in each dialect", "[remote]") {
  FakeTeacherServer server([](const FakeRequest& r) {
    FakeReply reply = formula.answer(r);
    reply.chunked = r.number % 2 == 1;
    return reply;
  });
  for (const Dialect dialect : {Dialect::vllm, Dialect::sglang, Dialect::llama_cpp}) {
    TopK teacher(settings_of(server, dialect));
    static_assert(TeacherSource<TopK>);
    for (const std::int32_t first : {1, 2}) {
      const TokenBatch batch = small_batch(first);
      teacher.prepare(batch);
      check_targets(teacher.targets(0, 4), batch);
      REQUIRE(teacher.targets(1, 2).ids.data() == teacher.targets(0, 4).ids.data() + 3);
    }
    REQUIRE_THROWS_AS(teacher.targets(2, 3), ShapeError);
    TokenBatch none;
    none.append(Ids{1, 2}, std::vector<float>{0, 0});
    teacher.prepare(none);
    REQUIRE(teacher.targets(0, 0).ids[0] == 0);
  }
  RemoteTeacher<SampledTargets> teacher(settings_of(server));
  teacher.prepare(small_batch());
  const auto p = formula.log_probs(Ids{1, 5});
  REQUIRE(teacher.targets(0, 4).log_probs[0] == static_cast<float>(p[9]));
}

TEST_CASE("the server's dialect is found, and what it cannot give is refused", "[remote]") {
  FakeTeacherServer server([](const FakeRequest& r) { return formula.answer(r); });
  TopK found(settings_of(server, Dialect::automatic));
  REQUIRE(found.client().facts().dialect == Dialect::vllm);
  REQUIRE(found.client().facts().model == "toy");
  auto s = settings_of(server);
  s.model = "other";
  REQUIRE_THAT(refusal([&] { TopK{s}; }), contains("/v1/models has the models toy; there is no 'other'"));
  s = settings_of(server);
  s.vocabulary = 0;
  REQUIRE_THAT(refusal([&] { TopK{s}; }), contains("give the student's"));
  s.vocabulary = 2;
  REQUIRE_THAT(refusal([&] { TopK{s}; }), contains("top_k is 3, and the vocabulary has 2 tokens"));
  REQUIRE_THAT(refusal([&] { RemoteTeacher<HiddenTargets<float, Cpu>>{settings_of(server)}; }),
               contains("speaks vllm, which sends no hidden states"));
  TokenBatch batch;
  batch.append(Ids(65, 1));
  REQUIRE_THAT(refusal([&] { found.prepare(batch); }), contains("a document has 65 tokens; toy at"));
  FakeTeacherServer own([](const FakeRequest&) {
    return FakeReply{200, R"({"model": "toy", "model_hash": "h", "vocabulary": 9, "hidden_size": 4})"};
  });
  s = settings_of(own, Dialect::kdlib);
  s.model = "other";
  REQUIRE_THAT(refusal([&] { TopK{s}; }), contains("/v1/teacher has the model toy; there is no 'other'"));
  FakeTeacherServer nobody([](const FakeRequest&) { return FakeReply{404, "nothing"}; });
  REQUIRE_THAT(refusal([&] { TopK{settings_of(nobody, Dialect::automatic)}; }), contains("is no server that is known"));
}

TEST_CASE("statuses: passing ones are tried five times with growing delays, others once", "[remote]") {
  for (const int status : {408, 429, 500, 502, 503, 504}) {
    SteppedClock clock;
    const std::string message = failure_of([&](const FakeRequest&) { return FakeReply{status, "busy"}; }, clock);
    REQUIRE_THAT(message, contains(concat("the server answers ", status, ": busy (5 attempts)")));
    REQUIRE(clock.pauses.size() == 4);
    for (std::size_t i = 0; i < 4; ++i) {
      const double whole = std::ldexp(1.0, static_cast<int>(i));
      REQUIRE(clock.pauses[i] >= 0.75 * whole);
      REQUIRE(clock.pauses[i] <= 1.25 * whole);
    }
  }
  for (const int status : {400, 401, 403, 404, 422}) {
    SteppedClock clock;
    std::atomic<int> count{0};
    const auto refuse = [&](const FakeRequest&) {
      ++count;
      return FakeReply{status, R"({"error":{"message":"prompt is too long"}})"};
    };
    const std::string message = failure_of(refuse, clock);
    REQUIRE_THAT(message, contains(concat("the server answers ", status, ": prompt is too long")));
    REQUIRE_THAT(message, !contains("attempts"));
    REQUIRE(count == 1);
    REQUIRE(clock.pauses.empty());
    if (status == 401 || status == 403) REQUIRE_THAT(message, contains("the server wants a key"));
    else REQUIRE_THAT(message, !contains("the server wants a key"));
  }
}

TEST_CASE("Retry-After is honoured, within the time of one request", "[remote]") {
  for (const auto& [asked, expected] : {std::pair{7.0, 7.0}, std::pair{86400.0, 600.0}}) {
    SteppedClock clock;
    std::atomic<int> count{0};
    const auto twice = [&, after = asked](const FakeRequest& r) {
      if (++count > 2) return formula.answer(r);
      return FakeReply{503, "", "Retry-After: " + std::to_string(static_cast<int>(after)) + "\r\n"};
    };
    REQUIRE(failure_of(twice, clock) == "nothing was refused");
    REQUIRE(clock.pauses == std::vector<double>{expected, expected});
  }
}

TEST_CASE("an answer that ends, or is reset, at any byte is asked for again", "[remote]") {
  std::atomic<std::int64_t> served{0};
  FakeTeacherServer server([&](const FakeRequest& r) {
    FakeReply reply = formula.answer(r);
    if (r.path != "/v1/completions") return reply;
    const std::int64_t n = served++;
    if (n % 2 == 1) reply.cut = (n - 1) / 4, reply.reset = (n - 1) / 2 % 2 == 1;  // each second request
    return reply;
  });
  SteppedClock clock;
  auto s = settings_of(server);
  TopK teacher(s, make_http_transport(s), clock.clock());
  TokenBatch batch;
  batch.append(Ids{1, 2});
  const auto body = static_cast<std::int64_t>(formula.vllm_body(batch.ids, 3).size());
  const std::int64_t bytes = body + 60;  // with a header, which is shorter than 60 bytes
  for (std::int64_t i = 0; i < 2 * bytes; ++i) {
    teacher.prepare(batch);
    check_targets(teacher.targets(0, 1), batch);
  }
  // Only cuts behind the end did no harm. libcurl repeats by itself where a connection that it used before gives not
  // one byte, so that the server counts more requests than the client attempts.
  REQUIRE(served > 2 * bytes + 3 * bytes / 2);
}

TEST_CASE("of 1000 requests with 10 % faults none is lost and none comes twice", "[remote]") {
  std::mutex mutex;
  std::map<std::string, int> whole;  // answers that went out whole, by body of the request
  std::atomic<int> faults{0};
  std::atomic<bool> started{false};
  FakeTeacherServer server([&](const FakeRequest& r) {
    FakeReply reply = formula.answer(r);
    if (!started) return reply;
    if (r.number % 10 == 3) {
      const int kind = faults++ % 4;
      if (kind == 0) return FakeReply{503, ""};
      if (kind == 1) reply.cut = 40;
      if (kind == 2) reply.cut = static_cast<std::int64_t>(reply.body.size()), reply.reset = true;
      if (kind == 3) reply.body.resize(reply.body.size() / 2);  // whole for HTTP, no JSON
      return reply;
    }
    const std::lock_guard<std::mutex> lock(mutex);
    ++whole[r.body];
    return reply;
  });
  SteppedClock clock;
  auto s = settings_of(server);
  s.attempts = 20;
  TopK teacher(s, make_http_transport(s), clock.clock());
  started = true;
  std::vector<TokenBatch> batches;
  for (std::int32_t b = 0; b < 50; ++b) {
    TokenBatch batch;
    for (std::int32_t d = 0; d < 20; ++d) batch.append(Ids{b % 17, b / 17, d % 17, d / 17, 3});
    batches.push_back(std::move(batch));
  }
  for (const TokenBatch& batch : batches) teacher.announce(batch);
  for (const TokenBatch& batch : batches) {
    teacher.prepare(batch);
    check_targets(teacher.targets(0, 80), batch);
  }
  REQUIRE(whole.size() == 1000);
  for (const auto& [body, count] : whole) REQUIRE(count == 1);
  REQUIRE(faults >= 100);
  REQUIRE(server.most_at_once() <= 4);
  REQUIRE(teacher.client().use().most_at_once == 4);
}

TEST_CASE("announced batches are on their way before anybody waits for them, so many at once", "[remote]") {
  FakeTeacherServer server([](const FakeRequest& r) { return formula.answer(r); });
  auto s = settings_of(server);
  s.in_flight = 3;
  TopK teacher(s);
  const std::int64_t before = server.requests();
  server.hold();
  for (const std::int32_t first : {1, 2, 3}) teacher.announce(small_batch(first));  // two documents each
  REQUIRE(server.wait_for_requests(before + 3));                                    // nobody has called prepare()
  REQUIRE(server.requests() == before + 3);
  server.release();
  for (const std::int32_t first : {3, 1, 2}) {  // not in the order of announcing
    teacher.prepare(small_batch(first));
    check_targets(teacher.targets(0, 4), small_batch(first));
  }
  REQUIRE(server.requests() == before + 6);  // nothing is asked twice
  REQUIRE(server.most_at_once() == 3);
  // Rows whose weight became 0 since are left out.
  teacher.announce(small_batch());
  TokenBatch fewer = small_batch();
  fewer.weights[1] = 0;
  teacher.prepare(fewer);
  check_targets(teacher.targets(0, 3), fewer);
  REQUIRE(server.requests() == before + 8);
}

TEST_CASE("several servers take turns, and one that fails is not asked again for the same rows", "[remote]") {
  std::atomic<bool> ill{false};
  FakeTeacherServer a([&](const FakeRequest& r) { return ill ? FakeReply{502, ""} : formula.answer(r); });
  FakeTeacherServer b([](const FakeRequest& r) { return formula.answer(r); });
  auto s = settings_of(a);
  s.urls = {a.url(), b.url()};
  s.attempts = 2;
  SteppedClock clock;
  TopK teacher(s, make_http_transport(s), clock.clock());
  ill = true;
  for (int i = 0; i < 4; ++i) {
    teacher.prepare(small_batch());
    check_targets(teacher.targets(0, 4), small_batch());
  }
  REQUIRE(a.requests() >= 4);
  REQUIRE(b.requests() >= 8);
}

TEST_CASE("servers that cannot be reached, keys and hosts that are not there: each has its sentence", "[remote]") {
  int port = 0;
  {
    const FakeTeacherServer gone([](const FakeRequest& r) { return formula.answer(r); });
    port = gone.port();
  }
  SteppedClock clock;
  const auto start = [&](RemoteTeacherSettings s) {
    s.dialect = Dialect::vllm;
    s.vocabulary = 17;
    s.top_k = 3;
    return refusal([&] { TopK(s, make_http_transport(s), clock.clock()); });
  };
  const std::string refused = start({.urls = {concat("http://127.0.0.1:", port)}});
  REQUIRE_THAT(refused, contains(concat("[RemoteTeacher] http://127.0.0.1:", port, "/v1/models: ")));
  REQUIRE_THAT(refused, contains("(5 attempts)"));
  REQUIRE_THAT(start({.urls = {"http://no-such-host.invalid:1"}, .attempts = 1}), contains("no-such-host.invalid"));
  REQUIRE_THAT(start({.urls = {"http://h"}, .key_environment = "KDLIB_TEST_NO_KEY"}), contains("KDLIB_TEST_NO_KEY"));
  FakeTeacherServer server([](const FakeRequest& r) {
    const bool known = r.head.find("Authorization: Bearer open sesame\r\n") != std::string::npos;
    return known ? formula.answer(r) : FakeReply{401, R"({"error":"Unauthorized"})"};
  });
  REQUIRE_THAT(start({.urls = {server.url()}}), contains("401: Unauthorized; the server wants a key"));
  ::setenv("KDLIB_TEST_KEY", "wrong sesame", 1);
  const std::string wrong = start({.urls = {server.url()}, .key_environment = "KDLIB_TEST_KEY"});
  REQUIRE_THAT(wrong, contains("the key in the environment variable is not the server's"));
  REQUIRE_THAT(wrong, !contains("sesame"));
  ::setenv("KDLIB_TEST_KEY", "open sesame", 1);
  REQUIRE(start({.urls = {server.url()}, .key_environment = "KDLIB_TEST_KEY"}) == "nothing was refused");
  REQUIRE_THAT(start({.urls = {server.url()}, .key_environment = "KDLIB_TEST_KEY", .answer_bytes = 10}),
               contains("the answer is larger than 10 bytes"));
}

TEST_CASE("without file descriptors a request fails by name", "[remote]") {
  SteppedClock clock;
  RemoteTeacherSettings s{.urls = {"http://127.0.0.1:9"}, .dialect = Dialect::vllm, .vocabulary = 17, .attempts = 1};
  auto transport = make_http_transport(s);
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const int free = ::dup(0);
  ::close(free);
  const rlimit none{static_cast<rlim_t>(free), before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  const std::string message = refusal([&] { TopK(s, std::move(transport), clock.clock()); });
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  REQUIRE_THAT(message, contains("no file descriptor is left"));
}

#else
TEST_CASE("without libcurl a remote teacher is refused by name", "[remote]") {
  REQUIRE_THAT(refusal([] { TopK{RemoteTeacherSettings{.urls = {"http://h"}}}; }), contains("libcurl4-openssl-dev"));
  std::puts("[kdlib-skip] libcurl is not here: remote teachers are not tested over sockets");
}
#endif

TEST_CASE("a server that is silent for ten minutes is asked again, by the clock alone", "[remote]") {
  SteppedClock clock;
  RemoteTeacherSettings s{.urls = {"http://h:1"}, .dialect = Dialect::vllm, .vocabulary = 17, .top_k = 3};
  auto transport = std::make_unique<SilentTransport>(clock, [](const HttpRequest& r, std::int64_t n) -> HttpReply {
    if (n == 2 || n == 3) return {};  // nothing ever comes
    FakeRequest request;
    request.path = r.path;
    request.body = r.body;
    const FakeReply reply = formula.answer(request);
    return {reply.status, reply.body};
  });
  const SilentTransport& seen = *transport;
  TopK teacher(s, std::move(transport), clock.clock());
  TokenBatch batch;
  batch.append(Ids{1, 2, 3});
  const double begin = clock.now();
  teacher.prepare(batch);
  check_targets(teacher.targets(0, 2), batch);
  REQUIRE(clock.now() - begin >= 1200);
  REQUIRE(clock.now() - begin <= 1200 + 1.25 + 2.5);
  REQUIRE(seen.cancelled == 2);
}

TEST_CASE("delays between attempts are a function of seed, request and attempt", "[remote]") {
  std::set<double> all;
  for (std::uint64_t number = 1; number <= 50; ++number)
    for (int attempt = 2; attempt <= 5; ++attempt) {
      const double delay = retry_delay(1, number, attempt, 0, 600), whole = std::ldexp(1.0, attempt - 2);
      REQUIRE(delay == retry_delay(1, number, attempt, 0, 600));
      REQUIRE(delay >= 0.75 * whole);
      REQUIRE(delay <= 1.25 * whole);
      all.insert(delay);
    }
  REQUIRE(all.size() == 200);
  REQUIRE(retry_delay(1, 1, 2, 30, 600) == 30);
  REQUIRE(retry_delay(1, 1, 40, 0, 600) == 600);
}
