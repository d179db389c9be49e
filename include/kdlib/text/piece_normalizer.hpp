// SPDX-License-Identifier: Apache-2.0
// Normalises a text into the form that the models of piece_model.hpp read.
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

/// A trie (a tree of strings by their bytes) in the form of a double array: the child of a node for a byte is stored at
/// the place (offset of the node) ^ byte. Source: Aoe, "An efficient digital search algorithm by using a double-array
/// structure" (1989).
class ByteTrie {
 public:
  static constexpr std::uint32_t root = 0, no_node = 0;  // no_node can equal root, because no step leads to the root
  /// Adds a key, which must not be empty and must not be added twice. To be called before finish().
  void add(std::string_view key, std::int32_t id) { keys_.emplace_back(key, id); }
  void finish();
  bool empty() const { return nodes_ <= 1; }

  /// Returns the child of `node` for `byte`, or no_node if no key continues like this.
  std::uint32_t step(std::uint32_t node, char byte) const {
    const auto label = static_cast<unsigned char>(byte);
    const std::uint32_t next = units_[node].offset ^ label;
    return units_[next].label == label ? next : no_node;
  }
  std::int32_t id(std::uint32_t node) const { return units_[node].id; }
  /// Returns the size in bytes of the longest key with which a text begins and sets `id` to the key's id. Returns 0 if
  /// there is no such key.
  std::size_t longest(std::string_view text, std::int32_t& id) const;

 private:
  struct Unit {
    std::uint32_t offset = 0;  // offset of the children, different for each node that has children; 0: no children
    std::int32_t id = Vocabulary::none;
    std::int16_t label = -1;  // the byte that leads to this node; -1: the unit is free
  };
  std::uint32_t place(const std::vector<unsigned char>& labels);

  std::vector<std::pair<std::string, std::int32_t>> keys_;  // empty after finish()
  std::vector<Unit> units_ = std::vector<Unit>(256);        // blocks of 256
  std::vector<bool> taken_;                                 // offsets in use; empty after finish()
  std::size_t first_free_ = 1, nodes_ = 0;
};

/// One step of a normaliser. Steps are applied only to texts that are not empty.
struct NormalizerStep {
  enum class Kind { nfc, prepend, replace, squeeze, map, strip_left, strip_right };
  Kind kind = Kind::nfc;
  std::string from{}, to{};  // replace: every `from` becomes `to`; squeeze: two or more `from` in a row become one
                             // `to`; prepend: adds `to` in front
  std::shared_ptr<const CharsMap> map{};
};

/// The normaliser of the sentencepiece library, for tokenizer.model. The longest key of the map is taken first; pieces
/// that users have defined are not changed.
struct SentencePieceRules {
  CharsMap map;
  ByteTrie defined;  // pieces that users have defined
  bool dummy_prefix = true, remove_extra_spaces = true;
  void append(std::string_view text, std::string& out) const;

 private:
  std::string_view next(std::string_view text, std::size_t& length) const;
};

/// How a text is normalised and cut before the model runs.
struct PieceRules {
  enum class Prefix { never, first, always };  // U+2581 is added to: no text, the input's first text, each text
  std::shared_ptr<const SentencePieceRules> library{};  // if set, it replaces `steps`
  std::vector<NormalizerStep> steps{};
  bool metaspace = false;         // true: spaces become U+2581, and `prefix` is applied
  Prefix prefix = Prefix::never;  // not applied to a text that begins with a space or U+2581
  bool split = false;             // true: each U+2581 begins a new piece
  bool splits_space = false;      // true: the text is first cut at white space, and each word is a text for `metaspace`

  /// normalize() returns the normalised text, which is stored in `work` or is `text` itself. add_metaspace() replaces
  /// the spaces of `text`; `first` says that the text stands at the beginning of the input.
  std::string_view normalize(std::string_view text, std::string& work, std::string& spare) const;
  void add_metaspace(bool first, std::string_view& text, std::string& work) const;
};

/// Calls `word` for each run of characters between white space.
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

/// Returns the size in bytes of the character that begins at `at`. The text must be well-formed UTF-8.
std::size_t character_bytes(std::string_view text, std::size_t at);
/// Appends `text` to `out` and replaces every `from` by `to`.
void append_replaced(std::string_view text, std::string_view from, std::string_view to, std::string& out);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/piece_normalizer_inl.hpp"
#endif

#endif
