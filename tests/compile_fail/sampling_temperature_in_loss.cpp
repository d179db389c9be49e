// SPDX-License-Identifier: Apache-2.0
// The sampler's temperature handed to a loss, which has its own (C12).
// expect: SampleTemperature
#include "kdlib/loss/forward_kl.hpp"
#include "kdlib/rollout/sampler.hpp"

const kdlib::Sampler sampler{.temperature = 0.7};
#if defined(KDLIB_CORRECTED)
const kdlib::ForwardKl loss{.temperature = static_cast<float>(sampler.temperature.value())};
#else
const kdlib::ForwardKl loss{.temperature = sampler.temperature};
#endif
