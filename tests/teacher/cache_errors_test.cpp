// SPDX-License-Identifier: Apache-2.0
// Caches that do not fit, are not whole or are damaged, each with its sentence; and making that is cut short.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "kdlib/data/packed_dataset.hpp"
#include "support/catch.hpp"
#include "support/fault_hook.hpp"
#include "support/refusal.hpp"
#include "support/run_files.hpp"
#include "teacher/cache_support.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Ids = std::vector<std::int32_t>;

namespace {

/// A finished cache in a folder of its own.
struct Made {
  TemporaryDirectory folder;
  Toy model{toy_vocabulary, toy_width, 1};
  TokenBatch documents = toy_documents();
  explicit Made(const CacheSettings& settings = hidden_settings(),
                const std::function<void(CacheFacts&)>& change = {}) {
    make_cache(model, folder.path(), settings, documents, change);
  }
  std::string segment(int n) const { return folder / segment_name(0, n); }
  std::string opening() const {
    return refusal([&] { TeacherCache{folder.path()}; });
  }
  std::string finding(const TokenBatch& batch) const {
    const TeacherCache cache(folder.path());
    CHECK(!cache.holds(batch));
    return refusal([&] { static_cast<void>(cache.find_rows(batch)); });
  }
};

TokenBatch one(const Ids& ids, const std::vector<float>& weights = {}) {
  TokenBatch batch;
  batch.append(ids, weights);
  return batch;
}

}  // namespace

TEST_CASE("a cache of another tokenizer, vocabulary, teacher or a longer context is refused with both values",
          "[teacher][cache]") {
  const Made made(hidden_settings(), [](CacheFacts& f) {
    f.tokenizer = "00000000000000aa";
    f.teacher_hash = "sha256:1";
    f.teacher = "models/teacher";
  });
  const TeacherCache cache(made.folder.path());
  cache.check({.tokenizer = "00000000000000aa", .teacher_hash = "sha256:1", .context_length = 9});
  const auto refused = [&](const CacheUse& use) { return refusal([&] { cache.check(use); }); };
  CHECK_THAT(refused({.tokenizer = "00000000000000bb"}), contains("meta.json: tokenizer is \"00000000000000aa\"") &&
                                                             contains("the student's is \"00000000000000bb\""));
  CHECK_THAT(refused({.vocabulary = 18}), contains("vocabulary is 17") && contains("18"));
  CHECK_THAT(refused({.teacher_hash = "sha256:2"}),
             contains("teacher_hash is \"sha256:1\" (models/teacher)") && contains("sha256:2"));
  CHECK_THAT(refused({.context_length = 8}), contains("max_length is 9") && contains("reads 8 tokens"));
}

TEST_CASE("text that the cache does not hold is refused, saying what is nearest", "[teacher][cache]") {
  Made made;
  const TokenBatch cached = made.documents.document(1);
  REQUIRE(cached.tokens() >= 5);
  TokenBatch other = one(Ids(cached.ids.begin(), cached.ids.end()));
  other.ids[3] = (other.ids[3] + 1) % toy_vocabulary;
  other.sources = {"d.jsonl:4"};
  CHECK_THAT(made.finding(other), contains("document 0 of the batch (d.jsonl:4, ") && contains("is not in the cache") &&
                                      contains("first 3 tokens") && contains("--missing skip"));
  // Longer than what was cached.
  Ids longer(cached.ids);
  longer.push_back(1);
  CHECK_THAT(made.finding(one(longer)), contains("goes on behind the " + std::to_string(cached.tokens()) + " tokens") &&
                                            contains("longer context") && contains("max_length 9"));
  // Cut out of the middle.
  CHECK_THAT(made.finding(one(Ids(cached.ids.begin() + 1, cached.ids.end()))),
             contains("stands at token 1 of text 2") && contains("longer context"));
  // A row that did not count.
  const TokenBatch::Rows rows = made.documents.rows();
  REQUIRE(rows.token.size() < static_cast<std::size_t>(made.documents.tokens() - made.documents.documents()));
  TokenBatch all = made.documents;
  all.weights.clear();
  CHECK_THAT(made.finding(all), contains("did not count when the cache was made"));
  TokenBatch moved = cached;
  for (std::int64_t i = 0; i < moved.tokens(); ++i) moved.positions.push_back(static_cast<std::int32_t>(i) + 3);
  CHECK_THAT(refusal([&] { TeacherCache(made.folder.path()).find_rows(moved); }), contains("positions of its own"));
}

