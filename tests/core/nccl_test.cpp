// SPDX-License-Identifier: Apache-2.0
// NcclCommunicator over a stand-in for NCCL: blocks come where they belong, and every wait has a deadline. Without a
// GPU NCCL itself is only compiled against (kdlib::nccl).
#include "src/nccl/nccl.cpp"

#include <atomic>

#include "support/catch.hpp"

using namespace kdlib;

namespace {

static_assert(Communicator<NcclCommunicator>);

std::span<const std::byte> bytes_of(const std::vector<int>& values) { return std::as_bytes(std::span(values)); }
std::span<std::byte> room_of(std::vector<int>& values) { return std::as_writable_bytes(std::span(values)); }

/// Runs every operation and counts what is not as it should be.
int wrong_answers(AnyCommunicator c) {
  const int n = c.size(), r = c.rank();
  int wrong = 0;
  std::vector<int> out, in;
  for (int i = 0; i < n; ++i) out.push_back(100 * r + i);
  in.resize(out.size());
  c.exchange(bytes_of(out), room_of(in));
  for (int i = 0; i < n; ++i) wrong += in[static_cast<std::size_t>(i)] != 100 * i + r;
  c.gather_all(bytes_of({r + 7}), room_of(in));
  for (int i = 0; i < n; ++i) wrong += in[static_cast<std::size_t>(i)] != i + 7;
  std::vector<int> word{r};
  c.broadcast(room_of(word), n - 1);
  wrong += word[0] != n - 1;
  c.barrier();
  c.exchange({}, {});  // nothing is something that every rank may send
  c.gather_all({}, {});
  return wrong;
}

template <class F>
std::string lost(F&& f) {
  try {
    f();
  } catch (const RankError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("NCCL's operations bring each rank what the others sent, also in parts", "[communicator]") {
  for (int ranks = 1; ranks <= 4; ++ranks) {
    std::atomic<int> wrong{0};
    run_ranks(ranks, [&](ThreadCommunicator threads) {
      AnyCommunicator bringer(threads);
      NcclCommunicator nccl = NcclCommunicator::over(bringer, threads.rank());
      wrong += nccl.rank() != threads.rank() || nccl.size() != ranks;
      wrong += wrong_answers(AnyCommunicator(nccl));
      const int r = threads.rank();
      NcclCommunicator part = nccl.split(r % 2, -r);
      wrong += part.size() != (ranks + 1 - r % 2) / 2;
      wrong += wrong_answers(AnyCommunicator(part));
    });
    CHECK(wrong == 0);
  }
}

TEST_CASE("a rank that NCCL waits for in vain, or reports as lost, is a RankError", "[communicator]") {
  NcclCommunicator alone = NcclCommunicator::make(NcclCommunicator::make_id(), 0, 1, 0, 0.05);
  fake_nccl::hangs = true;
  const std::string late = lost([&] { alone.barrier(); });
  fake_nccl::hangs = false;
  CHECK(late.find("lost rank: rank 0 of 1 waited 0.05") != std::string::npos);
  CHECK(late.find("seconds for another in gather_all") != std::string::npos);
  NcclCommunicator other = NcclCommunicator::make(NcclCommunicator::make_id(), 0, 1, 0, 5);
  fake_nccl::loses = true;
  const std::string gone = lost([&] { other.barrier(); });
  fake_nccl::loses = false;
  CHECK(gone.find("lost rank: gather_all: NCCL says remote process exited") != std::string::npos);
  std::vector<int> three(3), two(2);
  CHECK_THROWS_AS(alone.gather_all(bytes_of(three), room_of(two)), ShapeError);
  CHECK_THROWS_AS(alone.broadcast(room_of(two), 1), ConfigError);
  CHECK_THROWS_AS(NcclCommunicator::make({}, 2, 2, 0), ConfigError);
}
