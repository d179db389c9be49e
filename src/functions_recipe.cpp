// SPDX-License-Identifier: Apache-2.0
// kdlib::functions: the functions without template parameters of recipe/.
#include "kdlib/recipe/inputs_inl.hpp"
#include "kdlib/recipe/loss_expression_inl.hpp"
#include "kdlib/recipe/machines_inl.hpp"
#include "kdlib/recipe/model_cost_inl.hpp"
#include "kdlib/recipe/model_files_inl.hpp"
#include "kdlib/recipe/result_inl.hpp"
#include "kdlib/recipe/run_folder_inl.hpp"
#include "kdlib/recipe/run_outputs_inl.hpp"
#include "kdlib/recipe/run_place_inl.hpp"
#include "kdlib/recipe/stages_inl.hpp"
