// SPDX-License-Identifier: Apache-2.0
// The arena of the CUDA backend over the host's memory.
#include "src/cuda/arena.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "kdlib/core/rng.hpp"
#include "support/catch.hpp"

using namespace kdlib;
using detail::Arena;

namespace {

/// An arena whose pieces are memory of the host, at most `limit` bytes together.
struct HostArena {
  std::size_t limit, piece_bytes;
  std::size_t held = 0;
  std::map<void*, std::pair<std::unique_ptr<std::byte[]>, std::size_t>> pieces{};
  Arena arena{[this](std::size_t bytes) { return take(bytes); }, [this](void* p) { give(p); }, piece_bytes};

  void* take(std::size_t bytes) {
    if (held + bytes > limit) return nullptr;
    auto piece = std::make_unique<std::byte[]>(bytes + Arena::step);
    void* const at = piece.get() + (Arena::step - reinterpret_cast<std::uintptr_t>(piece.get()) % Arena::step);
    held += bytes;
    pieces[at] = {std::move(piece), bytes};
    return at;
  }
  void give(void* p) {
    held -= pieces.at(p).second;
    pieces.erase(p);
  }
};

struct Live {
  unsigned char* at;
  std::size_t bytes;
  unsigned char mark;

  std::size_t whole() const { return (bytes + Arena::step - 1) / Arena::step * Arena::step; }
  bool untouched() const {
    return std::all_of(at, at + bytes, [this](unsigned char x) { return x == mark; });
  }
};

}  // namespace

TEST_CASE("blocks of an arena never overlap, and all of it is free again when they are given back", "[cuda]") {
  HostArena host{std::size_t{1} << 19, 1 << 16};
  Arena& arena = host.arena;
  std::vector<Live> live;
  const Rng random(3, RngPurpose::test);
  std::size_t used = 0, most = 0, refused = 0;
  for (std::uint32_t i = 0; i < 3000; ++i) {
    if (live.empty() || random.uniform(4 * i) < 0.55) {
      const auto bytes = static_cast<std::size_t>(1 + random.below(4 * i + 1, i % 50 == 0 ? 90000 : 5000));
      auto* const at = static_cast<unsigned char*>(arena.allocate(bytes));
      refused += at == nullptr;
      if (at == nullptr) continue;
      REQUIRE(reinterpret_cast<std::uintptr_t>(at) % Arena::step == 0);
      live.push_back({at, bytes, static_cast<unsigned char>(i)});
      std::memset(at, static_cast<unsigned char>(i), bytes);
      used += live.back().whole();
      most = std::max(most, used);
    } else {
      const auto k = static_cast<std::size_t>(random.below(4 * i + 2, live.size()));
      REQUIRE(live[k].untouched());
      arena.release(live[k].at);
      used -= live[k].whole();
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(k));
    }
    REQUIRE(arena.used() == used);
  }
  CHECK(refused > 0);  // the limit was met
  CHECK(arena.peak() == most);
  CHECK(arena.reserved() == host.held);
  for (const Live& l : live) {
    CHECK(l.untouched());
    arena.release(l.at);
  }
  CHECK(arena.used() == 0);
  CHECK(arena.trim() > 0);
  CHECK(arena.reserved() == 0);
  CHECK(host.held == 0);
}

TEST_CASE("an arena takes the smallest hole, joins neighbours and grows by pieces", "[cuda]") {
  HostArena host{8192 + 5120, 8192};
  Arena& arena = host.arena;
  char *a = static_cast<char*>(arena.allocate(1500)), *b = static_cast<char*>(arena.allocate(512)),
       *c = static_cast<char*>(arena.allocate(600)), *d = static_cast<char*>(arena.allocate(1));
  CHECK((b == a + 1536 && c == b + 512 && d == c + 1024));
  arena.release(a), arena.release(c);
  CHECK(arena.allocate(1000) == c);  // not the larger hole in front
  arena.release(c), arena.release(b);
  CHECK(arena.allocate(3 * 1024) == a);  // a, b and c together
  CHECK(arena.reserved() == 8192);
  CHECK(arena.allocate(5000) != nullptr);  // no hole holds it, nor a whole piece the host: a piece of its size
  CHECK(arena.reserved() == 8192 + 5120);
  CHECK(arena.allocate(8192) == nullptr);
  CHECK_THROWS_AS(arena.release(a + 512), Error);
  arena.release(d);
  CHECK_THROWS_WITH(arena.release(d), contains("not in use"));
}