TEST_CASE("a cache with an incomplete meta.json, a missing, foreign or damaged segment is refused",
          "[teacher][cache]") {
  CHECK_THAT(refusal([] { TeacherCache{"/nowhere/cache"}; }),
             contains("/nowhere/cache is not there: give the folder of a cache that cache_logits made"));
  {
    const TemporaryDirectory folder;
    CHECK_THAT(refusal([&] { TeacherCache{folder.path()}; }), contains(folder.path() + " holds no meta.json"));
    write_file_atomically(folder / "file", "x");
    CHECK_THAT(refusal([&] { TeacherCache{folder / "file"}; }), contains("file is a file: give the folder"));
  }
  {
    const Made made;
    edit(made.folder / "meta.json", "\"complete\": true", "\"complete\": false");
    CHECK_THAT(made.opening(), contains("complete is false, true is needed"));
  }
  {
    const Made made;
    edit(made.folder / "meta.json", "\"version\": 1", "\"version\": 2");
    CHECK_THAT(made.opening(), contains("version is 2, this reader needs 1"));
    edit(made.folder / "meta.json", "\"version\": 2", "\"version\": 1");
    edit(made.folder / "meta.json", "predicts_next", "predicts_own");
    CHECK_THAT(made.opening(), contains("alignment is \"predicts_own\""));
  }
  {
    const Made made;
    edit(made.folder / "meta.json", "\"vocabulary\": 17", "\"vocabulary\": 18");
    CHECK_THAT(made.opening(), contains("run_hash is") && contains("changed by hand"));
  }
  {
    const Made made;  // a folder that promises more texts than its files have bytes
    CacheMeta meta = CacheMeta::read(made.folder.path());
    meta.documents = 1000000000000000;
    meta.settings.segment = 400000000000000;
    write_file_atomically(made.folder / "meta.json", meta.json());
    CHECK_THAT(made.opening(), contains("meta.json: documents is 1000000000000000, the segments have "));
  }
  {
    const Made made;
    remove_tree(made.segment(1));
    CHECK_THAT(made.opening(), contains("000_000001.safetensors is missing"));
  }
  {
    const Made made, foreign(hidden_settings(), [](CacheFacts&f) { f.tokenizer = "00000000000000aa"; });
    write_file_atomically(made.segment(2), read_file(foreign.segment(2)));
    CHECK_THAT(made.opening(), contains("run_hash is") && contains("belongs to another cache"));
  }
  {
    const Made made;
    write_file_atomically(made.segment(2), read_file(made.segment(1)));
    CHECK_THAT(made.opening(), contains("000_000002.safetensors: text 5 is in") && contains("000_000001"));
  }
}

TEST_CASE("numbers of a segment that cannot be are refused with file, tensor and value", "[teacher][cache]") {
  const auto opened = [](const char* tensor, std::size_t index, auto value) {
    const Made made;
    patch(made.segment(1), tensor, index, value);
    return made.opening();
  };
  CHECK_THAT(opened("token_ids", 3, std::int32_t{17}), contains("token_ids has 17, outside the vocabulary of 17"));
  CHECK_THAT(opened("offsets", 1, std::int64_t{-1}), contains("offsets must ascend from 0 to"));
  CHECK_THAT(opened("row_offsets", 4, std::int64_t{1000}), contains("row_offsets must ascend from 0 to"));
  CHECK_THAT(opened("ordinals", 0, std::int64_t{12}), contains("ordinals has 12 of 12 texts"));
  CHECK_THAT(opened("row_positions", 0, std::int32_t{100}), contains("row_positions of text 5 has 100"));
}

TEST_CASE("a bit that changed is found by verify(), NaN where its row is read", "[teacher][cache]") {
  const Made made;
  const std::string whole = read_file(made.segment(1));
  patch(made.segment(1), "hidden", 1, 0.25f);
  CHECK_THAT(refusal([&] { TeacherCache(made.folder.path()).verify(); }),
             contains("000_000001.safetensors: checksum is xxh64:") && contains("damaged"));
  patch(made.segment(1), "hidden", 1, NAN);
  const TeacherCache cache(made.folder.path());
  CachedHiddenTeacher<Cpu> teacher{cache};
  CHECK_THAT(refusal([&] { teacher.prepare(made.documents); }),
             contains("000_000001.safetensors: row 0 (text 5, token") && contains("hidden holds NaN"));
  CHECK_THAT(refusal([&] { TopKCache::open(made.folder.path()); }), contains("kind is \"hidden\", logprobs is needed"));
}

