// SPDX-License-Identifier: Apache-2.0
// A separate error for settings, so that a program can end with another status than for a failure while it works.
#ifndef KDLIB_CORE_SETTINGS_ERROR_HPP
#define KDLIB_CORE_SETTINGS_ERROR_HPP

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// Settings cannot be used: a value is out of its range, or settings contradict each other or do not fit the folder of
/// the run. No work has been done yet. Programs end with the status of bad usage (tools/report.hpp).
class SettingsError : public ConfigError {
 public:
  using ConfigError::ConfigError;
};

/// Returns check(). A ConfigError that check() throws becomes a SettingsError with the same message.
template <class F>
decltype(auto) checking_settings(F&& check) {
  try {
    return check();
  } catch (const SettingsError&) {
    throw;
  } catch (const ConfigError& error) {
    throw SettingsError(error.what());
  }
}

KDLIB_NAMESPACE_END

#endif
