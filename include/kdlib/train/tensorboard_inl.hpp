// SPDX-License-Identifier: Apache-2.0
// Bodies of tensorboard.hpp: records of TFRecord around messages of protocol buffers, three fields of which are used.
#ifndef KDLIB_TRAIN_TENSORBOARD_INL_HPP
#define KDLIB_TRAIN_TENSORBOARD_INL_HPP

#include <unistd.h>

#include <array>
#include <bit>
#include <cstring>

#include "kdlib/core/clock.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/train/tensorboard.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
KDLIB_FUNC std::uint32_t crc32c(std::string_view bytes) {
  static const std::array<std::uint32_t, 256> table = [] {
    std::array<std::uint32_t, 256> made{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      made[i] = i;
      for (int bit = 0; bit < 8; ++bit) made[i] = (made[i] >> 1) ^ ((made[i] & 1) != 0 ? 0x82F63B78u : 0u);
    }
    return made;
  }();
  std::uint32_t crc = ~0u;
  for (const char c : bytes) crc = (crc >> 8) ^ table[(crc ^ static_cast<unsigned char>(c)) & 255u];
  return ~crc;
}

/// The bytes of a number, the lowest first, as the files have them.
template <class T>
std::string little_endian(T value) {
  static_assert(std::endian::native == std::endian::little, "kdlib runs on little-endian machines");
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

/// A whole number in groups of seven bits.
KDLIB_FUNC void append_varint(std::uint64_t value, std::string& out) {
  for (; value >= 128; value >>= 7) out += static_cast<char>(value | 128);
  out += static_cast<char>(value);
}

/// A field of a message: its number and the kind of value that follows.
KDLIB_FUNC void append_field(int number, int kind, std::string& out) {
  append_varint(static_cast<std::uint64_t>(number) << 3 | static_cast<std::uint64_t>(kind), out);
}

KDLIB_FUNC void append_bytes_field(int number, std::string_view value, std::string& out) {
  append_field(number, 2, out);
  append_varint(value.size(), out);
  out += value;
}

/// A record: length and bytes, each with its masked checksum.
KDLIB_FUNC std::string event_record(std::string_view event) {
  const auto masked = [](std::string_view bytes) {
    const std::uint32_t crc = crc32c(bytes);
    return little_endian((crc >> 15 | crc << 17) + 0xa282ead8u);
  };
  const std::string length = little_endian(static_cast<std::uint64_t>(event.size()));
  return length + masked(length) + std::string(event) + masked(event);
}

/// A name that no file in the folder has.
KDLIB_FUNC std::string event_file(const std::string& folder, double seconds) {
  make_directories(folder);
  const std::string stem = concat(folder, "/events.out.tfevents.", static_cast<std::int64_t>(seconds), ".",
                                  static_cast<std::int64_t>(::getpid()));
  std::string path = stem + ".kdlib";
  for (int i = 1; path_exists(path); ++i) path = concat(stem, ".", i, ".kdlib");
  return path;
}
}  // namespace detail

KDLIB_FUNC TensorBoardEvents::TensorBoardEvents(const std::string& folder, double seconds)
    : file_(detail::event_file(folder, now_seconds())), seconds_(seconds) {
  write_event(0, 3, "brain.Event:2");  // file_version
}

KDLIB_FUNC void TensorBoardEvents::scalar(std::string_view name, std::int64_t step, double value) {
  if (step != step_) end_event();
  step_ = step;
  std::string scalar;
  detail::append_bytes_field(1, name, scalar);  // tag
  detail::append_field(2, 5, scalar);           // simple_value
  scalar += detail::little_endian(static_cast<float>(value));
  detail::append_bytes_field(1, scalar, summary_);
}

KDLIB_FUNC void TensorBoardEvents::end_event() {
  if (!summary_.empty()) write_event(step_, 5, summary_);  // summary
  summary_.clear();
}

KDLIB_FUNC void TensorBoardEvents::write_event(std::int64_t step, int field, std::string_view message) {
  std::string event;
  detail::append_field(1, 1, event);  // wall_time
  event += detail::little_endian(seconds_ > 0 ? seconds_ : now_seconds());
  detail::append_field(2, 0, event);  // step
  detail::append_varint(static_cast<std::uint64_t>(step), event);
  detail::append_bytes_field(field, message, event);
  file_.write_bytes(detail::event_record(event));
}

KDLIB_FUNC void TensorBoardEvents::set_time(double seconds) {
  end_event();
  seconds_ = seconds;
}

KDLIB_FUNC void TensorBoardEvents::flush() {
  end_event();
  file_.flush();
}

KDLIB_FUNC void TensorBoardEvents::rewind(std::int64_t step) {
  end_event();
  constexpr std::string_view start{"\x08\x01", 2};  // SessionLog: status START
  write_event(step + 1, 7, start);
  flush();
}

KDLIB_NAMESPACE_END

#endif
