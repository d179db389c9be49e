// SPDX-License-Identifier: Apache-2.0
// Bodies of pre_tokenizer.hpp. Each scanner tries the regex's alternatives in their order, with the backtracking that
// can matter.
#ifndef KDLIB_TEXT_PRE_TOKENIZER_INL_HPP
#define KDLIB_TEXT_PRE_TOKENIZER_INL_HPP

#include <array>

#include "kdlib/core/error.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/text/pre_tokenizer.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A set of character classes, one bit each.
using ClassSet = unsigned;
constexpr ClassSet class_bit(UnicodeClass c) { return 1u << static_cast<unsigned>(c); }
inline constexpr ClassSet in_upper = class_bit(UnicodeClass::upper), in_lower = class_bit(UnicodeClass::lower),
                          in_letter = class_bit(UnicodeClass::letter), in_mark = class_bit(UnicodeClass::mark),
                          in_number = class_bit(UnicodeClass::number), in_space = class_bit(UnicodeClass::space),
                          in_other = class_bit(UnicodeClass::other);
inline constexpr ClassSet any_letter = in_upper | in_lower | in_letter;  // \p{L}
inline constexpr ClassSet any_symbol = in_other | in_mark;               // [^\s\p{L}\p{N}]

/// Classes of the first 128 characters.
inline const std::array<ClassSet, 128>& ascii_classes() {
  static const auto classes = [] {
    std::array<ClassSet, 128> out{};
    for (char32_t c = 0; c < 128; ++c) out[c] = 1u << (UnicodeTables::get().value(c) & 7);
    return out;
  }();
  return classes;
}

class Scanner {
 public:
  explicit Scanner(std::string_view text)
      : text_(text), tables_(UnicodeTables::get()), ascii_(ascii_classes().data()) {}

  std::size_t gpt2(std::size_t begin, bool digits) const {
    std::size_t at = begin;
    ClassSet first = take(at);
    if (text_[begin] == '\'') {
      const std::size_t end = contraction(begin, false);
      if (end != begin) return end;
    }
    const ClassSet cut = digits ? in_number : 0;
    if ((first & cut) != 0) return at;
    if (text_[begin] == ' ' && at < text_.size()) {  // the optional leading space
      std::size_t behind = at;
      const ClassSet next = take(behind);
      if ((next & (in_space | cut)) == 0) {
        at = behind;
        first = next;
      }
    }
    if ((first & any_letter) != 0) return run(at, any_letter);
    if ((first & in_number) != 0) return run(at, in_number);
    if ((first & any_symbol) != 0) return run(at, any_symbol);
    return white_space(begin, false, cut);
  }

  /// `digits`: the longest piece of numbers, 1 (qwen) or 3 (llama3).
  std::size_t qwen(std::size_t begin, int digits) const {
    if (text_[begin] == '\'') {
      const std::size_t end = contraction(begin, true);
      if (end != begin) return end;
    }
    std::size_t at = begin;
    const ClassSet first = take(at);
    if ((first & any_letter) != 0) return run(at, any_letter);
    if ((first & in_number) != 0) return numbers(at, digits - 1);
    if (!is_newline(begin) && at < text_.size()) {
      std::size_t behind = at;
      if ((take(behind) & any_letter) != 0) return run(behind, any_letter);
    }
    const std::size_t end = symbols(begin, at, first);
    if (end == begin) return white_space(begin, true, 0);
    return newlines(end, false);
  }

  std::size_t o200k(std::size_t begin) const {
    std::size_t at = begin;
    const ClassSet first = take(at);
    const bool prefix = (first & (any_letter | in_number)) == 0 && !is_newline(begin) && at < text_.size();
    const bool word = (first & (any_letter | in_mark)) != 0;
    for (const bool lower : {true, false}) {
      for (const bool with_prefix : {true, false}) {  // the optional prefix is greedy: tried with it first
        if (!(with_prefix ? prefix : word)) continue;
        const std::size_t start = with_prefix ? at : begin;
        const std::size_t end = lower ? word_with_lower(start) : run(start, upper_set);
        if (end != start) return lower ? contraction(end, true) : contraction(run(end, lower_set), true);
      }
    }
    if ((first & in_number) != 0) return numbers(at, 2);
    const std::size_t end = symbols(begin, at, first);
    if (end == begin) return white_space(begin, true, 0);
    return newlines(end, true);
  }

