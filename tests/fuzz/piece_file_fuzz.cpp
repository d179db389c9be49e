// SPDX-License-Identifier: Apache-2.0
// Arbitrary bytes as a tokenizer.model: refused with a reason, or a tokenizer whose ids have tokens.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "kdlib/core/error.hpp"
#include "kdlib/text/byte_level_bpe.hpp"

using namespace kdlib;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 65536) return 0;
  try {
    const Tokenizer tokenizer =
        Tokenizer::from_piece_bytes(std::string_view(reinterpret_cast<const char*>(data), size), "fuzz");
    for (const std::string_view text : {"", " a  b ", "abc\n\u00e9\ufb01\u2581\u65e5\U0001F600", "<s> <unk>"}) {
      const auto ids = tokenizer.encode(text);
      tokenizer.check_ids(ids);
      static_cast<void>(tokenizer.decode(ids));
    }
  } catch (const FormatError& error) {
    if (std::string_view(error.what()).find("fuzz") == std::string_view::npos) std::abort();
  }
  return 0;
}
