// SPDX-License-Identifier: Apache-2.0
// Tokenizers (byte-level BPE, SentencePiece's BPE and Unigram): text to ids and back, from a Hugging Face
// tokenizer.json, from sentencepiece's tokenizer.model or from GGUF metadata.
#ifndef KDLIB_TEXT_BYTE_LEVEL_BPE_HPP
#define KDLIB_TEXT_BYTE_LEVEL_BPE_HPP

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/text/added_tokens.hpp"
#include "kdlib/text/post_processor.hpp"
#include "kdlib/text/pre_tokenizer.hpp"

KDLIB_NAMESPACE_BEGIN

class GgufFile;
class GgufWriter;

namespace detail {
struct TokenizerData;
}

/// The model that a tokenizer's files describe.
enum class TokenizerModel {
  byte_level_bpe,  // byte pairs within pieces that a pre-tokenizer cuts (GPT-2, Qwen, Llama 3, gpt-oss)
  character_bpe,   // SentencePiece's BPE over characters, mostly with byte fallback (Llama 2, Mistral, Gemma)
  unigram          // SentencePiece's Unigram
};

/// How a text becomes ids.
struct EncodeOptions {
  SpecialTokens special = SpecialTokens::parse;
  bool strict = false;              // a byte without a token throws InputError; otherwise it vanishes and is counted
  bool add_special_tokens = false;  // puts around the text what the files' post-processor says
};

/// A loaded tokenizer. Copies share the tables. All const members may be called from several threads at once.
///
/// encode: added tokens are cut out of the text (leftmost-longest), the gaps are normalised (NFC for Qwen), cut into
/// pieces and merged. Nothing is added in front or behind unless add_special_tokens asks for it. Speed: tens of
/// megabytes a second on one thread for ordinary text; memory and time grow as n log n at worst, also for one long
/// piece.
class Tokenizer {
 public:
  /// A Hugging Face directory (tokenizer.json, else tokenizer.model; tokenizer_config.json, chat_template.jinja,
  /// generation_config.json and config.json are used when they are there), a tokenizer.json, a tokenizer.model or a
  /// GGUF file. IoError, or FormatError naming file and key, or byte.
  static Tokenizer from_pretrained(const std::string& path);
  /// The text of a tokenizer.json; `name` opens the messages.
  static Tokenizer from_json_text(std::string text, std::string name);
  /// The bytes of a tokenizer.model (sentencepiece).
  static Tokenizer from_piece_bytes(std::string_view bytes, std::string name);
  /// `tokenizer.ggml.*` of an open GGUF file.
  static Tokenizer from_gguf(const GgufFile& file);

  /// Ids of a text. InputError when the text is not UTF-8 (replace_invalid_utf8 makes it so).
  std::vector<std::int32_t> encode(std::string_view text, SpecialTokens special = SpecialTokens::parse) const;
  /// Appends the ids of a text; returns the number of bytes that have no token and were left out (SmolLM2 lacks eight
  /// that UTF-8 uses).
  std::uint64_t encode_append(std::string_view text, std::vector<std::int32_t>& ids, EncodeOptions options = {}) const;

  /// Ids whose decode_bytes() are exactly these bytes, whatever they are: added tokens are text, nothing is normalised,
  /// and what is not UTF-8 becomes pieces of its own. InputError naming a byte that has no token (SmolLM2 lacks 21 of
  /// 256).
  std::vector<std::int32_t> encode_bytes(std::string_view bytes) const;

  /// The text of ids; U+FFFD for each maximal part that is not UTF-8. Ids without a token (padding rows) add nothing:
  /// check_ids() refuses them.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special = false) const;
  /// The exact bytes of ids, end to end.
  std::string decode_bytes(std::span<const std::int32_t> ids, bool skip_special = false) const;
  /// InputError naming the first id that has no token.
  void check_ids(std::span<const std::int32_t> ids) const;

  /// Highest id + 1. A model may have more rows (padding).
  std::int32_t vocab_size() const;
  /// The bytes of a token; empty for an id without one.
  std::string_view token_bytes(std::int32_t id) const;
  bool has_token(std::int32_t id) const;
  bool is_special(std::int32_t id) const;
  /// The id of an added token's content, else of the token with exactly these bytes ("Hello", " world").
  std::optional<std::int32_t> token_to_id(std::string_view token) const;
  const std::vector<AddedToken>& added_tokens() const;

  /// From tokenizer_config.json or GGUF; empty where the files name none.
  std::optional<std::int32_t> bos_id() const;
  std::optional<std::int32_t> eos_id() const;
  std::optional<std::int32_t> pad_id() const;
  /// Ids that end an answer: eos and those of generation_config.json, or of GGUF those that the
  /// metadata or the texts of tokens name (gguf_end_tokens.hpp). Sorted.
  const std::vector<std::int32_t>& stop_ids() const;
  /// What the files put around a text. encode() adds it only where it is told to.
  const PostProcessor& post_processor() const;
  /// Ids that the post-processor puts in front of a text: a prompt begins with them. Often bos_id() alone, often none.
  std::vector<std::int32_t> prefix_ids() const;
  /// Ids that the post-processor puts behind a text.
  std::vector<std::int32_t> suffix_ids() const;

  /// The Jinja text of the chat template; empty where the files have none. chat_template.hpp runs it.
  const std::string& chat_template() const;
  /// Further templates of the files with their names ("tool_use", "rag").
  const std::vector<std::pair<std::string, std::string>>& named_chat_templates() const;
  TokenizerModel model() const;
  /// byte_level_bpe alone.
  PreTokenizer pre_tokenizer() const;
  bool normalizes_nfc() const;
  std::size_t merge_count() const;
  /// A piece that is a token as a whole is that token, whatever the merges say (o200k).
  bool ignores_merges() const;
  /// The merges as pairs of ids, in the order in which they are tried.
  std::vector<std::pair<std::int32_t, std::int32_t>> merges() const;
  /// The token that bytes without one of their own become; empty: they vanish.
  std::optional<std::int32_t> unknown_id() const;
  /// File or name it was read from.
  const std::string& source() const;

  /// Equal for two tokenizers when every id means the same bytes and the same ids are special, whichever files they
  /// came from: then row i of two heads is about the same token.
  std::uint64_t content_hash() const;

 private:
  friend class StreamDecoder;
  friend std::string tokenizer_json(const Tokenizer& tokenizer);
  friend bool has_gguf_form(const Tokenizer& tokenizer);
  friend std::vector<std::string> write_gguf_tokenizer(const Tokenizer& tokenizer, std::int64_t rows,
                                                       GgufWriter& writer);
  explicit Tokenizer(std::shared_ptr<const detail::TokenizerData> data);
  std::shared_ptr<const detail::TokenizerData> data_;
};

/// Text of a stream of ids: each push() lets out what is certain, holding back at most three bytes of an unfinished
/// character. All parts together equal decode() of all ids.
class StreamDecoder {
 public:
  explicit StreamDecoder(Tokenizer tokenizer, bool skip_special = false)
      : tokenizer_(std::move(tokenizer)), skip_special_(skip_special) {}
  std::string push(std::int32_t id);
  std::string flush();  // what is still held back, as U+FFFD; the decoder can be used again

 private:
  Tokenizer tokenizer_;
  std::string held_;
  bool skip_special_;
  bool begun_ = false;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/byte_level_bpe_inl.hpp"
#endif

#endif
