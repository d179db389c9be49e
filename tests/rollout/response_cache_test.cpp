// SPDX-License-Identifier: Apache-2.0
// Answers of a teacher that other runs read: found by what was asked, removed by age, made again where damaged.
#include <fcntl.h>
#include <sys/stat.h>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/rollout/response_cache.hpp"
#include "kdlib/rollout/teacher_written.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"
#include "support/shared.hpp"
#include "support/toy_model.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {
using Model = ToyModel<float>;
using Ids = std::vector<std::int32_t>;

Prompts prompts(std::initializer_list<std::int32_t> last) {
  std::vector<Ids> list;
  for (const std::int32_t id : last) list.push_back({3, 5, id});
  return Prompts(std::move(list), Ids{1});
}

Completion answer(std::int32_t id, std::size_t length = 3) {
  Completion c;
  c.ids.assign(length, id);
  c.log_probs.assign(length, -0.1f);
  c.full_log_probs.assign(length, -1.0f / 3);
  c.stopped = id == 1;
  return c;
}

std::string file_of(const ResponseCache& cache, const std::string& key) {
  return cache.folder() + "/" + key.substr(0, 2) + "/" + key + ".json";
}

bool equal(const Completion& a, const Completion& b) {
  return a.ids == b.ids && a.log_probs == b.log_probs && a.full_log_probs == b.full_log_probs && a.stopped == b.stopped;
}

/// What a teacher writes to all prompts.
std::vector<Completion> written(Model& teacher, const Prompts& asked, ResponseCache* cache, const std::string& hash,
                                Sampler sampler = {.max_new_tokens = 6}) {
  TeacherWritten source(teacher, asked, sampler, {.prompts = 2, .ahead = 3});
  if (cache != nullptr) source.keep_answers_in(*cache, hash);
  std::vector<Completion> out;
  for (std::int64_t i = 0; i < asked.size(); ++i) out.push_back(source.text(i));
  return out;
}

}  // namespace

TEST_CASE("an answer comes back bit for bit, and only for the same model, prompt, sampler and draw",
          "[rollout][cache]") {
  const TemporaryDirectory folder;
  ResponseCache cache(folder.path(), std::int64_t{1} << 20);
  const Ids prompt = {3, 5, 7}, other = {3, 5, 8};
  const Sampler sampler{.max_new_tokens = 6};
  const std::string key = ResponseCache::key("sha256:1", {prompt, 2, 0}, sampler, {{"scalar", "F32"}});
  CHECK(key.size() == 64);
  CHECK(!cache.find(key, 20));
  cache.store(key, answer(4), 1.5);
  const auto found = cache.find(key, 20);
  REQUIRE(found);
  CHECK(equal(*found, answer(4)));
  CHECK(cache.use().hits == 1);
  CHECK(cache.use().misses == 1);
  CHECK(cache.use().saved_seconds == 1.5);
  CHECK(cache.use().text() == "1 of 2 answers (50 %) were there, 1.5 s saved");
  Sampler seeded = sampler, hot = sampler;
  seeded.seed = 2;
  hot.temperature = 1.5;
  CHECK(ResponseCache::key("sha256:2", {prompt, 2, 0}, sampler, {{"scalar", "F32"}}) != key);
  CHECK(ResponseCache::key("sha256:1", {other, 2, 0}, sampler, {{"scalar", "F32"}}) != key);
  CHECK(ResponseCache::key("sha256:1", {prompt, 3, 0}, sampler, {{"scalar", "F32"}}) != key);
  CHECK(ResponseCache::key("sha256:1", {prompt, 2, 1}, sampler, {{"scalar", "F32"}}) != key);
  CHECK(ResponseCache::key("sha256:1", {prompt, 2, 0}, seeded, {{"scalar", "F32"}}) != key);
  CHECK(ResponseCache::key("sha256:1", {prompt, 2, 0}, hot, {{"scalar", "F32"}}) != key);
  CHECK(ResponseCache::key("sha256:1", {prompt, 2, 0}, sampler, {{"scalar", "F64"}}) != key);
}

