// SPDX-License-Identifier: Apache-2.0
// The compiled map of characters with which SentencePiece normalises (nmt_nfkc and others): a double array of keys and
// a list of what they become.
#ifndef KDLIB_TEXT_CHARS_MAP_HPP
#define KDLIB_TEXT_CHARS_MAP_HPP

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

class CharsMap {
 public:
  CharsMap() = default;
  /// `precompiled_charsmap`: the size of the double array in bytes (32 bits), its units of 32 bits, and texts that end
  /// with zero bytes, all little-endian. An empty blob maps nothing. FormatError naming `source`: a blob that is cut
  /// off or has no texts.
  CharsMap(std::string blob, std::string_view source);

  struct Match {
    std::size_t length = 0;  // bytes of the key; 0: no key begins here
    std::string_view text{};
  };
  /// The longest key with which a text begins.
  Match longest(std::string_view text) const;
  /// The shortest one.
  Match shortest(std::string_view text) const;
  bool empty() const { return units_.empty(); }
  const std::string& blob() const { return blob_; }

  /// Appends a text as the tokenizers library's normaliser Precompiled has it: a grapheme cluster of fewer than six
  /// bytes that begins with a key becomes that key's text as a whole; in others each character is mapped by itself.
  void append_mapped(std::string_view text, std::string& out) const;

 private:
  template <class Visit>
  void walk(std::string_view text, Visit&& visit) const;
  std::string_view mapped(std::uint32_t place) const;

  std::string blob_;
  std::vector<std::uint32_t> units_;
  std::size_t texts_ = 0;  // where they begin in blob_
};

/// The byte behind the grapheme cluster that begins at `at`, as far as clusters of fewer than six bytes and what comes
/// before them are concerned: syllables of Hangul, flags and joined emoji, all longer, may be cut.
std::size_t grapheme_end(std::string_view text, std::size_t at);

/// Standard base64 with padding; empty where `text` is none. `encode` is its inverse.
bool decode_base64(std::string_view text, std::string& out);
std::string encode_base64(std::string_view bytes);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/chars_map_inl.hpp"
#endif

#endif
