// SPDX-License-Identifier: Apache-2.0
// Bodies of piece_normalizer.hpp.
#ifndef KDLIB_TEXT_PIECE_NORMALIZER_INL_HPP
#define KDLIB_TEXT_PIECE_NORMALIZER_INL_HPP

#include <algorithm>

#include "kdlib/text/nfc.hpp"
#include "kdlib/text/piece_normalizer.hpp"
#include "kdlib/text/unicode.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// An offset with a free place for each label: the first one near the lowest free place, else that of a new block.
KDLIB_FUNC std::uint32_t ByteTrie::place(const std::vector<unsigned char>& labels) {
  constexpr std::size_t window = 512;
  taken_.resize(units_.size());
  while (first_free_ < units_.size() && units_[first_free_].label >= 0) ++first_free_;
  const std::size_t end = std::min(first_free_ + window, units_.size());
  for (std::size_t at = first_free_; at < end; ++at) {
    const std::size_t offset = at ^ labels[0];
    if (units_[at].label >= 0 || offset == 0 || taken_[offset]) continue;
    const auto is_free = [&](unsigned char label) { return (offset ^ label) != 0 && units_[offset ^ label].label < 0; };
    if (std::all_of(labels.begin(), labels.end(), is_free)) return static_cast<std::uint32_t>(offset);
  }
  if (labels.size() == 1) first_free_ = end;  // what is left there fits nothing
  const std::size_t offset = units_.size();
  units_.resize(offset + 256);
  return static_cast<std::uint32_t>(offset);
}

KDLIB_FUNC void ByteTrie::finish() {
  std::sort(keys_.begin(), keys_.end());
  struct Node {
    std::size_t begin, end, depth;  // keys with the same first `depth` bytes
    std::uint32_t place;
  };
  std::vector<Node> nodes{{0, keys_.size(), 0, root}};
  std::vector<unsigned char> labels;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    auto [begin, end, depth, place_of] = nodes[i];
    if (begin < end && keys_[begin].first.size() == depth) units_[place_of].id = keys_[begin++].second;
    if (begin == end) continue;
    labels.clear();
    const auto byte = [&, at = depth](std::size_t k) { return static_cast<unsigned char>(keys_[k].first[at]); };
    for (std::size_t k = begin; k < end; ++k)
      if (labels.empty() || labels.back() != byte(k)) labels.push_back(byte(k));
    const std::uint32_t offset = place(labels);
    if (taken_.size() < units_.size()) taken_.resize(units_.size());
    taken_[offset] = true;
    units_[place_of].offset = offset;
    for (const unsigned char label : labels) {
      std::size_t behind = begin;
      while (behind < end && byte(behind) == label) ++behind;
      units_[offset ^ label].label = label;
      nodes.push_back({begin, behind, depth + 1, offset ^ label});
      begin = behind;
    }
  }
  nodes_ = nodes.size();
  keys_ = {};
  taken_ = {};
}

KDLIB_FUNC std::size_t ByteTrie::longest(std::string_view text, std::int32_t& id) const {
  std::size_t length = 0;
  std::uint32_t node = root;
  for (std::size_t at = 0; at < text.size();) {
    node = step(node, text[at++]);
    if (node == no_node) break;
    if (units_[node].id == Vocabulary::none) continue;
    length = at;
    id = units_[node].id;
  }
  return length;
}

/// What stands at the beginning of the text after the map; `length`: the bytes that it was.
KDLIB_FUNC std::string_view SentencePieceRules::next(std::string_view text, std::size_t& length) const {
  std::int32_t id = 0;
  length = defined.longest(text, id);
  if (length > 0) return text.substr(0, length);
  const CharsMap::Match match = map.longest(text);
  if (match.length > 0) {
    length = match.length;
    return match.text;
  }
  length = character_bytes(text, 0);
  return text.substr(0, length);
}

