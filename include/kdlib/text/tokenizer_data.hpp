// SPDX-License-Identifier: Apache-2.0
// What a loaded tokenizer consists of, and the steps from a file's entries to it that tokenizer.json and GGUF share.
#ifndef KDLIB_TEXT_TOKENIZER_DATA_HPP
#define KDLIB_TEXT_TOKENIZER_DATA_HPP

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/text/added_token_matcher.hpp"
#include "kdlib/text/added_tokens.hpp"
#include "kdlib/text/bpe_model.hpp"
#include "kdlib/text/piece_model.hpp"
#include "kdlib/text/post_processor.hpp"
#include "kdlib/text/pre_tokenizer.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Work spaces that are not in use; as many exist as threads encode at once.
struct ScratchPool {
  std::mutex mutex;
  std::vector<std::unique_ptr<BpeScratch>> free;
};

struct TokenizerData {
  std::string source;                  // file or name, opens messages
  BpeModel model;                      // its vocabulary has the bytes of all tokens, whichever model finds them
  std::unique_ptr<PieceModel> pieces;  // set: this model finds the tokens
  std::vector<AddedToken> added;       // sorted by id
  AddedTokenMatcher raw_matcher, normalized_matcher;
  std::vector<bool> special;  // by id
  PreTokenizer pre_tokenizer = PreTokenizer::gpt2;
  bool nfc = false;
  std::optional<std::int32_t> bos, eos, pad;
  std::vector<std::int32_t> stop;
  PostProcessor post_processor;
  bool splits_special = false;  // special tokens in a text are text, unless asked for otherwise
  std::string chat_template;    // of name "default"
  std::vector<std::pair<std::string, std::string>> named_chat_templates;  // others: name, Jinja text
  std::uint64_t content_hash = 0;
  mutable ScratchPool scratch;  // all copies of a tokenizer share it

  TokenizerData() = default;
  TokenizerData(const TokenizerData&) = delete;  // the matchers point into `added`
  TokenizerData& operator=(const TokenizerData&) = delete;

  /// Appends the bytes of a token as decoding has them; `begun`: it is not the first one that is decoded.
  void append_decoded(std::int32_t id, bool& begun, std::string& out) const;

  /// The id of a token as vocabulary files write it (in the byte-level alphabet), or Vocabulary::none.
  std::int32_t find_written(std::string_view token) const;

  /// Joins left and right in the order of the calls. Empty when all three tokens exist, else what is wrong.
  std::string add_merge(std::string_view left_bytes, std::string_view right_bytes, std::uint32_t rank);

  /// Drops added tokens `<|reserved_...|>` with ids from `rows` on and refuses any other token there (config.json's
  /// vocab_size).
  void limit_ids(std::int64_t rows, std::string_view config);

  /// After all tokens, merges and added tokens: builds what encode() searches with.
  void finish();
};

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/tokenizer_data_inl.hpp"
#endif

#endif
