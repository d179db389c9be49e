// SPDX-License-Identifier: Apache-2.0
// Bodies of vocabulary.hpp.
#ifndef KDLIB_TEXT_VOCABULARY_INL_HPP
#define KDLIB_TEXT_VOCABULARY_INL_HPP

#include <cstring>

#include "kdlib/text/unicode.hpp"
#include "kdlib/text/vocabulary.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC std::uint64_t hash_bytes(std::string_view bytes) {
  constexpr std::uint64_t multiplier = 0x9E3779B97F4A7C15u;
  std::uint64_t h = bytes.size() * multiplier;
  const auto mix = [&](std::uint64_t word) {
    h = (h ^ word) * multiplier;
    h ^= h >> 29;
  };
  const char* at = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= 8; at += 8, left -= 8) {
    std::uint64_t word;
    std::memcpy(&word, at, 8);
    mix(word);
  }
  if (left > 0) {
    std::uint64_t word = 0;
    std::memcpy(&word, at, left);
    mix(word);
  }
  h *= multiplier;
  return h ^ h >> 32;
}

KDLIB_FUNC void Vocabulary::reserve(std::size_t tokens) {
  std::size_t size = 64;
  while (size < tokens * 2) size *= 2;
  std::vector<std::int32_t> old(size, none);
  old.swap(slots_);
  for (const std::int32_t id : old)
    if (id != none) slots_[slot(bytes(id))] = id;
}

KDLIB_FUNC std::size_t Vocabulary::slot(std::string_view wanted) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = hash_bytes(wanted) & mask;
  while (slots_[at] != none && bytes(slots_[at]) != wanted) at = (at + 1) & mask;
  return at;
}

KDLIB_FUNC bool Vocabulary::add(std::string_view bytes, std::int32_t id) {
  if ((used_ + 1) * 2 > slots_.size()) reserve(used_ * 2 + 32);
  const std::size_t at = slot(bytes);
  if (slots_[at] != none || !add_hidden(bytes, id)) return false;
  slots_[at] = id;
  ++used_;
  return true;
}

KDLIB_FUNC bool Vocabulary::add_hidden(std::string_view bytes, std::int32_t id) {
  const auto index = static_cast<std::size_t>(id);
  if (has(id) || bytes.size() >= missing - block_.size()) return false;
  if (index >= spans_.size()) spans_.resize(index + 1);
  spans_[index] = {static_cast<std::uint32_t>(block_.size()), static_cast<std::uint32_t>(bytes.size())};
  block_.append(bytes);
  return true;
}

KDLIB_FUNC std::int32_t Vocabulary::find(std::string_view bytes) const {
  return slots_.empty() ? none : slots_[slot(bytes)];
}

KDLIB_FUNC std::string_view Vocabulary::bytes(std::int32_t id) const {
  if (!has(id)) return {};
  const Span span = spans_[static_cast<std::size_t>(id)];
  return std::string_view(block_).substr(span.begin, span.length);
}

KDLIB_FUNC void Vocabulary::remove(std::int32_t id) {
  spans_[static_cast<std::size_t>(id)] = {};
  while (!spans_.empty() && spans_.back().begin == missing) spans_.pop_back();
}

/// Code point of each byte in GPT-2's alphabet, and back.
struct ByteAlphabet {
  char32_t of_byte[256];
  std::int16_t of_code_point[0x144];  // -1: none
  ByteAlphabet() {
    for (std::int16_t& byte : of_code_point) byte = -1;
    char32_t next = 0x100;
    for (char32_t b = 0; b < 256; ++b) {
      const bool itself = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
      of_byte[b] = itself ? b : next++;
      of_code_point[of_byte[b]] = static_cast<std::int16_t>(b);
    }
  }
  static const ByteAlphabet& get() {
    static const ByteAlphabet alphabet;
    return alphabet;
  }
};

KDLIB_FUNC bool append_alphabet_bytes(std::string_view token, std::string& out) {
  const ByteAlphabet& alphabet = ByteAlphabet::get();
  const std::size_t size = out.size();
  if (find_invalid_utf8(token) != std::string_view::npos) return false;
  for (std::size_t at = 0; at < token.size();) {
    const char32_t c = next_code_point(token.data(), at);
    if (c >= 0x144 || alphabet.of_code_point[c] < 0) {
      out.resize(size);
      return false;
    }
    out.push_back(static_cast<char>(static_cast<unsigned char>(alphabet.of_code_point[c])));
  }
  return true;
}

KDLIB_FUNC std::string to_alphabet(std::string_view bytes) {
  std::string out;
  for (const char b : bytes) append_utf8(out, ByteAlphabet::get().of_byte[static_cast<unsigned char>(b)]);
  return out;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
