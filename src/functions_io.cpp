// SPDX-License-Identifier: Apache-2.0
// kdlib::functions: the functions without template parameters of core/ and io/.
#include "kdlib/core/parallel_inl.hpp"
#include "kdlib/io/atomic_file_inl.hpp"
#include "kdlib/io/content_hash_inl.hpp"
#include "kdlib/io/json_inl.hpp"
#include "kdlib/io/json_writer_inl.hpp"
#include "kdlib/io/jsonl_inl.hpp"
#include "kdlib/io/mapped_file_inl.hpp"
#include "kdlib/io/paths_inl.hpp"
#include "kdlib/io/utf8_inl.hpp"
