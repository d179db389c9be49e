// SPDX-License-Identifier: Apache-2.0
// kdlib::functions: the functions without template parameters of remote teachers, all but the transport.
#include "kdlib/teacher/remote_answers_inl.hpp"
#include "kdlib/teacher/remote_at_inl.hpp"
#include "kdlib/teacher/remote_cache_inl.hpp"
#include "kdlib/teacher/remote_calls_inl.hpp"
#include "kdlib/teacher/remote_client_inl.hpp"
#include "kdlib/teacher/remote_probes_inl.hpp"
#include "kdlib/teacher/remote_settings_inl.hpp"
