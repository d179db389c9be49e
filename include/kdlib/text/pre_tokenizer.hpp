// SPDX-License-Identifier: Apache-2.0
// Cuts text into the pieces that byte-level BPE merges within: hand-written scanners that equal the published regexes.
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

/// What a name in GGUF's `tokenizer.ggml.pre` stands for. The file does not say the last three: they belong to the
/// name.
struct GgufPreTokenizer {
  std::string_view name;
  PreTokenizer kind;
  bool nfc;             // texts are normalised to form C
  bool ignores_merges;  // a piece that is a token as a whole is that token
  bool adds_bos;        // where tokenizer.ggml.add_bos_token is not there
};

/// The name of a pre-tokenizer in messages.
std::string_view pre_tokenizer_name(PreTokenizer kind);

/// The published regex as it stands in tokenizer.json; empty for gpt2_digits, which is two steps.
std::string_view pre_tokenizer_regex(PreTokenizer kind);

/// From GGUF's `tokenizer.ggml.pre`. FormatError with the value, `file` and the names that kdlib knows for others.
const GgufPreTokenizer& gguf_pre_tokenizer(std::string_view pre, std::string_view file);

/// The name under which GGUF has these rules; empty where it has none.
std::string_view gguf_pre_tokenizer_name(PreTokenizer kind, bool nfc, bool ignores_merges);

/// End of the piece that begins at `begin`. `text` must be well-formed UTF-8 and begin < text.size().
/// Linear in the text as a whole; gpt2 with `digits` treats numbers as a cut.
std::size_t next_piece(PreTokenizer kind, std::string_view text, std::size_t begin);

/// All pieces of a text; they are views into it and together are the text.
std::vector<std::string_view> split_pieces(PreTokenizer kind, std::string_view text);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/pre_tokenizer_inl.hpp"
#endif

#endif
