// SPDX-License-Identifier: Apache-2.0
// Tokenizers: text to ids and back. The models are byte-level BPE (byte-pair encoding) and SentencePiece's BPE and
// Unigram. A tokenizer is read from a Hugging Face tokenizer.json, from sentencepiece's tokenizer.model or from GGUF
// metadata.
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

/// The kind of model that the files of a tokenizer describe.
enum class TokenizerModel {
  byte_level_bpe,  // joins pairs of bytes within the pieces into which a pre-tokenizer cuts the text (GPT-2, Qwen,
                   // Llama 3, gpt-oss)
  character_bpe,   // SentencePiece's BPE over characters, mostly with byte tokens for unknown characters (Llama 2,
                   // Mistral, Gemma)
  unigram          // SentencePiece's Unigram
};

/// How a text becomes ids.
struct EncodeOptions {
  SpecialTokens special = SpecialTokens::parse;
  bool strict = false;  // true: a byte without a token throws InputError; false: such a byte is left out and counted
  bool add_special_tokens = false;  // true: adds the tokens that the post-processor of the files puts around a text
};

/// A loaded tokenizer. Copies share the tables. Several threads may call const members at once.
///
/// encode() first finds added tokens in the text (the leftmost, and of several the longest). The gaps between them are
/// normalised (to NFC for Qwen), cut into pieces and merged. Nothing is added before or behind the text unless
/// add_special_tokens is set. One thread encodes tens of megabytes of ordinary text in a second; memory and time grow
/// at worst as n log n, also for one long piece.
class Tokenizer {
 public:
  /// Reads a Hugging Face directory, a tokenizer.json, a tokenizer.model or a GGUF file. In a directory tokenizer.json
  /// is read, or tokenizer.model if there is no tokenizer.json; tokenizer_config.json, chat_template.jinja,
  /// generation_config.json and config.json are used if they exist. IoError: a file cannot be read. FormatError names
  /// the file and the key or byte.
  static Tokenizer from_pretrained(const std::string& path);
  /// Reads the text of a tokenizer.json. `name` stands at the beginning of error messages.
  static Tokenizer from_json_text(std::string text, std::string name);
  /// Reads the bytes of a tokenizer.model (sentencepiece).
  static Tokenizer from_piece_bytes(std::string_view bytes, std::string name);
  /// Reads the keys `tokenizer.ggml.*` of an open GGUF file.
  static Tokenizer from_gguf(const GgufFile& file);

  /// Returns the ids of a text. InputError: the text is not UTF-8 (replace_invalid_utf8() repairs it).
  std::vector<std::int32_t> encode(std::string_view text, SpecialTokens special = SpecialTokens::parse) const;
  /// Appends the ids of a text and returns the number of bytes that were left out because they have no token. (SmolLM2
  /// lacks eight of the bytes that UTF-8 uses.)
  std::uint64_t encode_append(std::string_view text, std::vector<std::int32_t>& ids, EncodeOptions options = {}) const;

  /// Returns ids whose decode_bytes() is exactly `bytes`, for any bytes. Added tokens are read as plain text, nothing
  /// is normalised, and parts that are not UTF-8 become separate pieces. InputError: a byte has no token (SmolLM2 lacks
  /// 21 of 256).
  std::vector<std::int32_t> encode_bytes(std::string_view bytes) const;

  /// Returns the text of ids. Each maximal part that is not UTF-8 becomes U+FFFD. Ids without a token (padding rows of
  /// a model) add nothing; check_ids() refuses such ids. `skip_special` leaves special tokens out.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special = false) const;
  /// Returns the exact bytes of all ids, one after the other.
  std::string decode_bytes(std::span<const std::int32_t> ids, bool skip_special = false) const;
  /// Throws InputError, naming the first id that has no token.
  void check_ids(std::span<const std::int32_t> ids) const;

  /// Returns the highest id + 1. A model may have more rows (padding).
  std::int32_t vocab_size() const;
  /// Returns the bytes of a token; empty for an id without a token.
  std::string_view token_bytes(std::int32_t id) const;
  bool has_token(std::int32_t id) const;
  bool is_special(std::int32_t id) const;
  /// Returns the id of the added token with this content, or else of the token with exactly these bytes (" world",
  /// "Hello").
  std::optional<std::int32_t> token_to_id(std::string_view token) const;
  const std::vector<AddedToken>& added_tokens() const;

  /// The ids of the tokens for beginning, end and padding, from tokenizer_config.json or GGUF; empty if the files name
  /// none.
  std::optional<std::int32_t> bos_id() const;
  std::optional<std::int32_t> eos_id() const;
  std::optional<std::int32_t> pad_id() const;
  /// Returns the ids that end an answer, sorted: eos and the ids of generation_config.json. From GGUF these are the ids
  /// that the metadata name or that the texts of tokens reveal (gguf_end_tokens.hpp).
  const std::vector<std::int32_t>& stop_ids() const;
  /// Returns what the files put around a text. Only EncodeOptions::add_special_tokens adds these tokens.
  const PostProcessor& post_processor() const;
  /// Returns the ids that the post-processor puts in front of a text, so that a prompt begins with them. Often this is
  /// only bos_id(), or nothing.
  std::vector<std::int32_t> prefix_ids() const;
  /// Returns the ids that the post-processor puts behind a text.
  std::vector<std::int32_t> suffix_ids() const;

  /// Returns the Jinja text of the chat template; empty if the files have none. chat_template.hpp runs this template.
  const std::string& chat_template() const;
  /// Returns further templates of the files with their names ("tool_use", "rag").
  const std::vector<std::pair<std::string, std::string>>& named_chat_templates() const;
  TokenizerModel model() const;
  /// Returns the pre-tokenizer; for TokenizerModel::byte_level_bpe only.
  PreTokenizer pre_tokenizer() const;
  bool normalizes_nfc() const;
  std::size_t merge_count() const;
  /// True if a piece that equals a token becomes this token, whatever the merges say (o200k).
  bool ignores_merges() const;
  /// Returns the merges as pairs of ids, in the order in which they are tried.
  std::vector<std::pair<std::int32_t, std::int32_t>> merges() const;
  /// Returns the token that stands for text without a token; empty if such text is left out.
  std::optional<std::int32_t> unknown_id() const;
  /// Returns the file or name from which the tokenizer was read.
  const std::string& source() const;

  /// Returns a hash that is equal for two tokenizers if every id means the same bytes and the same ids are special,
  /// whatever files they came from. Row i of two heads is then about the same token.
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

/// Decodes a stream of ids. Each push() returns the text that is certain and holds back at most three bytes of an
/// unfinished character. All parts together equal decode() of all ids.
class StreamDecoder {
 public:
  explicit StreamDecoder(Tokenizer tokenizer, bool skip_special = false)
      : tokenizer_(std::move(tokenizer)), skip_special_(skip_special) {}
  std::string push(std::int32_t id);
  std::string flush();  // returns U+FFFD if bytes are still held back; afterwards the decoder can be used again

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
