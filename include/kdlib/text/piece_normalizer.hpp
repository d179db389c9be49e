// SPDX-License-Identifier: Apache-2.0
// How a text becomes what the models of piece_model.hpp read.
#ifndef KDLIB_TEXT_PIECE_NORMALIZER_HPP
#define KDLIB_TEXT_PIECE_NORMALIZER_HPP

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/text/chars_map.hpp"
#include "kdlib/text/unicode.hpp"
#include "kdlib/text/vocabulary.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

inline constexpr std::string_view metaspace = "\xE2\x96\x81";  // U+2581, which stands for a space in pieces

/// Strings by their bytes, as a double array: the child of a node for a byte stands at the node's offset ^ byte.
/// Source: Aoe, "An efficient digital search algorithm by using a double-array structure" (1989).
class ByteTrie {
 public:
  static constexpr std::uint32_t root = 0, no_node = 0;  // no step leads to the root
  /// No key twice, none empty. Before finish().
  void add(std::string_view key, std::int32_t id) { keys_.emplace_back(key, id); }
  void finish();
  bool empty() const { return nodes_ <= 1; }

  /// no_node: no key goes on like this.
  std::uint32_t step(std::uint32_t node, char byte) const {
    const auto label = static_cast<unsigned char>(byte);
    const std::uint32_t next = units_[node].offset ^ label;
    return units_[next].label == label ? next : no_node;
  }
  std::int32_t id(std::uint32_t node) const { return units_[node].id; }
  /// Bytes of the longest key with which a text begins, and its id; 0: there is none.
  std::size_t longest(std::string_view text, std::int32_t& id) const;

 private:
  struct Unit {
    std::uint32_t offset = 0;  // of the children, another one for each node that has some; 0: none
    std::int32_t id = Vocabulary::none;
    std::int16_t label = -1;  // the byte that leads here; -1: free
  };
  std::uint32_t place(const std::vector<unsigned char>& labels);

  std::vector<std::pair<std::string, std::int32_t>> keys_;  // until finish()
  std::vector<Unit> units_ = std::vector<Unit>(256);        // blocks of 256
  std::vector<bool> taken_;                                 // offsets, until finish()
  std::size_t first_free_ = 1, nodes_ = 0;
};

/// One step of a normaliser, applied to a text that is not empty.
struct NormalizerStep {
  enum class Kind { nfc, prepend, replace, squeeze, map, strip_left, strip_right };
  Kind kind = Kind::nfc;
  std::string from{}, to{};  // replace: every `from`; squeeze: two or more `from` in a row; prepend: `to`
  std::shared_ptr<const CharsMap> map{};
};

/// The normaliser of the sentencepiece library itself, for tokenizer.model: keys of the map are found longest first,
/// pieces that users have defined stay as they are.
struct SentencePieceRules {
  CharsMap map;
  ByteTrie defined;  // pieces of type user-defined
  bool dummy_prefix = true, remove_extra_spaces = true;
  void append(std::string_view text, std::string& out) const;

 private:
  std::string_view next(std::string_view text, std::size_t& length) const;
};

/// How the text becomes pieces before the model runs.
struct PieceRules {
  enum class Prefix { never, first, always };  // U+2581 in front: of no text, of the input's first text, of all
  std::shared_ptr<const SentencePieceRules> library{};  // set: instead of `steps`
  std::vector<NormalizerStep> steps{};
  bool metaspace = false;         // spaces become U+2581, and `prefix` is obeyed
  Prefix prefix = Prefix::never;  // not where the text begins with U+2581
  bool split = false;             // each U+2581 begins a piece
  bool splits_space = false;      // white space is cut away first: each word is a text for `metaspace`

  /// `text` normalised; `first`: it stands at the beginning of the input. Results live in `work`, or are `text`.
  std::string_view normalize(std::string_view text, std::string& work, std::string& spare) const;
  void add_metaspace(bool first, std::string_view& text, std::string& work) const;
};

/// Calls `word` for what stands between white space.
template <class Word>
void for_words(std::string_view text, Word&& word) {
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t place = at;
    if (unicode_class(next_code_point(text.data(), at)) != UnicodeClass::space) continue;
    if (place > begin) word(text.substr(begin, place - begin));
    begin = at;
  }
  if (begin < text.size()) word(text.substr(begin));
}

/// Bytes of the character that begins at `at`. The text is well-formed UTF-8.
std::size_t character_bytes(std::string_view text, std::size_t at);
/// Appends `text` to `out`, every `from` as `to`.
void append_replaced(std::string_view text, std::string_view from, std::string_view to, std::string& out);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/piece_normalizer_inl.hpp"
#endif

#endif
