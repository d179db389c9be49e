// SPDX-License-Identifier: Apache-2.0
// A loss of one's own in a .cpp runs on the emulated device, as it runs on a real one in a .cu.
#include "cuda/own_loss_test.cu"
