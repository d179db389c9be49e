// SPDX-License-Identifier: Apache-2.0
// The cut tokenizers of tests/reference/text, each read once.
#ifndef KDLIB_TESTS_DATA_CUT_TOKENIZERS_HPP
#define KDLIB_TESTS_DATA_CUT_TOKENIZERS_HPP

#include <map>
#include <string>

#include "kdlib/text/byte_level_bpe.hpp"
#include "support/shared.hpp"

namespace kdlib_tests {

inline const kdlib::Tokenizer& cut_tokenizer(const char* name = "gpt-oss") {
  static std::map<std::string, kdlib::Tokenizer> known;
  const auto at = known.find(name);
  if (at != known.end()) return at->second;
  return known
      .emplace(name, kdlib::Tokenizer::from_pretrained(reference_file(std::string("text/") + name + ".tokenizer.json")))
      .first->second;
}

}  // namespace kdlib_tests

#endif
