// Makes a failing seed smaller: fewer classes of faults, less time.
#pragma once

#include <cstdint>
#include <string>

#include "sim/world.h"

namespace datom::sim {

// Which sort of failure a text tells of: the same for texts that differ in numbers only.
std::string kind_of(const std::string& failure);

// Switches off one class of faults after the other and shortens the faulty time, as long as the
// seed fails in the same way; prints what is left and the command that runs it. Gives the exit
// code: 1 if it fails, 0 if it does not.
int shrink(std::uint64_t seed, Options options);

// The command that runs a seed with these options.
std::string command_of(std::uint64_t seed, const Options& options);

}  // namespace datom::sim
