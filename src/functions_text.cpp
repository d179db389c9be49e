// SPDX-License-Identifier: Apache-2.0
// kdlib::functions: the functions without template parameters of tokenizers.
// Later files use helpers of earlier ones.
// clang-format off
#include "kdlib/text/unicode_inl.hpp"
#include "kdlib/text/nfc_inl.hpp"
#include "kdlib/text/vocabulary_inl.hpp"
#include "kdlib/text/added_token_matcher_inl.hpp"
#include "kdlib/text/pre_tokenizer_inl.hpp"
#include "kdlib/text/post_processor_inl.hpp"
#include "kdlib/text/tokenizer_data_inl.hpp"
#include "kdlib/text/gguf_end_tokens_inl.hpp"
#include "kdlib/text/bpe_model_inl.hpp"
#include "kdlib/text/chars_map_inl.hpp"
#include "kdlib/text/piece_normalizer_inl.hpp"
#include "kdlib/text/piece_model_inl.hpp"
#include "kdlib/text/byte_level_bpe_inl.hpp"
#include "kdlib/text/tokenizer_writer_inl.hpp"
// clang-format on