KDLIB_FUNC void SentencePieceRules::append(std::string_view text, std::string& out) const {
  const std::size_t start = out.size();
  std::size_t length = 0;
  while (remove_extra_spaces && !text.empty() && next(text, length) == " ") text.remove_prefix(length);
  if (text.empty()) return;
  if (dummy_prefix) out.append(metaspace);
  for (bool behind_space = remove_extra_spaces; !text.empty(); text.remove_prefix(length)) {
    std::string_view part = next(text, length);
    while (behind_space && !part.empty() && part[0] == ' ') part.remove_prefix(1);
    if (part.empty()) continue;
    append_replaced(part, " ", metaspace, out);
    behind_space = remove_extra_spaces && part.back() == ' ';
  }
  while (remove_extra_spaces && out.size() - start >= metaspace.size() &&
         std::string_view(out).substr(out.size() - metaspace.size()) == metaspace)
    out.resize(out.size() - metaspace.size());
}

/// The text without white space (Unicode) at one end.
KDLIB_FUNC std::string_view without_space(std::string_view text, bool left) {
  while (!text.empty()) {
    std::size_t at = 0, behind = 0;
    if (!left) {
      at = text.size() - 1;
      while ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
    }
    behind = at;
    if (unicode_class(next_code_point(text.data(), behind)) != UnicodeClass::space) break;
    text = left ? text.substr(behind) : text.substr(0, at);
  }
  return text;
}

KDLIB_FUNC std::size_t character_bytes(std::string_view text, std::size_t at) {
  const auto first = static_cast<unsigned char>(text[at]);
  return first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

KDLIB_FUNC void append_replaced(std::string_view text, std::string_view from, std::string_view to, std::string& out) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t next = from.size() == 1 ? text.find(from[0], at) : text.find(from, at);
    const std::size_t found = std::min(next, text.size());
    out.append(text.substr(at, found - at));
    if (found == text.size()) break;
    out.append(to);
    at = found + from.size();
  }
}

/// Appends `text` to `out`, two or more `from` in a row as one `to`.
KDLIB_FUNC void append_squeezed(std::string_view text, std::string_view from, std::string_view to, std::string& out) {
  const auto find = [&](std::size_t at) {
    return std::min(from.size() == 1 ? text.find(from[0], at) : text.find(from, at), text.size());
  };
  std::size_t copied = 0;  // one alone stays, so that long stretches are appended at once
  for (std::size_t at = find(0); at < text.size();) {
    std::size_t end = at + from.size();
    while (end < text.size() && text[end] == from[0] && text.compare(end, from.size(), from) == 0) end += from.size();
    if (end - at > from.size()) {
      out.append(text.substr(copied, at - copied)).append(to);
      copied = end;
    }
    at = find(end);
  }
  out.append(text.substr(copied));
}

KDLIB_FUNC std::string_view PieceRules::normalize(std::string_view text, std::string& work, std::string& spare) const {
  if (library != nullptr) {
    work.clear();
    library->append(text, work);
    return work;
  }
  for (const NormalizerStep& step : steps) {
    if (text.empty()) break;
    spare.clear();
    switch (step.kind) {
      case NormalizerStep::Kind::nfc:
        if (is_surely_nfc(text)) continue;
        spare = nfc(text);
        break;
      case NormalizerStep::Kind::prepend:
        spare.append(step.to).append(text);
        break;
      case NormalizerStep::Kind::map:
        step.map->append_mapped(text, spare);
        break;
      case NormalizerStep::Kind::strip_left:
      case NormalizerStep::Kind::strip_right:
        text = without_space(text, step.kind == NormalizerStep::Kind::strip_left);
        continue;
      case NormalizerStep::Kind::replace:
        append_replaced(text, step.from, step.to, spare);
        break;
      case NormalizerStep::Kind::squeeze:
        append_squeezed(text, step.from, step.to, spare);
    }
    work.swap(spare);
    text = work;
  }
  return text;
}

KDLIB_FUNC void PieceRules::add_metaspace(bool first, std::string_view& text, std::string& work) const {
  if (!metaspace || text.empty()) return;
  const bool wanted = prefix == Prefix::always || (prefix == Prefix::first && first);
  work.clear();
  if (wanted && text[0] != ' ' && text.substr(0, detail::metaspace.size()) != detail::metaspace)
    work.append(detail::metaspace);
  append_replaced(text, " ", detail::metaspace, work);
  text = work;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
