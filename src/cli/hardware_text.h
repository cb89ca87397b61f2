// Hardware as message and as text. Included in .cc files only: it needs protobuf.
#pragma once

#include <string>

#include "cli/table.h"
#include "protocol/config.pb.h"
#include "protocol/records.h"

namespace datom::cli {

protocol::Hardware hardware_message(const protocol::HardwareRecord& hardware);

// For people.
void add_hardware(Facts& facts, const protocol::Hardware& hardware);

}  // namespace datom::cli
