// SPDX-License-Identifier: Apache-2.0
// kdlib::functions: the functions without template parameters of chat templates.
#include "kdlib/text/chat_template.hpp"
#include "kdlib/text/jinja_run.hpp"

// Later files use helpers of earlier ones.
// clang-format off
#include "kdlib/text/chat_message_inl.hpp"
#include "kdlib/text/jinja_types_inl.hpp"
#include "kdlib/text/jinja_text_inl.hpp"
#include "kdlib/text/jinja_value_inl.hpp"
#include "kdlib/text/jinja_print_inl.hpp"
#include "kdlib/text/jinja_operators_inl.hpp"
#include "kdlib/text/jinja_expressions_inl.hpp"
#include "kdlib/text/jinja_methods_inl.hpp"
#include "kdlib/text/jinja_filters_inl.hpp"
#include "kdlib/text/jinja_tests_inl.hpp"
#include "kdlib/text/jinja_calls_inl.hpp"
#include "kdlib/text/jinja_statements_inl.hpp"
#include "kdlib/text/jinja_inl.hpp"
#include "kdlib/text/chat_jinja_inl.hpp"
#include "kdlib/text/chat_learned_inl.hpp"
#include "kdlib/text/harmony_inl.hpp"
#include "kdlib/text/chat_template_inl.hpp"
#include "kdlib/text/tool_calls_inl.hpp"
#include "kdlib/rollout/tool_host_inl.hpp"
#include "kdlib/rollout/tool_turns_inl.hpp"
// clang-format on
