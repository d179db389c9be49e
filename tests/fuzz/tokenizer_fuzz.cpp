// SPDX-License-Identifier: Apache-2.0
// Arbitrary bytes as a tokenizer.json: it loads or is refused, and what loads encodes and decodes. The same bytes as
// text.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "kdlib/text/byte_level_bpe.hpp"
#include "kdlib/text/jinja.hpp"
#include "kdlib/text/nfc.hpp"

using namespace kdlib;

namespace {

void must(bool holds) {
  if (!holds) std::abort();
}

void as_text(const std::string& text) {
  must(find_invalid_utf8(text) == std::string::npos);
  const std::string composed = nfc(text);
  must(nfc(composed) == composed);
  if (is_surely_nfc(text)) must(composed == text);
  for (const PreTokenizer kind :
       {PreTokenizer::gpt2, PreTokenizer::gpt2_digits, PreTokenizer::qwen, PreTokenizer::o200k, PreTokenizer::llama3}) {
    std::size_t bytes = 0;
    for (const std::string_view piece : split_pieces(kind, text)) {
      must(!piece.empty());
      bytes += piece.size();
    }
    must(bytes == text.size());
  }
}

void as_tokenizer(const std::string& file, const std::string& text) {
  const Tokenizer tokenizer = Tokenizer::from_json_text(file, "fuzz");
  for (const SpecialTokens special : {SpecialTokens::parse, SpecialTokens::special_text, SpecialTokens::plain}) {
    std::vector<std::int32_t> ids;
    tokenizer.encode_append(text, ids, {special, false});
    tokenizer.encode_append("ab <e> aabb  \n12 caf\xC3\xA9 e\xCC\x81 <|im_end|>", ids, {special, false});
    tokenizer.check_ids(ids);
    StreamDecoder stream(tokenizer);
    std::string parts;
    for (const std::int32_t id : ids) parts += stream.push(id);
    parts += stream.flush();
    must(parts == tokenizer.decode(ids));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size), text = replace_invalid_utf8(bytes);
  as_text(text);
  try {
    as_tokenizer(bytes, text.substr(0, text.find('"')) + text);
  } catch (const Error&) {
  }
  try {
    JinjaTemplate(text, "fuzz");
  } catch (const Error&) {
  }
  return 0;
}
