// SPDX-License-Identifier: Apache-2.0
// Caches of many workers or of several texts as one: byte for byte what one worker would have written.
#include "kdlib/teacher/merge_cache.hpp"

#include "cache_support.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"
#include "support/run_files.hpp"

using namespace kdlib;
using namespace kdlib_tests;

TEST_CASE("the merged parts of three workers in a shuffled order are the cache of one worker", "[teacher][cache]") {
  for (const CacheSettings& plain : {hidden_settings(), top_k_settings()}) {
    CAPTURE(setting_text(plain.kind));
    const TemporaryDirectory dir;
    Toy teacher{toy_vocabulary, toy_width, 1};
    const TokenBatch documents = toy_documents();
    CacheSettings many = plain;
    many.workers = 3;
    many.shuffled = true;
    many.segment = 2;
    make_cache(teacher, dir / "many", many, documents);
    CacheSettings one = plain;
    one.seed = many.seed;
    make_cache(teacher, dir / "one", one, documents);
    const CacheMeta meta = merge_teacher_caches({dir / "many"}, dir / "merged", one.segment);
    CHECK(meta.complete);
    CHECK(differences(run_files(dir / "merged"), run_files(dir / "one")) == "");
    merge_teacher_caches({dir / "many"}, dir / "merged", one.segment);  // again: nothing changes
    CHECK(differences(run_files(dir / "merged"), run_files(dir / "one")) == "");
    // A killed merge left whole segments and no end.
    remove_tree(dir / "merged/segments/000_000001.safetensors");
    merge_teacher_caches({dir / "many"}, dir / "merged", one.segment);
    CHECK(differences(run_files(dir / "merged"), run_files(dir / "one")) == "");
    TeacherCache(dir / "merged").verify();
  }
}

TEST_CASE("caches of two texts become the cache of both", "[teacher][cache]") {
  const TemporaryDirectory dir;
  Toy teacher{toy_vocabulary, toy_width, 1};
  const TokenBatch all = toy_documents(), first = all.part(0, 5), second = all.part(5, 7);
  make_cache(teacher, dir / "first", top_k_settings(), first, [](CacheFacts& f) { f.dataset = "a.jsonl"; });
  make_cache(teacher, dir / "second", top_k_settings(), second, [](CacheFacts& f) { f.dataset = "b.jsonl"; });
  merge_teacher_caches({dir / "first", dir / "second"}, dir / "both");
  const TeacherCache both(dir / "both");
  CHECK(both.documents() == 12);
  CHECK(both.meta().facts.dataset == "a.jsonl + b.jsonl");
  CHECK(both.holds(all));
  CHECK((both.tokens().ids == all.ids));
  const TopKCache rows = TopKCache::open(dir / "both");
  CachedTeacher<Cpu, float> merged(rows, {.temperature = 2});
  const TopKCache part = TopKCache::open(dir / "second");
  CachedTeacher<Cpu, float> alone(part, {.temperature = 2});
  merged.prepare(second);
  alone.prepare(second);
  const auto rows_of_second = static_cast<std::int64_t>(second.rows().token.size());
  const auto a = merged.targets(0, rows_of_second), b = alone.targets(0, rows_of_second);
  REQUIRE(a.ids.shape() == b.ids.shape());
  for (std::int64_t i = 0; i < a.ids.shape().count(); ++i) {
    CHECK(a.ids.data()[i] == b.ids.data()[i]);
    CHECK(a.log_probs.data()[i] == b.log_probs.data()[i]);
  }
}

TEST_CASE("caches that do not belong together are not merged", "[teacher][cache]") {
  const TemporaryDirectory dir;
  Toy teacher{toy_vocabulary, toy_width, 1};
  const TokenBatch documents = toy_documents();
  make_cache(teacher, dir / "a", top_k_settings(), documents, [](CacheFacts& f) { f.teacher_hash = "aa"; });
  const auto other = [&](const char* name, CacheSettings settings, const char* hash) {
    make_cache(teacher, dir / name, settings, documents, [hash](CacheFacts& f) { f.teacher_hash = hash; });
    return refusal([&] { merge_teacher_caches({dir / "a", dir / name}, dir / "out"); });
  };
  CHECK_THAT(other("b", top_k_settings(), "bb"),
             contains("b/meta.json: teacher_hash is \"bb\"") && contains("a/meta.json has \"aa\""));
  CHECK_THAT(other("c", top_k_settings(4), "aa"), contains("c/meta.json: top_k is \"4\"") && contains("has \"5\""));
  CHECK_THAT(other("d", hidden_settings(), "aa"),
             contains("d/meta.json: kind is \"hidden\"") && contains("\"logprobs\""));
  CHECK_THAT(refusal([&] { merge_teacher_caches({dir / "a"}, dir / "a"); }), contains("is one of the caches"));
  CHECK_THAT(refusal([&] { merge_teacher_caches({}, dir / "out"); }), contains("no cache is named"));
  CHECK_FALSE(path_exists(dir / "out"));
}
