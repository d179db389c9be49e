// SPDX-License-Identifier: Apache-2.0
// NcclCommunicator over a stand-in for NCCL: blocks come where they belong, and every wait has a deadline. Without a
// GPU NCCL itself is only compiled against (kdlib::nccl).
#include "src/nccl/nccl.cpp"

#include <atomic>

#include "support/catch.hpp"
#include "support/communicator_checks.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

static_assert(Communicator<NcclCommunicator>);

/// Runs every operation and counts what is not as it should be.
int wrong_answers(AnyCommunicator c) {
  const int wrong = wrong_blocks(c);
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
