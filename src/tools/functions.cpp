// SPDX-License-Identifier: Apache-2.0
// The functions without template parameters of kdlib/tools/, for the programs and their tests.
// Its axes are dot_plot_inl.hpp's, too.
#include "kdlib/tools/report_html_inl.hpp"

#include "kdlib/tools/cache_command_inl.hpp"
#include "kdlib/tools/choice_tasks_inl.hpp"
#include "kdlib/tools/distil_options_inl.hpp"
#include "kdlib/tools/distil_report_inl.hpp"
#include "kdlib/tools/distillkit_file_inl.hpp"
#include "kdlib/tools/dot_plot_inl.hpp"
#include "kdlib/tools/evaluation_table_inl.hpp"
#include "kdlib/tools/known_configs_inl.hpp"
#include "kdlib/tools/model_folders_inl.hpp"
#include "kdlib/tools/options_inl.hpp"
#include "kdlib/tools/output_lock_inl.hpp"
#include "kdlib/tools/progress_inl.hpp"
#include "kdlib/tools/stages_file_inl.hpp"
#include "kdlib/tools/sweep_plan_inl.hpp"
#include "kdlib/tools/sweep_runs_inl.hpp"
#include "kdlib/tools/sweep_table_inl.hpp"
#include "kdlib/tools/task_text_inl.hpp"
