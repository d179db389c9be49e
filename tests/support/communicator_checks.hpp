// SPDX-License-Identifier: Apache-2.0
// What every communicator must bring its ranks.
#ifndef KDLIB_TESTS_SUPPORT_COMMUNICATOR_CHECKS_HPP
#define KDLIB_TESTS_SUPPORT_COMMUNICATOR_CHECKS_HPP

#include <span>
#include <vector>

#include "kdlib/core/communicator.hpp"

namespace kdlib_tests {

inline std::span<const std::byte> bytes_of(const std::vector<int>& values) { return std::as_bytes(std::span(values)); }
inline std::span<std::byte> room_of(std::vector<int>& values) { return std::as_writable_bytes(std::span(values)); }

/// Runs the operations of the concept and counts what is not as it should be.
inline int wrong_blocks(kdlib::AnyCommunicator c) {
  const int n = c.size(), r = c.rank();
  int wrong = 0;
  std::vector<int> out, in;
  for (int i = 0; i < n; ++i) out.push_back(100 * r + i);
  in.resize(out.size());
  c.exchange(bytes_of(out), room_of(in));
  for (int i = 0; i < n; ++i) wrong += in[static_cast<std::size_t>(i)] != 100 * i + r;
  c.gather_all(bytes_of({r + 7}), room_of(in));
  for (int i = 0; i < n; ++i) wrong += in[static_cast<std::size_t>(i)] != i + 7;
  std::vector<int> word{r};
  c.broadcast(room_of(word), n - 1);
  wrong += word[0] != n - 1;
  c.barrier();
  return wrong;
}

}  // namespace kdlib_tests

#endif
