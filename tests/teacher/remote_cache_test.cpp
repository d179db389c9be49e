// SPDX-License-Identifier: Apache-2.0
// Caches from servers: the bytes of a cache from the model itself, and what servers cannot give.
#include "kdlib/teacher/remote_cache.hpp"

#include <cmath>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/teacher/compare_cache.hpp"
#include "support/catch.hpp"
#include "support/fake_teacher.hpp"
#include "support/refusal.hpp"
#include "support/run_files.hpp"
#include "teacher/cache_support.hpp"
#if defined(KDLIB_TEST_SERVICE)
#include "support/served_teacher.hpp"
#endif

using namespace kdlib;
using kdlib_tests::contains;
using kdlib_tests::FakeRequest;
using kdlib_tests::FakeTeacherServer;
using kdlib_tests::FormulaTeacher;
using kdlib_tests::make_cache;
using kdlib_tests::refusal;
using kdlib_tests::TemporaryDirectory;
using kdlib_tests::toy_documents;
using kdlib_tests::toy_vocabulary;

#if defined(KDLIB_WITH_REMOTE)
namespace {

RemoteClient client_of(const RemoteTeacherSettings& settings, RemoteWant want) {
  return RemoteClient(settings, want, make_http_transport(settings));
}

CacheSettings at_one(CacheKind kind, std::int64_t top_k = 5) {
  return {.kind = kind, .top_k = top_k, .temperatures = {1}, .batch = 2, .segment = 4};
}

CacheProgress write(RemoteClient& client, const std::string& folder, const CacheSettings& settings,
                    const TokenBatch& documents, const CacheFacts& facts) {
  CacheWriter writer(folder, facts, settings, documents);
  return write_remote_cache(client, writer);
}

}  // namespace

#if defined(KDLIB_TEST_SERVICE)
TEST_CASE("a cache from serve --teacher has the bytes of a cache from its model", "[remote][cache]") {
  kdlib_tests::Toy model(17, 6, 1);
  kdlib_tests::Served served(model);
  const TokenBatch documents = toy_documents();
  for (const CacheKind kind : {CacheKind::hidden, CacheKind::logprobs}) {
    const TemporaryDirectory dir;
    const CacheSettings settings = at_one(kind);
    const RemoteWant want = kind == CacheKind::hidden ? RemoteWant::hidden : RemoteWant::top_k;
    RemoteTeacherSettings remote = served.settings();
    remote.in_flight = 3;
    RemoteClient client(remote, want, make_http_transport(remote));
    const CacheFacts facts = facts_of(client);
    REQUIRE(facts.teacher == "toy");
    REQUIRE(facts.teacher_hash == "sha256:toy");
    REQUIRE(facts.vocabulary == toy_vocabulary);
    REQUIRE(facts.hidden_size == 6);
    const CacheProgress done = write(client, dir / "there", settings, documents, facts);
    REQUIRE(done.done == documents.documents());
    REQUIRE(done.tokens == documents.tokens());
    make_cache(model, dir / "here", settings, documents, [&](CacheFacts& f) { f = facts; });
    REQUIRE(kdlib_tests::differences(kdlib_tests::run_files(dir / "there"), kdlib_tests::run_files(dir / "here")) ==
            "");
    const TeacherCache cache(dir / "there");
    cache.verify();
    const auto again = [&](const TokenBatch& one, const CacheMeta& meta, auto& columns) {
      detail::append_remote_batch(client, one, meta, columns);
    };
    REQUIRE(compare_cache_rows(cache, 5, again).difference < 1e-5);
    // What is there is kept: nothing is asked again.
    REQUIRE(write(client, dir / "there", settings, documents, facts).done == 0);
  }
}
#endif

TEST_CASE("a top-k cache from a vLLM server holds what it says; what it cannot say is refused", "[remote][cache]") {
  const FormulaTeacher formula(17);
  FakeTeacherServer server([&](const FakeRequest& r) { return formula.answer(r); });
  RemoteTeacherSettings s{.urls = {server.url()}, .dialect = Dialect::vllm, .vocabulary = 17, .top_k = 3};
  RemoteClient client = client_of(s, RemoteWant::top_k);
  const TokenBatch documents = toy_documents();
  const TemporaryDirectory dir;
  const CacheFacts facts = facts_of(client);
  REQUIRE(facts.teacher_hash == "server model toy");
  write(client, dir / "cache", at_one(CacheKind::logprobs, 3), documents, facts);
  const TopKCache cache = TopKCache::open(dir / "cache");
  CachedTeacher<Cpu> teacher(cache);
  const TokenBatch one = documents.document(3);
  teacher.prepare(one);
  const auto rows = one.rows();
  const auto t = teacher.targets(0, static_cast<std::int64_t>(rows.token.size()));
  for (std::size_t r = 0; r < rows.token.size(); ++r) {
    const auto p = formula.log_probs(std::span(one.ids).first(static_cast<std::size_t>(rows.token[r]) + 1));
    const auto best = FormulaTeacher::order(p);
    for (std::size_t k = 0; k < 3; ++k) {
      REQUIRE(t.ids.data()[r * 3 + k] == best[k]);
      REQUIRE(std::abs(static_cast<double>(t.log_probs.data()[r * 3 + k]) - p[static_cast<std::size_t>(best[k])]) <
              1e-6);
    }
  }

  int attempts = 0;
  const auto refused = [&](RemoteClient& of, const CacheSettings& settings) {
    return refusal([&] { write(of, dir / concat("none", ++attempts), settings, documents, facts); });
  };
  CacheSettings two = at_one(CacheKind::logprobs, 3);
  two.temperatures = {1, 2};
  REQUIRE_THAT(refused(client, two), contains("at temperature 1, not at 1, 2"));
  REQUIRE_THAT(refused(client, at_one(CacheKind::logprobs, 4)), contains("asks for top_k (3 tokens)"));
  REQUIRE_THAT(refusal([&] { client_of(s, RemoteWant::hidden); }), contains("sends no hidden states"));
  s.dialect = Dialect::llama_cpp;
  RemoteClient llama = client_of(s, RemoteWant::top_k);
  REQUIRE_THAT(refused(llama, at_one(CacheKind::logprobs, 3)), contains("llama.cpp"));
  // The teacher's head is wider than the student's vocabulary, and K reaches into what only it has.
  const FormulaTeacher wide(40);
  FakeTeacherServer other([&](const FakeRequest& r) { return wide.answer(r); });
  s.urls = {other.url()};
  s.dialect = Dialect::vllm;
  s.top_k = 17;
  RemoteClient padded = client_of(s, RemoteWant::top_k);
  REQUIRE_THAT(refused(padded, at_one(CacheKind::logprobs, 17)), contains("outside the vocabulary"));
}
#else
TEST_CASE("caches from servers need libcurl", "[remote]") {
  SUCCEED();
  std::puts("[kdlib-skip] libcurl is not here: caches from servers are not tested");
}
#endif
