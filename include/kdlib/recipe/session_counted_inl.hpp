// SPDX-License-Identifier: Apache-2.0
// Bodies of recipe/session.hpp: a plan whose memory is counted by running the first steps on a device that does
// nothing.
#ifndef KDLIB_RECIPE_SESSION_COUNTED_INL_HPP
#define KDLIB_RECIPE_SESSION_COUNTED_INL_HPP

#include "kdlib/recipe/session.hpp"

KDLIB_NAMESPACE_BEGIN

/// The run's own first steps, against the live teacher and without files.
template <class D, class T>
void Session<D, T>::train_counted(std::int64_t steps) {
  if constexpr (CountsMemory<D>) {
    using Teacher = AnyHiddenTeacher<D, T>;
    const RecipeTraining& t = s_.training;
    text_->keep_nothing();
    auto source = text_->source();
    const RunSettings run = step_settings(steps);
    with_loss<typename Teacher::targets_type>(s_.objective.loss.terms, [&](const auto& loss) {
      Trainer trainer{*student_, source, Objective{Teacher{LiveTeacher<Model>{*teacher_}}, loss},
                      AdamW{.beta1 = t.beta1, .beta2 = t.beta2, .weight_decay = t.weight_decay}, ConstantRate{1e-6}};
      return trainer.run(run, NoMetrics{}, NoCheckpoints{}, stages_.front().selection);
    });
  }
}

template <class D, class T>
RecipePlan Session<D, T>::plan_counted() {
  if constexpr (CountsMemory<D>) {
    CountedSteps counted;
    counted.steps = std::min<std::int64_t>(3, s_.training.steps);
    require<Error>(!std::exchange(ran_, true), "[Session] run() was called before: make another session");
    require_taught();
    counts_ = true;
    {
      typename Memory<D>::DryRun dry;
      load();
      counted.loaded = dry.counted();
      train_counted(counted.steps);
      counted.trained = dry.counted();
    }
    PlanMachine machine;
    try {
      Memory<D>::require_ready();
      machine = measured_machine<D, T>(teacher_->config());
    } catch (const BackendError& error) {
      machine.name = concat("a ", D::name, " device");
      machine.basis = concat("no rates, no device to measure: ", error.what());
      detail::set_scalar_type<D, T>(machine);
    }
    RecipePlan plan = plan_on(machine, true);
    plan.counted = counted;
    return plan;
  } else {
    fail<BackendError>("[Session] ", D::name, " is no device that counts memory");
  }
}

KDLIB_NAMESPACE_END

#endif
