// SPDX-License-Identifier: Apache-2.0
// Unicode normalisation form C (Unicode Standard Annex 15), which the Qwen tokenizers apply before they split.
#ifndef KDLIB_TEXT_NFC_HPP
#define KDLIB_TEXT_NFC_HPP

#include <string>
#include <string_view>

#include "kdlib/text/unicode.hpp"

KDLIB_NAMESPACE_BEGIN

/// True when the quick check says that NFC changes nothing. False means "perhaps": nfc() decides.
bool is_surely_nfc(std::string_view text);

/// The text in form C by the tables of Unicode 9, as the Hugging Face library has it, on which the published ids rest.
/// `text` must be well-formed UTF-8. (By Unicode 14 only 98 later combining marks and U+11938 give another result.)
std::string nfc(std::string_view text);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/nfc_inl.hpp"
#endif

#endif
