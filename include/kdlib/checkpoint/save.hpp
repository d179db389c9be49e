// SPDX-License-Identifier: Apache-2.0
// The body of Decoder::save_pretrained() (model/decoder.hpp), which writes config.json and safetensors as transformers
// reads them.
#ifndef KDLIB_CHECKPOINT_SAVE_HPP
#define KDLIB_CHECKPOINT_SAVE_HPP

#include "kdlib/checkpoint/hf_config.hpp"
#include "kdlib/model/decoder.hpp"

#include "kdlib/checkpoint/save_inl.hpp"

#endif
