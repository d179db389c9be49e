// SPDX-License-Identifier: Apache-2.0
#include "kdlib/core/parallel.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <thread>
#include <vector>

#include "kdlib/core/error.hpp"
#include "support/catch.hpp"

using namespace kdlib;

namespace {
struct Threads {  // sets a thread count for one test
  explicit Threads(int n) : before(thread_count()) { set_thread_count(n); }
  ~Threads() { set_thread_count(before); }
  int before;
};
}  // namespace

TEST_CASE("parallel_for visits every element once, whatever the grain and thread count", "[core][parallel]") {
  for (const int threads : {1, 2, 3, 7}) {
    const Threads scope(threads);
    for (const std::int64_t count : {0, 1, 5, 64, 1000}) {
      for (const std::int64_t grain : {1, 7, 64, 5000}) {
        std::vector<int> hits(static_cast<std::size_t>(count), 0);
        parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t i = begin; i < end; ++i) ++hits[static_cast<std::size_t>(i)];
        });
        for (const int h : hits) REQUIRE(h == 1);
      }
    }
  }
}

TEST_CASE("the first failing part's exception reaches the caller and the pool works on", "[core][parallel]") {
  const Threads scope(3);
  for (int round = 0; round < 20; ++round) {
    CHECK_THROWS_AS(parallel_parts(3, [](int part, int) { require<ShapeError>(part != 1, "[test] part ", part); }),
                    ShapeError);
    std::atomic<int> sum{0};
    parallel_parts(3, [&](int part, int parts) { sum += part + parts; });
    CHECK(sum == 12);
  }
}

TEST_CASE("nested regions and regions from other threads run to the end", "[core][parallel]") {
  const Threads scope(2);
  std::atomic<int> sum{0};
  parallel_parts(2, [&](int, int) { parallel_parts(2, [&](int, int) { ++sum; }); });
  CHECK(sum == 4);
  std::thread other([&] {
    for (int i = 0; i < 200; ++i) parallel_parts(2, [&](int, int) { ++sum; });
  });
  for (int i = 0; i < 200; ++i) parallel_parts(2, [&](int, int) { ++sum; });
  other.join();
  CHECK(sum == 804);
}

TEST_CASE("a thread count below one is refused", "[core][parallel]") {
  CHECK_THROWS_AS(set_thread_count(0), ConfigError);
}

TEST_CASE("threads that the system refuses are an error that says so, and fewer work afterwards", "[core][parallel]") {
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr) KDLIB_SKIP("/proc/self/statm is not here");
  long pages = 0;
  REQUIRE(std::fscanf(file, "%ld", &pages) == 1);
  std::fclose(file);
  struct rlimit before {};
  REQUIRE(::getrlimit(RLIMIT_AS, &before) == 0);
  struct rlimit limited = before;  // room for a few stacks, not for a thousand
  limited.rlim_cur = static_cast<rlim_t>(pages) * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + (rlim_t{64} << 20);
  REQUIRE(::setrlimit(RLIMIT_AS, &limited) == 0);
  {
    const Threads scope(1000);
    CHECK_THROWS_WITH(parallel_parts(1000, [](int, int) {}),
                      contains("cannot start 1000 threads") && contains("--threads"));
  }
  REQUIRE(::setrlimit(RLIMIT_AS, &before) == 0);
  const Threads scope(3);
  std::atomic<int> sum{0};
  parallel_parts(3, [&](int part, int) { sum += part; });
  CHECK(sum == 3);
}
