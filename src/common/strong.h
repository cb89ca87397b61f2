// Integers that cannot be mistaken for each other: a Term is no Op.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace datom {

template <typename Tag, typename Integer = std::uint64_t>
class Strong {
 public:
  constexpr Strong() = default;
  constexpr explicit Strong(Integer value) : value_(value) {}

  constexpr Integer value() const { return value_; }
  constexpr auto operator<=>(const Strong&) const = default;

  constexpr Strong next() const { return Strong(value_ + 1); }
  // REQUIRES: value() > 0.
  constexpr Strong previous() const { return Strong(value_ - 1); }

 private:
  Integer value_ = 0;
};

// Number of a leadership. 0: before the first.
using Term = Strong<struct TermTag>;
// Position in a group's history; the first op is 1, 0 is "nothing yet".
using Op = Strong<struct OpTag>;

}  // namespace datom

template <typename Tag, typename Integer>
struct std::hash<datom::Strong<Tag, Integer>> {
  std::size_t operator()(const datom::Strong<Tag, Integer>& id) const {
    return std::hash<Integer>()(id.value());
  }
};
