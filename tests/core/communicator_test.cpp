// SPDX-License-Identifier: Apache-2.0
// Ranks as threads: what each operation brings to whom, and how a rank that fails ends the others.
#include "kdlib/core/communicator.hpp"

#include <array>
#include <atomic>

#include "support/catch.hpp"
#include "support/communicator_checks.hpp"

namespace {
using kdlib::AnyCommunicator;
using kdlib::ThreadCommunicator;
using kdlib_tests::bytes_of;
using kdlib_tests::room_of;

static_assert(kdlib::Communicator<ThreadCommunicator> && kdlib::Communicator<kdlib::SelfCommunicator> &&
              kdlib::Communicator<AnyCommunicator>);

/// Runs every operation and counts what is not as it should be.
int wrong_answers(AnyCommunicator c) {
  const int n = c.size(), r = c.rank();
  int wrong = kdlib_tests::wrong_blocks(c);
  const std::vector<int> mine(static_cast<std::size_t>(r), r);  // rank 0 has nothing to say
  const std::vector<kdlib::Bytes> parts = c.gather_parts(bytes_of(mine));
  for (int i = 0; i < n; ++i) wrong += parts[static_cast<std::size_t>(i)].size() != static_cast<std::size_t>(i) * 4;
  wrong += c.any(false) || !c.any(r == n - 1);
  const kdlib::Bytes sent = c.broadcast_bytes(kdlib::BytePacker().add(std::string_view("from ")).add(r).take());
  kdlib::ByteUnpacker read(sent);
  wrong += read.text() != "from " || read.get<int>() != 0 || !read.empty();
  return wrong;
}
}  // namespace

TEST_CASE("every operation brings each rank what the others sent, for 1 to 8 ranks", "[communicator]") {
  AnyCommunicator alone;
  CHECK(wrong_answers(alone) == 0);
  CHECK(wrong_answers(AnyCommunicator(kdlib::SelfCommunicator{})) == 0);
  for (int ranks = 1; ranks <= 8; ++ranks) {
    std::atomic<int> wrong{0};
    kdlib::run_ranks(ranks, [&](ThreadCommunicator c) { wrong += wrong_answers(c); });
    CHECK(wrong == 0);
  }
}

TEST_CASE("split puts those of one colour together in the order of their keys", "[communicator]") {
  std::atomic<int> wrong{0};
  kdlib::run_ranks(5, [&](ThreadCommunicator c) {
    AnyCommunicator any(c);
    const int r = c.rank();
    AnyCommunicator part = any.split(r % 2, -r);  // 4 2 0 and 3 1
    wrong += part.size() != (r % 2 == 0 ? 3 : 2) || part.rank() != (r % 2 == 0 ? (4 - r) / 2 : (3 - r) / 2);
    wrong += wrong_answers(part);
    wrong += wrong_answers(any.split(7, r));  // a second one, of all
  });
  CHECK(wrong == 0);
}

TEST_CASE("a rank that throws ends those that wait for it, and its own error is the one that is told",
          "[communicator]") {
  std::atomic<int> lost{0};
  const auto body = [&](ThreadCommunicator c) {
    if (c.rank() == 1) throw kdlib::InputError("line 7 is broken");
    try {
      for (int i = 0; i < 3; ++i) c.barrier();
    } catch (const kdlib::RankError&) {
      ++lost;
      throw;
    }
  };
  CHECK_THROWS_AS(kdlib::run_ranks(3, body), kdlib::InputError);
  CHECK(lost == 2);
}

TEST_CASE("a rank that does not come is lost after the deadline", "[communicator]") {
  try {
    kdlib::run_ranks(
        2,
        [](ThreadCommunicator c) {
          if (c.rank() == 0) c.barrier();
        },
        0.05);
    FAIL("nobody missed rank 1");
  } catch (const kdlib::RankError& error) {
    CHECK(std::string(error.what()).find("[ranks] lost rank: 1 of 2 ranks did not come within 0.05") == 0);
  }
}

TEST_CASE("blocks of different sizes and messages that end too early are refused", "[communicator]") {
  CHECK_THROWS_AS(kdlib::run_ranks(2,
                                   [](ThreadCommunicator c) {
                                     std::vector<int> in(3), out(2);
                                     c.gather_all(bytes_of(in), room_of(out));
                                   }),
                  kdlib::ShapeError);
  CHECK_THROWS_AS(kdlib::run_ranks(2,
                                   [](ThreadCommunicator c) {
                                     std::vector<int> in(static_cast<std::size_t>(c.rank() + 1)), out(2 * in.size());
                                     c.gather_all(bytes_of(in), room_of(out));
                                   }),
                  kdlib::ShapeError);
  const kdlib::Bytes two = kdlib::BytePacker().add(1).add(2).take();
  kdlib::ByteUnpacker read(two);
  using Three = std::array<int, 3>;
  CHECK_THROWS_AS(read.get<Three>(), kdlib::FormatError);
  CHECK_THROWS_AS(kdlib::ByteUnpacker(two).list<int>(), kdlib::FormatError);
}
