// SPDX-License-Identifier: Apache-2.0
// Two ranks of an MPI job in a project of its own: each learns what the other one has.
#include <cstdio>
#include <kdlib/mpi.hpp>

namespace kd = kdlib;

int main() {
  bool right = false;
  {
    kd::MpiCommunicator world = kd::MpiCommunicator::world(60);
    const int mine = 10 + world.rank();
    int all[2] = {0, 0};
    if (world.size() == 2) world.gather_all(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
    right = all[0] == 10 && all[1] == 11;
    if (world.rank() == 0) std::printf("%d ranks hold %d and %d\n", world.size(), all[0], all[1]);
  }
  kd::MpiCommunicator::finish();
  return right ? 0 : 1;
}
