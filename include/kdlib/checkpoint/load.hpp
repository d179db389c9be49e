// SPDX-License-Identifier: Apache-2.0
// The body of Decoder::from_pretrained() (model/decoder.hpp), which loads Hugging Face directories, dense or packed,
// and GGUF files.
#ifndef KDLIB_CHECKPOINT_LOAD_HPP
#define KDLIB_CHECKPOINT_LOAD_HPP

#include "kdlib/checkpoint/load_plan.hpp"
#include "kdlib/model/decoder.hpp"

#include "kdlib/checkpoint/load_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/load_stored_inl.hpp"
#endif

#endif
