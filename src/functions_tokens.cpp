// SPDX-License-Identifier: Apache-2.0
// kdlib::functions: the functions without template parameters of token files.
#include "kdlib/data/confidence_inl.hpp"
#include "kdlib/data/curriculum_inl.hpp"
#include "kdlib/data/indexed_dataset_inl.hpp"
#include "kdlib/data/reasoning_rows_inl.hpp"
#include "kdlib/data/rescore_inl.hpp"
#include "kdlib/data/rescored_mix_inl.hpp"
#include "kdlib/data/token_files_inl.hpp"
#include "kdlib/data/token_run_inl.hpp"
#include "kdlib/data/token_shards_inl.hpp"
#include "kdlib/io/blake2b_inl.hpp"
#include "kdlib/io/indexed_file_inl.hpp"
#include "kdlib/rollout/plan_buffer_inl.hpp"
