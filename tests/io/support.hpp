// SPDX-License-Identifier: Apache-2.0
// Bytes for the tests of the file readers: hex text, safetensors and GGUF files put together by hand.
#ifndef KDLIB_TESTS_IO_SUPPORT_HPP
#define KDLIB_TESTS_IO_SUPPORT_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "kdlib/io/atomic_file.hpp"
#include "support/shared.hpp"

namespace kdlib_tests {

/// "00 3C7F" -> the bytes 00 3C 7F; white space is skipped.
inline std::string hex(std::string_view digits) {
  const auto value = [](char c) { return c <= '9' ? c - '0' : (c | 32) - 'a' + 10; };
  std::string out, plain;
  for (const char c : digits)
    if (c != ' ' && c != '\n') plain += c;
  for (std::size_t i = 0; i + 1 < plain.size(); i += 2)
    out += static_cast<char>(value(plain[i]) * 16 + value(plain[i + 1]));
  return out;
}

/// The little-endian bytes of a number.
template <class T>
std::string le(T value) {
  std::string out(sizeof value, '\0');
  std::memcpy(out.data(), &value, sizeof value);
  return out;
}

inline std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

/// A safetensors file with this header and this many data bytes (0, 1, 2, ...).
inline std::string safetensors(const std::string& header, std::size_t data_bytes) {
  std::string out = le(std::uint64_t{header.size()}) + header;
  for (std::size_t i = 0; i < data_bytes; ++i) out += static_cast<char>(i);
  return out;
}

/// Puts GGUF files together piece by piece, right or wrong.
struct GgufBytes {
  std::uint32_t version = 3;
  std::uint64_t tensors = 0, pairs = 0;
  std::string body;  // pairs, then tensor entries
  std::string data;
  std::size_t alignment = 32;

  static std::string text(std::string_view s) { return le(std::uint64_t{s.size()}) + std::string(s); }
  GgufBytes& pair(std::string_view key, std::uint32_t kind, const std::string& value) {
    ++pairs;
    body += text(key) + le(kind) + value;
    return *this;
  }
  GgufBytes& tensor(std::string_view name, std::initializer_list<std::uint64_t> extents, std::uint32_t type,
                    std::uint64_t offset) {
    ++tensors;
    body += text(name) + le(static_cast<std::uint32_t>(extents.size()));
    for (const std::uint64_t e : extents) body += le(e);
    body += le(type) + le(offset);
    return *this;
  }
  std::string file() const {
    std::string out = "GGUF" + le(version) + le(tensors) + le(pairs) + body;
    if (data.empty()) return out;
    out.resize((out.size() + alignment - 1) / alignment * alignment);
    return out + data;
  }
};

}  // namespace kdlib_tests

#endif
