// SPDX-License-Identifier: Apache-2.0
// The data of a loaded tokenizer, and the steps of building these data that the readers of tokenizer.json and GGUF
// share.
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

/// The work spaces that are not in use. There are as many work spaces as threads have encoded at once.
struct ScratchPool {
  std::mutex mutex;
  std::vector<std::unique_ptr<BpeScratch>> free;
};

struct TokenizerData {
  std::string source;                  // file or name, for messages
  BpeModel model;                      // its vocabulary holds the bytes of all tokens, whichever model finds them
  std::unique_ptr<PieceModel> pieces;  // if set, this model finds the tokens
  std::vector<AddedToken> added;       // sorted by id
  AddedTokenMatcher raw_matcher, normalized_matcher;
  std::vector<bool> special;  // by id
  PreTokenizer pre_tokenizer = PreTokenizer::gpt2;
  bool nfc = false;
  std::optional<std::int32_t> bos, eos, pad;
  std::vector<std::int32_t> stop;
  PostProcessor post_processor;
  bool splits_special = false;  // true: by default special tokens in a text are read as plain text
  std::string chat_template;    // the template with the name "default"
  std::vector<std::pair<std::string, std::string>> named_chat_templates;  // other templates: name and Jinja text
  std::uint64_t content_hash = 0;
  mutable ScratchPool scratch;  // all copies of a tokenizer share it

  TokenizerData() = default;
  TokenizerData(const TokenizerData&) = delete;  // the matchers point into `added`
  TokenizerData& operator=(const TokenizerData&) = delete;

  /// Appends the bytes of a token for decoding. `begun` is false until a token has given bytes; the function sets it.
  void append_decoded(std::int32_t id, bool& begun, std::string& out) const;

  /// Returns the id of a token that is given in the form of vocabulary files (the byte-level alphabet), or
  /// Vocabulary::none.
  std::int32_t find_written(std::string_view token) const;

  /// Adds a merge of two tokens. Returns an empty text if both tokens and the joined token exist, else a text that says
  /// what is wrong.
  std::string add_merge(std::string_view left_bytes, std::string_view right_bytes, std::uint32_t rank);

  /// Removes added tokens `<|reserved_...|>` with ids at or above `rows` (vocab_size of config.json) and refuses any
  /// other token with such an id. `config` names the file for the message.
  void limit_ids(std::int64_t rows, std::string_view config);

  /// Builds the tables with which encode() searches; to be called after all tokens, merges and added tokens are set.
  void finish();
};

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/tokenizer_data_inl.hpp"
#endif

#endif
