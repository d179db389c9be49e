// SPDX-License-Identifier: Apache-2.0
// A request to stop is honoured by parallel regions of the thread that it is for, and by no others.
#include "kdlib/core/stop.hpp"

#include <thread>

#include "kdlib/core/parallel.hpp"
#include "support/catch.hpp"

using namespace kdlib;

namespace {
/// True when a parallel region ran on the calling thread.
bool runs() {
  bool ran = false;
  parallel_for(1, 1, [&](std::int64_t, std::int64_t) { ran = true; });
  return ran;
}
}  // namespace

TEST_CASE("a parallel region does not begin once its thread's scope is asked to stop", "[core]") {
  std::atomic<bool> stop{false};
  {
    const StopScope scope(&stop);
    CHECK(runs());
    stop = true;
    CHECK_THROWS_AS(runs(), StopRequested);
    {
      const StopScope shield(nullptr);
      CHECK(runs());
    }
    CHECK_THROWS_AS(runs(), StopRequested);
    bool elsewhere = false;
    std::thread other([&] { elsewhere = runs(); });
    other.join();
    CHECK(elsewhere);
  }
  CHECK(runs());
}

TEST_CASE("workers of a region look at the flag of the thread that they work for", "[core]") {
  const int before = thread_count();
  set_thread_count(3);
  std::atomic<bool> stop{false};
  std::atomic<int> begun{0}, stopped{0};
  const StopScope scope(&stop);
  CHECK_THROWS_AS(parallel_parts(3,
                                 [&](int, int) {
                                   ++begun;
                                   while (begun.load() < 3) std::this_thread::yield();
                                   stop = true;
                                   try {
                                     check_stop();
                                   } catch (const StopRequested&) {
                                     ++stopped;
                                     throw;
                                   }
                                 }),
                  StopRequested);
  CHECK(stopped.load() == 3);
  stop = false;
  set_thread_count(before);
  CHECK(runs());
}
