#pragma once

#include <hwy/targets.h>

#include <cstdint>

#include "catch.hpp"
#include "kernels.hpp"

namespace decoder::test {

/// Calls check() once with every instruction set that this machine has.
template <class Check>
void for_each_instruction_set(const Check& check) {
  const std::int64_t all = hwy::SupportedTargets();
  for (std::int64_t rest = all; rest != 0; rest &= rest - 1) {
    hwy::SetSupportedTargetsForTest(rest & -rest);
    INFO("instruction set " << hwy::TargetName(rest & -rest));
    check();
  }
  hwy::SetSupportedTargetsForTest(0);
}

}  // namespace decoder::test