TEST_CASE("a folder is made by one kind of writer: other settings, text or files are refused", "[teacher][cache]") {
  Made made;
  const auto again = [&](const CacheSettings& settings, const TokenBatch& text) {
    return refusal([&] { CacheWriter(made.folder.path(), facts_of(made.model), settings, text); });
  };
  CacheSettings workers = hidden_settings();
  workers.workers = 2;
  CHECK_THAT(again(workers, made.documents),
             contains("workers is \"1\", now it is \"2\"") && contains("another cache"));
  CHECK_THAT(again(top_k_settings(), made.documents), contains("kind is \"hidden\", now it is \"logprobs\""));
  const TokenBatch other = toy_documents(6);
  CHECK_THAT(again(hidden_settings(), other), contains("text is \""));
  const TemporaryDirectory folder;
  write_file_atomically(folder / "notes.txt", "mine");
  CHECK_THAT(refusal([&] { CacheWriter(folder.path(), facts_of(made.model), hidden_settings(), made.documents); }),
             contains("holds notes.txt and no meta.json"));
  const TokenBatch silent = one({1, 2, 3}, {0, 0, 0});
  CHECK_THAT(refusal([&] { CacheWriter(folder / "new", facts_of(made.model), hidden_settings(), silent); }),
             contains("no token of the text counts"));
  CacheSettings f16_states = hidden_settings();
  f16_states.store = CacheStore::f16;
  CHECK_THAT(again(f16_states, made.documents), contains("hidden states are stored as f32 or bf16"));
  CHECK_THAT(again({.top_k = 18}, made.documents), contains("top_k is 18, the teacher has 17 tokens"));
  CHECK_THAT(again({.temperatures = {2, 1}}, made.documents), contains("temperatures are 2, 1"));
}

TEST_CASE("making that is killed at any write, fsync or rename goes on to the same bytes", "[teacher][cache]") {
  const TokenBatch documents = toy_documents();
  Toy model(toy_vocabulary, toy_width, 1);
  const TemporaryDirectory whole;
  make_cache(model, whole.path(), hidden_settings(), documents);
  const auto expected = run_files(whole.path());
  int killed = 0;
  for (const char* kind : {"write", "fsync", "rename"})
    for (int n = 1; n <= 9; ++n) {
      const TemporaryDirectory folder;
      const int status = status_of_child([&] {
        const Fault fault(concat(kind, ":", n, ":kill"));
        make_cache(model, folder.path(), hidden_settings(), documents);
      });
      killed += WIFSIGNALED(status) ? 1 : 0;
      make_cache(model, folder.path(), hidden_settings(), documents);
      INFO(kind << " " << n << ": " << differences(expected, run_files(folder.path())));
      CHECK(run_files(folder.path()) == expected);
    }
  CHECK(killed >= 5 + 9 + 5);  // files: meta.json twice, the head, three segments
}

TEST_CASE("a full disk is an error, and room is all that is needed to go on", "[teacher][cache]") {
  const TokenBatch documents = toy_documents();
  Toy model(toy_vocabulary, toy_width, 1);
  const TemporaryDirectory folder;
  const std::string error = refusal([&] {
    const Fault fault("write:4:enospc");
    make_cache(model, folder.path(), hidden_settings(), documents);
  });
  CHECK_THAT(error, contains("segments/000_00000"));
  make_cache(model, folder.path(), hidden_settings(), documents);
  TeacherCache(folder.path()).verify();
}

TEST_CASE("a damaged segment is made again and said once", "[teacher][cache]") {
  Made made;
  const auto expected = run_files(made.folder.path());
  write_file_atomically(made.segment(1), "not a segment");
  CacheWriter writer(made.folder.path(), facts_of(made.model), hidden_settings(), made.documents);
  write_teacher_cache(made.model, writer);
  REQUIRE(writer.notes().size() == 1);
  CHECK_THAT(writer.notes()[0], contains("000_000001.safetensors") && contains("made again"));
  CHECK(run_files(made.folder.path()) == expected);
}

TEST_CASE("three workers make one cache, whichever of them is last", "[teacher][cache]") {
  const Made alone;
  CacheSettings settings = hidden_settings();
  settings.workers = 3;
  settings.segment = 2;
  Toy model(toy_vocabulary, toy_width, 1);
  const TemporaryDirectory folder;
  for (const std::int64_t w : {2, 0, 1}) {
    CHECK_THAT(refusal([&] { TeacherCache{folder.path()}; }),
               contains(w == 2 ? "holds no meta.json" : "complete is false"));
    CacheWriter writer(folder.path(), facts_of(model), settings, alone.documents);
    write_teacher_cache(model, writer, w);
  }
  const TeacherCache many(folder.path()), single(alone.folder.path());
  CHECK(many.tokens().ids == single.tokens().ids);
  CachedHiddenTeacher<Cpu> a{many}, b{single};
  a.prepare(alone.documents);
  b.prepare(alone.documents);
  const auto rows = static_cast<std::int64_t>(alone.documents.rows().token.size());
  const auto x = a.targets(0, rows), y = b.targets(0, rows);
  CHECK(std::equal(x.hidden.data(), x.hidden.data() + x.hidden.count(), y.hidden.data()));
}

TEST_CASE("caches reject temporaries", "[teacher][cache]") {
  static_assert(!std::is_constructible_v<CachedHiddenTeacher<Cpu>, TeacherCache&&>);
  static_assert(!std::is_constructible_v<CachedHiddenTeacher<Cpu>, const TeacherCache&&>);
  static_assert(!std::is_constructible_v<CacheWriter, std::string, CacheFacts, CacheSettings, TokenBatch&&>);
  SUCCEED();
}
