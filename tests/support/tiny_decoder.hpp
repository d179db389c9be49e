// SPDX-License-Identifier: Apache-2.0
// A decoder of two layers that trains in milliseconds.
#ifndef KDLIB_TESTS_SUPPORT_TINY_DECODER_HPP
#define KDLIB_TESTS_SUPPORT_TINY_DECODER_HPP

#include "kdlib/model/decoder_config.hpp"

namespace kdlib_tests {

inline kdlib::DecoderConfig tiny_decoder() {
  kdlib::DecoderConfig config;
  config.vocab_size = 41;
  config.hidden_size = 32;
  config.intermediate_size = 48;
  config.layers = 2;
  config.query_heads = 2;
  config.kv_heads = 1;
  config.head_size = 16;
  config.tied_head = true;
  config.initializer_range = 0.3;
  return config;
}

}  // namespace kdlib_tests

#endif
