// SPDX-License-Identifier: Apache-2.0
// The tokens of a byte-level tokenizer: id to bytes and bytes to id, and the alphabet in which files write bytes.
#ifndef KDLIB_TEXT_VOCABULARY_HPP
#define KDLIB_TEXT_VOCABULARY_HPP

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Tokens with ids in [0, Vocabulary::max_id], gaps allowed. Bytes live in one block; a hash table finds an id by its
/// bytes.
class Vocabulary {
 public:
  static constexpr std::int64_t max_id =
      (std::int64_t{1} << 22) - 1;  // bounds the memory that a lying file can ask for
  static constexpr std::int32_t none = -1;

  Vocabulary() = default;
  explicit Vocabulary(std::size_t expected_tokens) { reserve(expected_tokens); }

  /// Adds a token that find() will know. False when the id or the bytes are taken, or there are 2^32 bytes. id in [0,
  /// max_id].
  bool add(std::string_view bytes, std::int32_t id);
  /// Adds a token that only has an id: an added token, which is found in the text before byte pairs are merged. False
  /// when the id is taken.
  bool add_hidden(std::string_view bytes, std::int32_t id);

  /// The id of these bytes, or none.
  std::int32_t find(std::string_view bytes) const;
  bool has(std::int32_t id) const {
    return id >= 0 && static_cast<std::size_t>(id) < spans_.size() &&
           spans_[static_cast<std::size_t>(id)].begin != missing;
  }
  /// Empty for an id without a token.
  std::string_view bytes(std::int32_t id) const;
  std::int32_t size() const { return static_cast<std::int32_t>(spans_.size()); }  // highest id + 1
  void remove(std::int32_t id);                                                   // drops a hidden token

 private:
  static constexpr std::uint32_t missing = 0xFFFFFFFFu;
  struct Span {
    std::uint32_t begin = missing, length = 0;
  };
  void reserve(std::size_t tokens);
  std::size_t slot(std::string_view bytes) const;  // where these bytes are or would be

  std::string block_;
  std::vector<Span> spans_;          // by id
  std::vector<std::int32_t> slots_;  // ids, open addressing; size a power of two
  std::size_t used_ = 0;
};

/// A 64-bit hash of short byte strings. Not for untrusted keys at scale: used with probing tables that are bounded.
std::uint64_t hash_bytes(std::string_view bytes);

/// Appends the bytes that GPT-2's alphabet writes as `token` (UTF-8). False, with `out` as it was, when a character is
/// not in it.
bool append_alphabet_bytes(std::string_view token, std::string& out);

/// Bytes in GPT-2's alphabet, as vocabulary files write them.
std::string to_alphabet(std::string_view bytes);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/vocabulary_inl.hpp"
#endif

#endif
