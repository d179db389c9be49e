// SPDX-License-Identifier: Apache-2.0
// TensorBoard's event files: the framing of records, the values in them, and what a resumed run makes out of date. The
// real reader reads them in tests/interop/tensorboard.
#include "kdlib/train/tensorboard.hpp"

#include <cstring>

#include "support/catch.hpp"
#include "support/shared.hpp"

using namespace kdlib;

namespace {
template <class T>
T number_at(const std::string& bytes, std::size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

/// The events of a file, each record checked by its sums.
std::vector<std::string> events_of(const std::string& path) {
  const std::string bytes = read_file(path);
  std::vector<std::string> events;
  const auto unmasked = [](std::uint32_t masked) {
    const std::uint32_t turned = masked - 0xa282ead8u;
    return turned >> 17 | turned << 15;
  };
  for (std::size_t at = 0; at < bytes.size();) {
    REQUIRE(bytes.size() - at >= 16);
    const auto size = number_at<std::uint64_t>(bytes, at);
    REQUIRE(size <= bytes.size() - at - 16);
    CHECK(unmasked(number_at<std::uint32_t>(bytes, at + 8)) == detail::crc32c(bytes.substr(at, 8)));
    events.push_back(bytes.substr(at + 12, size));
    CHECK(unmasked(number_at<std::uint32_t>(bytes, at + 12 + size)) == detail::crc32c(events.back()));
    at += size + 16;
  }
  return events;
}
}  // namespace

TEST_CASE("CRC-32C has the values of RFC 3720", "[train]") {
  CHECK(detail::crc32c("123456789") == 0xE3069283u);
  CHECK(detail::crc32c(std::string(32, '\0')) == 0x8A9136AAu);
  CHECK(detail::crc32c(std::string(32, '\xff')) == 0x62A8AB43u);
}

TEST_CASE("scalars of one step are one event with the bytes of its message", "[train]") {
  const kdlib_tests::TemporaryDirectory folder;
  std::string first, second;
  {
    TensorBoardEvents events(folder / "tb", 1.5);
    events.scalar("a", 300, 0.5);
    events.scalar("b", 300, -2);
    events.scalar("a", 301, 1);
    events.flush();
    first = events.path();
    TensorBoardEvents again(folder / "tb", 1.5);
    again.rewind(300);
    second = again.path();
  }
  REQUIRE(first != second);
  const std::vector<std::string> events = events_of(first);
  REQUIRE(events.size() == 3);
  const std::string time("\x09\0\0\0\0\0\0\xf8\x3f", 9);  // field 1, a double: 1.5
  CHECK(events[0] == time + std::string("\x10\x00\x1a\x0d", 4) + "brain.Event:2");
  const std::string a("\x0a\x08\x0a\x01\x61\x15\0\0\0\x3f", 10), b("\x0a\x08\x0a\x01\x62\x15\0\0\0\xc0", 10);
  CHECK(events[1] == time + "\x10\xac\x02\x2a\x14" + a + b);                // step 300 in two groups of seven bits
  CHECK(events_of(second).at(1) == time + "\x10\xad\x02\x3a\x02\x08\x01");  // a session starts at step 301
}
