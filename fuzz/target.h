// What a fuzz target gives to main.cc.
#pragma once

#include <map>
#include <string>

#include "common/bytes.h"

namespace datom::fuzz {

// One input. That something is wrong with it is no failure; our own mistakes abort.
void run(ByteView input);

// Inputs to begin with, by name: kept in fuzz/corpus/TARGET.
std::map<std::string, std::string> seeds();

}  // namespace datom::fuzz