 private:
  static constexpr ClassSet upper_set = in_upper | in_letter | in_mark;  // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]
  static constexpr ClassSet lower_set = in_lower | in_letter | in_mark;  // [\p{Ll}\p{Lm}\p{Lo}\p{M}]

  /// The class of the character at `at`, which moves behind it.
  ClassSet take(std::size_t& at) const {
    const auto byte = static_cast<unsigned char>(text_[at]);
    if (byte < 0x80) return ++at, ascii_[byte];
    return 1u << (tables_.value(next_code_point(text_.data(), at)) & 7);
  }

  bool is_newline(std::size_t at) const { return text_[at] == '\r' || text_[at] == '\n'; }

  std::size_t run(std::size_t at, ClassSet set) const {
    while (at < text_.size()) {
      std::size_t behind = at;
      if ((take(behind) & set) == 0) break;
      at = behind;
    }
    return at;
  }

  /// Behind at most `most` characters of \p{N}.
  std::size_t numbers(std::size_t at, int most) const {
    for (; most > 0 && at < text_.size(); --most) {
      std::size_t behind = at;
      if ((take(behind) & in_number) == 0) break;
      at = behind;
    }
    return at;
  }

  /// [upper_set]*[lower_set]+ with backtracking: `begin` when it does not match.
  std::size_t word_with_lower(std::size_t begin) const {
    std::size_t at = begin, behind_last_both = begin;  // a character of both sets can be given back to the second part
    while (at < text_.size()) {
      std::size_t behind = at;
      const ClassSet c = take(behind);
      if ((c & lower_set & ~upper_set) != 0) return run(behind, lower_set);
      if ((c & upper_set) == 0) break;
      at = behind;
      if ((c & lower_set) != 0) behind_last_both = at;
    }
    return behind_last_both;
  }

  /// ` ?[^\s\p{L}\p{N}]+` where the first character, of class `first`, ends at `at`: `begin` when it does not match.
  std::size_t symbols(std::size_t begin, std::size_t at, ClassSet first) const {
    if ((first & any_symbol) != 0) return run(at, any_symbol);
    if (text_[begin] != ' ') return begin;
    const std::size_t end = run(at, any_symbol);
    return end != at ? end : begin;
  }

  std::size_t newlines(std::size_t at, bool slash) const {
    while (at < text_.size() && (is_newline(at) || (slash && text_[at] == '/'))) ++at;
    return at;
  }

  /// `\s*[\r\n]+` (with_newlines) `|\s+(?!\S)|\s+`, where a character of `cut` ends the text.
  std::size_t white_space(std::size_t begin, bool with_newlines, ClassSet cut) const {
    std::size_t at = begin, last = begin, behind_newline = begin;
    while (at < text_.size()) {
      std::size_t behind = at;
      const ClassSet c = take(behind);
      if ((c & in_space) == 0) {
        if ((c & cut) != 0) return at;
        break;
      }
      if (is_newline(at)) behind_newline = behind;
      last = at;
      at = behind;
    }
    if (with_newlines && behind_newline != begin) return behind_newline;
    if (at == text_.size() || last == begin) return at;
    return last;  // the last one is left for the next piece
  }

  /// 's 't 're 've 'm 'll 'd at `at`, or `at`. Case-insensitive in Unicode's sense, where U+017F is an s.
  std::size_t contraction(std::size_t at, bool any_case) const {
    const std::string_view rest = text_.substr(at, 3);
    if (rest.size() < 2 || rest[0] != '\'') return at;
    const auto fold = [&](char c) { return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    const char a = fold(rest[1]), b = rest.size() > 2 ? fold(rest[2]) : '\0';
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return at + 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return at + 3;
    if (any_case && rest.substr(1) == "\xC5\xBF") return at + 3;
    return at;
  }

  std::string_view text_;
  const UnicodeTables& tables_;
  const ClassSet* ascii_;
};

KDLIB_FUNC std::size_t scan_piece(PreTokenizer kind, const Scanner& scanner, std::size_t begin) {
  switch (kind) {
    case PreTokenizer::qwen:
      return scanner.qwen(begin, 1);
    case PreTokenizer::llama3:
      return scanner.qwen(begin, 3);
    case PreTokenizer::o200k:
      return scanner.o200k(begin);
    default:
      return scanner.gpt2(begin, kind == PreTokenizer::gpt2_digits);
  }
}

}  // namespace detail

