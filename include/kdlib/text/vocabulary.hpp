// SPDX-License-Identifier: Apache-2.0
// The tokens of a byte-level tokenizer, found by id or by their bytes, and the alphabet in which files write bytes.
#ifndef KDLIB_TEXT_VOCABULARY_HPP
#define KDLIB_TEXT_VOCABULARY_HPP

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A set of tokens with ids in [0, Vocabulary::max_id]; ids may have gaps. The bytes of all tokens are in one block; a
/// hash table finds the id of given bytes.
class Vocabulary {
 public:
  static constexpr std::int64_t max_id =
      (std::int64_t{1} << 22) - 1;  // limits the memory that a wrong file can request
  static constexpr std::int32_t none = -1;

  Vocabulary() = default;
  explicit Vocabulary(std::size_t expected_tokens) { reserve(expected_tokens); }

  /// Adds a token that find() will find. `id` is in [0, max_id]. Returns false if the id or the bytes are already used,
  /// or if all tokens together would have 2^32 bytes.
  bool add(std::string_view bytes, std::int32_t id);
  /// Adds a token that find() does not find: an added token, which is found in the text before byte pairs are merged.
  /// Returns false if the id is already used.
  bool add_hidden(std::string_view bytes, std::int32_t id);

  /// Returns the id of the token with these bytes, or Vocabulary::none.
  std::int32_t find(std::string_view bytes) const;
  bool has(std::int32_t id) const {
    return id >= 0 && static_cast<std::size_t>(id) < spans_.size() &&
           spans_[static_cast<std::size_t>(id)].begin != missing;
  }
  /// Returns the bytes of a token; empty for an id without a token.
  std::string_view bytes(std::int32_t id) const;
  std::int32_t size() const { return static_cast<std::int32_t>(spans_.size()); }  // highest id + 1
  void remove(std::int32_t id);  // removes a token that add_hidden() added

 private:
  static constexpr std::uint32_t missing = 0xFFFFFFFFu;
  struct Span {
    std::uint32_t begin = missing, length = 0;
  };
  void reserve(std::size_t tokens);
  std::size_t slot(std::string_view bytes) const;  // slot in which these bytes are or would be stored

  std::string block_;
  std::vector<Span> spans_;          // by id
  std::vector<std::int32_t> slots_;  // ids, with open addressing; the size is a power of two
  std::size_t used_ = 0;
};

/// Returns a 64-bit hash of a short byte string. It does not protect against many keys that were chosen to collide; use
/// it only with tables whose size is limited.
std::uint64_t hash_bytes(std::string_view bytes);

/// Appends the bytes that `token` (UTF-8) stands for in GPT-2's alphabet. Returns false, with `out` unchanged, if a
/// character is not in this alphabet.
bool append_alphabet_bytes(std::string_view token, std::string& out);

/// Returns bytes in GPT-2's alphabet, the form of vocabulary files.
std::string to_alphabet(std::string_view bytes);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/vocabulary_inl.hpp"
#endif

#endif
