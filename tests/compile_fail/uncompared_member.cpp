// SPDX-License-Identifier: Apache-2.0
// A loss with a member whose value a checkpoint cannot compare.
// expect: kdlib: a checkpoint cannot compare a member of this type
// expect: give the member's type visit_fields(self, f), see kdlib/core/fields.hpp; or give the loss, optimizer or
// expect: describe(), which returns a SettingsList
// expect: member_can_be_compared<WeightedLoss, Table>
#include "kdlib/loss/losses.hpp"
#include "kdlib/train/described_parts_inl.hpp"

class Table {
 public:
  explicit Table(float weight = 1) : weight_(weight) {}
#if defined(KDLIB_CORRECTED)
  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(kdlib::FieldInfo{"weight", "", "> 0", "factor of the loss"}, self.weight_);
  }
#endif
  float weight() const { return weight_; }

 private:
  float weight_;
};

struct WeightedLoss {
  Table table{};

  kdlib::Dual at_label(const kdlib::LabelPoint& point) const {
    return static_cast<double>(table.weight()) * -point.log_prob;
  }
};

void describe(kdlib::SettingsList& list) { kdlib::detail::append_loss(list, "loss", WeightedLoss{}); }