KDLIB_FUNC std::string_view pre_tokenizer_name(PreTokenizer kind) {
  switch (kind) {
    case PreTokenizer::gpt2:
      return "gpt2";
    case PreTokenizer::gpt2_digits:
      return "gpt2_digits";
    case PreTokenizer::qwen:
      return "qwen";
    case PreTokenizer::llama3:
      return "llama3";
    default:
      return "o200k";
  }
}

KDLIB_FUNC std::string_view pre_tokenizer_regex(PreTokenizer kind) {
  switch (kind) {
    case PreTokenizer::gpt2:
      return R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
    case PreTokenizer::qwen:
      return R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|)"
             R"(\s+(?!\S)|\s+)";
    case PreTokenizer::llama3:
      return R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
             R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
    case PreTokenizer::o200k:
      return R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|)"
             R"('ll|'d)?)"
             R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|)"
             R"('ll|'d)?)"
             R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
    default:
      return {};
  }
}

namespace detail {

/// Names that llama.cpp reads with the same regexes. The first name of a set of rules is the one that is written.
inline constexpr GgufPreTokenizer gguf_pre_tokenizers[] = {
    {"gpt-2", PreTokenizer::gpt2, false, false, false},
    {"phi-2", PreTokenizer::gpt2, false, false, false},
    {"olmo", PreTokenizer::gpt2, true, false, false},
    {"mpt", PreTokenizer::gpt2, true, false, false},
    {"smollm", PreTokenizer::gpt2_digits, false, false, false},
    {"starcoder", PreTokenizer::gpt2_digits, false, false, false},
    {"refact", PreTokenizer::gpt2_digits, false, false, false},
    {"command-r", PreTokenizer::gpt2_digits, true, false, false},
    {"qwen2", PreTokenizer::qwen, true, false, false},
    {"gpt-4o", PreTokenizer::o200k, false, true, false},
    {"llama4", PreTokenizer::o200k, false, true, false},
    {"llama-bpe", PreTokenizer::llama3, false, true, true},
    {"llama3", PreTokenizer::llama3, false, true, true},
    {"llama-v3", PreTokenizer::llama3, false, true, true},
    {"falcon3", PreTokenizer::llama3, false, true, true},
    {"falcon-h1", PreTokenizer::llama3, false, true, true},
    {"pixtral", PreTokenizer::llama3, false, true, true},
    {"midm-2.0", PreTokenizer::llama3, false, true, true},
    {"lfm2", PreTokenizer::llama3, false, true, true},
};

}  // namespace detail

KDLIB_FUNC const GgufPreTokenizer& gguf_pre_tokenizer(std::string_view pre, std::string_view file) {
  std::string names;
  for (const GgufPreTokenizer& known : detail::gguf_pre_tokenizers) {
    if (known.name == pre) return known;
    names += concat(names.empty() ? "" : ", ", known.name);
  }
  fail<FormatError>("[tokenizer] ", file, ": tokenizer.ggml.pre is \"", printable(pre), "\"; kdlib knows ", names);
}

KDLIB_FUNC std::string_view gguf_pre_tokenizer_name(PreTokenizer kind, bool nfc, bool ignores_merges) {
  for (const GgufPreTokenizer& known : detail::gguf_pre_tokenizers)
    if (known.kind == kind && known.nfc == nfc && known.ignores_merges == ignores_merges) return known.name;
  return {};
}

KDLIB_FUNC std::size_t next_piece(PreTokenizer kind, std::string_view text, std::size_t begin) {
  return detail::scan_piece(kind, detail::Scanner(text), begin);
}

KDLIB_FUNC std::vector<std::string_view> split_pieces(PreTokenizer kind, std::string_view text) {
  std::vector<std::string_view> pieces;
  const detail::Scanner scanner(text);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = detail::scan_piece(kind, scanner, at);
    pieces.push_back(text.substr(at, end - at));
    at = end;
  }
  return pieces;
}

KDLIB_NAMESPACE_END

#endif
