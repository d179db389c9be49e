// SPDX-License-Identifier: Apache-2.0
// Unicode normalisation form C (NFC, Unicode Standard Annex 15), which the tokenizers of Qwen apply before they split a
// text.
#ifndef KDLIB_TEXT_NFC_HPP
#define KDLIB_TEXT_NFC_HPP

#include <string>
#include <string_view>

#include "kdlib/text/unicode.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns true if a quick check shows that NFC does not change the text. False means "perhaps"; then nfc() decides.
bool is_surely_nfc(std::string_view text);

/// Returns the text in form C by the tables of Unicode 9. The Hugging Face library uses these tables, so that published
/// ids depend on them. `text` must be well-formed UTF-8. (By the tables of Unicode 14 only 98 later combining marks and
/// U+11938 would give another result.)
std::string nfc(std::string_view text);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/nfc_inl.hpp"
#endif

#endif