TEST_CASE("a teacher's text is the same with and without a cache, and a second run does not ask it",
          "[rollout][cache]") {
  const TemporaryDirectory folder;
  Model teacher(20, 5, 1);
  const auto plain = written(teacher, prompts({6, 7, 8, 9}), nullptr, "");
  ResponseCache cache(folder.path(), std::int64_t{1} << 20);
  const auto first = written(teacher, prompts({6, 7, 8, 9}), &cache, "sha256:1");
  CHECK(cache.use().misses == 4);
  teacher.largest_decode = 0;
  const auto second = written(teacher, prompts({6, 7, 8, 9}), &cache, "sha256:1");
  CHECK(teacher.largest_decode == 0);  // it wrote nothing
  CHECK(cache.use().hits == 4);
  CHECK(cache.use().hit_rate() == 0.5);
  for (std::size_t i = 0; i < plain.size(); ++i) {
    CHECK(equal(first[i], plain[i]));
    CHECK(equal(second[i], plain[i]));
  }
  // One prompt is new: the others are found. Another teacher finds nothing.
  static_cast<void>(written(teacher, prompts({6, 7, 8, 10}), &cache, "sha256:1"));
  CHECK(cache.use().hits == 7);
  CHECK(cache.use().misses == 5);
  static_cast<void>(written(teacher, prompts({6, 7, 8, 9}), &cache, "sha256:2"));
  CHECK(cache.use().misses == 9);
  TeacherWritten source(teacher, prompts({6}), Sampler{.max_new_tokens = 6});
  CHECK_THAT(refusal([&] { source.keep_answers_in(cache, ""); }), contains("content_hash") && contains("empty"));
}

TEST_CASE("damaged answers are written again and said once", "[rollout][cache]") {
  const TemporaryDirectory folder;
  Model teacher(20, 5, 1);
  const Ids prompt = {3, 5, 7};
  const auto key_of = [&](std::uint32_t step) {
    return ResponseCache::key("sha256:1", {prompt, step, 0}, Sampler{}, {});
  };
  {
    ResponseCache cache(folder.path(), std::int64_t{1} << 20);
    for (std::uint32_t step = 0; step < 5; ++step) cache.store(key_of(step), answer(4), 1);
  }
  ResponseCache cache(folder.path(), std::int64_t{1} << 20);
  std::string text = read_file(file_of(cache, key_of(0)));
  text[text.find("-0.1")] = '+';
  write_file_atomically(file_of(cache, key_of(0)), text);
  write_file_atomically(file_of(cache, key_of(1)), "");
  write_file_atomically(file_of(cache, key_of(2)), read_file(file_of(cache, key_of(2))).substr(0, 60));
  CHECK(!cache.find(key_of(0), 20));
  CHECK(!cache.find(key_of(1), 20));
  CHECK(!cache.find(key_of(2), 20));
  CHECK(!cache.find(key_of(3), 4));  // id 4 is outside a vocabulary of 4
  CHECK(cache.find(key_of(4), 20));
  CHECK(cache.use().damaged == 4);
  CHECK(cache.use().misses == 4);
  const std::vector<std::string> notes = cache.take_notes();
  REQUIRE(notes.size() == 1);
  CHECK_THAT(notes[0], contains("is damaged and is written again") && contains(key_of(0)) && contains("checksum"));
  CHECK(cache.take_notes().empty());
  cache.store(key_of(0), answer(4), 1);
  CHECK(cache.find(key_of(0), 20));
}

TEST_CASE("beyond its limit a cache forgets what was asked for least recently", "[rollout][cache]") {
  const TemporaryDirectory folder;
  constexpr std::int64_t limit = std::int64_t{1} << 20;
  CHECK_THAT(refusal([&] { ResponseCache(folder.path(), limit - 1); }), contains("must be 1 MiB or more"));
  ResponseCache cache(folder.path(), limit);
  const Ids prompt = {3};
  const auto key_of = [&](std::uint32_t step) { return ResponseCache::key("m", {prompt, step, 0}, Sampler{}, {}); };
  const Completion large = answer(4, 2000);  // about 55 kB of text
  for (std::uint32_t step = 0; step < 12; ++step) {
    cache.store(key_of(step), large, 1);
    const struct timespec times[2] = {{1000 + step, 0}, {1000 + step, 0}};  // the order, whatever the clock's grain
    REQUIRE(::utimensat(AT_FDCWD, file_of(cache, key_of(step)).c_str(), times, 0) == 0);
  }
  REQUIRE(cache.find(key_of(0), 20));  // asked for now
  for (std::uint32_t step = 12; cache.use().evicted == 0; ++step) {
    REQUIRE(step < 100);
    cache.store(key_of(step), large, 1);
  }
  CHECK(exists(file_of(cache, key_of(0))));
  CHECK(!exists(file_of(cache, key_of(1))));
  std::uint64_t bytes = 0;
  for (const std::string& part : list_directory(folder.path()))
    for (const std::string& name : list_directory(folder / part)) bytes += file_size((folder / part) + "/" + name);
  CHECK(bytes <= limit);
  CHECK(bytes > limit / 2);
}
