// SPDX-License-Identifier: Apache-2.0
// The compiled map of characters with which SentencePiece normalises text (nmt_nfkc and others): keys in a double array
// (a trie in two arrays), and a list of the texts that replace them.
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
  /// `blob` is the field `precompiled_charsmap`: the size of the double array in bytes (32 bits), its units of 32 bits,
  /// and texts that each end with a zero byte, all little-endian. An empty blob maps nothing. FormatError, naming
  /// `source`: the blob is cut off or has no texts.
  CharsMap(std::string blob, std::string_view source);

  struct Match {
    std::size_t length = 0;  // bytes of the key; 0: the text begins with no key
    std::string_view text{};
  };
  /// Returns the longest key with which a text begins.
  Match longest(std::string_view text) const;
  /// Returns the shortest key with which a text begins.
  Match shortest(std::string_view text) const;
  bool empty() const { return units_.empty(); }
  const std::string& blob() const { return blob_; }

  /// Appends the mapped text, as the normaliser Precompiled of the tokenizers library does. A grapheme cluster (a
  /// character with the marks that belong to it) of fewer than six bytes that begins with a key is replaced as a whole
  /// by the text of this key. In other clusters each character is mapped separately.
  void append_mapped(std::string_view text, std::string& out) const;

 private:
  template <class Visit>
  void walk(std::string_view text, Visit&& visit) const;
  std::string_view mapped(std::uint32_t place) const;

  std::string blob_;
  std::vector<std::uint32_t> units_;
  std::size_t texts_ = 0;  // where the texts begin in blob_
};

/// Returns the byte behind the grapheme cluster that begins at `at`. The result is exact for clusters of fewer than six
/// bytes; longer clusters (syllables of Hangul, flags and joined emoji) may be cut.
std::size_t grapheme_end(std::string_view text, std::size_t at);

/// Decodes standard base64 with padding into `out`. Returns false if `text` is not base64. encode_base64() is the
/// inverse.
bool decode_base64(std::string_view text, std::string& out);
std::string encode_base64(std::string_view bytes);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/chars_map_inl.hpp"
#endif

#endif
