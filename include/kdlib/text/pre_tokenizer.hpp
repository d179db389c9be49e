// SPDX-License-Identifier: Apache-2.0
// Cuts a text into the pieces within which byte-level BPE merges. The scanners are written by hand and give the same
// pieces as the published regexes.
#ifndef KDLIB_TEXT_PRE_TOKENIZER_HPP
#define KDLIB_TEXT_PRE_TOKENIZER_HPP

#include <string>
#include <string_view>
#include <vector>

#include "kdlib/text/unicode.hpp"

KDLIB_NAMESPACE_BEGIN

/// The regexes that kdlib knows.
///
///   gpt2:        's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
///   gpt2_digits: every \p{N} alone first, then gpt2 within the gaps (SmolLM2)
///   qwen:        (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|
///                 ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
///   o200k:       two alternatives of capitalised and lower-case words with a contraction behind, \p{N}{1,3},
///                 ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+ (gpt-oss)
///   llama3:      qwen with \p{N}{1,3} in the place of \p{N}
///
enum class PreTokenizer { gpt2, gpt2_digits, qwen, o200k, llama3 };

/// The meaning of a name in GGUF's key `tokenizer.ggml.pre`. The last three members are not in the file; the name
/// implies them.
struct GgufPreTokenizer {
  std::string_view name;
  PreTokenizer kind;
  bool nfc;             // true: texts are normalised to form C
  bool ignores_merges;  // true: a piece that equals a token becomes this token without merging
  bool adds_bos;        // used if the file lacks tokenizer.ggml.add_bos_token
};

/// Returns the name of a pre-tokenizer for messages.
std::string_view pre_tokenizer_name(PreTokenizer kind);

/// Returns the published regex in the form of tokenizer.json; empty for gpt2_digits, which consists of two steps.
std::string_view pre_tokenizer_regex(PreTokenizer kind);

/// Returns the meaning of a name in GGUF's key `tokenizer.ggml.pre`. FormatError, with the value, `file` and the known
/// names: kdlib does not know the name.
const GgufPreTokenizer& gguf_pre_tokenizer(std::string_view pre, std::string_view file);

/// Returns the name that GGUF has for these rules; empty if there is none.
std::string_view gguf_pre_tokenizer_name(PreTokenizer kind, bool nfc, bool ignores_merges);

/// Returns the end of the piece that begins at `begin`. `text` must be well-formed UTF-8, and begin < text.size().
/// Cutting a whole text takes time linear in its size.
std::size_t next_piece(PreTokenizer kind, std::string_view text, std::size_t begin);

/// Returns all pieces of a text. The pieces are views into the text and together make up the text.
std::vector<std::string_view> split_pieces(PreTokenizer kind, std::string_view text);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/pre_tokenizer_inl.hpp"
#endif

#endif
