// What clients saw, and whether one block behaving like a register can have shown it to them.
//
// Every write of a block bears a number of its own, so a read names its write and the check is
// nearly linear: Gibbons and Korach, "Testing shared memories", SIAM J. Comput. 26 (1997), zones.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace datom::sim {

using Moment = std::chrono::nanoseconds;
using Value = std::uint64_t;  // 0: never written

class History {
 public:
  using Handle = std::size_t;

  // A write of `value` to `block` was asked for. Unless it ends, its outcome is unknown.
  Handle write_begins(std::uint64_t block, Value value, Moment now);
  void write_ends(Handle write, Moment now);
  // The write's outcome is unknown; but if it takes effect at all, it does so before `by`.
  void takes_effect_by(Handle write, Moment by);
  // A read that was asked for at `begin` showed `value`.
  void read(std::uint64_t block, Value value, Moment begin, Moment end);

  std::size_t writes() const { return writes_.size(); }
  std::size_t acknowledged() const { return acknowledged_; }
  std::size_t reads() const { return reads_.size(); }

  // nullopt: every block is linearizable. Else what cannot be.
  std::optional<std::string> violation() const;
  // Every operation on the block, a line each, by time of beginning: for people.
  std::string of_block(std::uint64_t block) const;

 private:
  struct Write {
    std::uint64_t block;
    Value value;
    Moment begin;
    std::optional<Moment> end;
    std::optional<Moment> by;
  };
  struct Read {
    std::uint64_t block;
    Value value;
    Moment begin;
    Moment end;
  };

  std::vector<Write> writes_;
  std::vector<Read> reads_;
  std::size_t acknowledged_ = 0;
};

}  // namespace datom::sim
